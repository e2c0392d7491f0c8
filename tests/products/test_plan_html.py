"""A plan's page shows the planner's own figures, says how each is known, and needs nothing from elsewhere."""

import csv
import re
from collections.abc import Iterator
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bessemer.cli.app import app
from bessemer.products.drawing import HIGH, Dot, Slice, areas, bar, dots, sankey, swings
from bessemer.products.figures import counted, reading, said, scale, watts
from bessemer.products.plan_html import flows, plan_page
from bessemer.products.planning import play
from bessemer.products.sweep_html import sweep_section
from bessemer.twin.plan import plan
from bessemer.twin.power import site_power
from bessemer.twin.simulate import Simulation
from bessemer.twin.site import Site, load_site
from bessemer.twin.sweep import axes, sweep
from bessemer.twin.totals import totals
from bessemer.twin.workload import Serving, Training

TODAY = date(2026, 11, 23)
WORKS = [Training(model="Llama-3.1-70B", tokens=1e12), Serving(model="Llama-3.1-8B")]
VOID = {"meta", "br"}


class Tags(HTMLParser):
    """Keeps what is open, and all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert tags.open == []
    return tags


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site("superpod-h100-127")


@pytest.fixture(scope="module")
def month(site: Site) -> Simulation:
    return play(site, 10, 0)


@pytest.fixture(scope="module", params=WORKS, ids=["training", "serving"])
def drawn(request, site: Site, month: Simulation) -> Iterator[tuple]:
    found = plan(site, request.param, TODAY)
    yield found, plan_page([found], site_power(site), totals(site), month)


def test_it_is_well_formed_and_alone(drawn) -> None:
    _, text = drawn
    tags = read(text)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags.seen}
    assert not {"src", "href", "xlink:href", "onclick", "onload"} & {name for _, given in tags.seen for name in given}
    assert not re.search(r"https?://|url\(|@import", text)
    assert "nan" not in re.findall(r"[a-z]+", " ".join(tags.words).lower())


def test_every_figure_stands_there_with_its_bounds(drawn, site: Site, month: Simulation) -> None:
    found, text = drawn
    words = " ".join(" ".join(read(text).words).split())
    for name, given in found.answer.items():
        for part in reading(name, given):
            assert part in words, name
    for change in found.changes:
        assert change.name in words
        assert f"{change.cost_ratio - 1:+.1%}" in words
    for name, share in found.shares.items():
        assert (name in words) == (share > 0)
        assert f"{share:.1%}" in words
    for swing in found.swings:
        if swing.size:
            assert said(swing.at_low) in words
            assert said(swing.at_high) in words
    for total in totals(site):
        if total.modelled.mid:
            assert " ".join(reading(total.name, total.modelled)[:2]).strip() in words, total.name
        if total.published:
            assert counted(total.published / scale(total.name, total.modelled.mid)[0]) in words
    for cause, hours in month.loss.items():
        assert not hours or cause.replace("_", " ") in words


def test_each_part_says_how_it_is_known(drawn) -> None:
    _, text = drawn
    for head in re.findall(r"<h2>(.*?)</h2>", text):
        assert ("modelled" in head) != ("simulated" in head), head
    assert text.count("simulated</span>") == 1


def test_without_a_simulation_nothing_is_simulated(site: Site) -> None:
    found = plan(site, WORKS[0], TODAY)
    assert "simulated" not in plan_page([found], site_power(site), totals(site), None)


@pytest.mark.parametrize("name", ["superpod-h100-127", "gb200-nvl72", "colossus"])
def test_what_flows_in_flows_out(name: str) -> None:
    power = site_power(load_site(name))
    parts = flows(power)
    assert sum(part.value for part in parts) == pytest.approx(power.facility_watts.mid)
    assert sum(part.value for part in parts if part.through) == pytest.approx(power.it_watts)
    bands = [given for tag, given in read(sankey(parts, "grid", "racks", watts)).seen if given.get("class") == "flow"]
    hub, *rest = [float(band["data-depth"]) for band in bands]
    assert sum(rest) == pytest.approx(HIGH, abs=0.01)
    assert hub == pytest.approx(sum(rest[: sum(part.through for part in parts)]), abs=0.01)
    for part, deep in zip(parts, rest, strict=True):
        assert deep / HIGH == pytest.approx(part.value / power.facility_watts.mid, abs=1e-4)


def test_names_are_escaped(site: Site, month: Simulation) -> None:
    bad = "<script>alert('x')</script>&"
    named = site.model_copy(update={"name": bad, "description": bad, "sources": {bad: bad}})
    text = plan_page([plan(named, WORKS[0], TODAY)], site_power(named), totals(named), month)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 4
    read(text)


def test_shares_fill_the_bar() -> None:
    tags = read(bar([Slice("a & b", 1.0, "red"), Slice("c", 3.0, "blue")], "{:g}".format))
    wide = [float(given["width"]) for tag, given in tags.seen if tag == "rect"]
    assert wide[1] == pytest.approx(3 * wide[0])
    assert sum(wide) == pytest.approx(740)


def test_swings_meet_in_the_middle() -> None:
    tags = read(swings([("x", 8.0, 14.0), ("y", 11.0, 9.0)], 10.0, "{:g}".format))
    bars = [(float(given["x"]), float(given["width"])) for tag, given in tags.seen if tag == "rect"]
    middle = next(float(given["x1"]) for tag, given in tags.seen if tag == "line")
    for x, wide in bars:
        assert x == pytest.approx(middle, abs=0.11) or x + wide == pytest.approx(middle, abs=0.11)
    assert bars[1][1] == pytest.approx(2 * bars[0][1], abs=0.2)


def test_areas_reach_the_whole() -> None:
    text = areas([(Slice("a", 0, "red"), [1.0, 3.0]), (Slice("b", 0, "blue"), [3.0, 1.0])], 2.0, 4.0, "units")
    ys = [[float(pair.split(",")[1]) for pair in points.split()] for points in re.findall(r'points="(.*?)"', text)]
    assert min(ys[1]) == pytest.approx(20.0)
    assert max(ys[0]) == pytest.approx(220.0)
    read(text)


def test_the_command_writes_page_and_time_lines(tmp_path: Path) -> None:
    page, lines = tmp_path / "plan.html", tmp_path / "hours.csv"
    command = ["plan", "--site", "superpod-h100-127", "--model", "Llama-3.1-8B", "--html", str(page)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    read(page.read_text("utf-8"))
    command = ["simulate", "--site", "superpod-h100-127", "--days", "1", "--csv", str(lines)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert len(lines.read_text("utf-8").splitlines()) == 25


def test_a_sweep_s_points_stand_in_plot_and_table() -> None:
    small = load_site("superpod-h100-127")
    job = Training(model="Llama-3.1-70B", tokens=1e9)
    varied = axes(["nodes=1,4,8"], small, job)
    points = sweep(small, job, varied, TODAY)
    tags = read(sweep_section(varied, points))
    circles = [given for tag, given in tags.seen if tag == "circle"]
    planned = [point for point in points if point.plan]
    assert len(circles) == len(planned) == 2
    words = " ".join(tags.words)
    assert points[0].reason in words and "nodes 8" in words and words.count("cheapest") == 2


def test_dots_lie_where_their_values_say() -> None:
    tags = read(dots([Dot("a", 1.0, 4.0), Dot("b", 2.0, 2.0, True)], "x", "y", "{:g}".format))
    (a, b) = [(float(g["cx"]) - 56, 260 - float(g["cy"])) for tag, g in tags.seen if tag == "circle"]
    assert b[0] == pytest.approx(2 * a[0], abs=0.2)
    assert a[1] == pytest.approx(2 * b[1], abs=0.2)


FACTORY = """name: two
sources:
  - {kind: folder, path: documents}
plan:
  work:
    - {kind: training, method: finetune, model: Llama-3.1-8B, tokens: 1.0e+9, accelerators: 64}
    - {kind: serving, model: Llama-3.1-70B, precision: fp8}
"""


def test_all_work_of_a_factory_is_on_the_page_and_in_one_table(tmp_path: Path) -> None:
    factory, page, lines = tmp_path / "factory.yaml", tmp_path / "plan.html", tmp_path / "plan.csv"
    factory.write_text(FACTORY, "utf-8")
    command = [
        "plan",
        "--site",
        "superpod-h100-127",
        "--factory",
        str(factory),
        "--html",
        str(page),
        "--csv",
        str(lines),
    ]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    words = " ".join(read(page.read_text("utf-8")).words)
    assert "Training Llama-3.1-8B" in words and "Serving Llama-3.1-70B" in words
    assert words.count("Where the power goes") == words.count("The site in numbers") == 1
    assert words.count("The answer") == words.count("The limit") == 2
    rows = list(csv.DictReader(lines.read_text("utf-8").splitlines()))
    assert [(row["work"], row["kind"], row["model"]) for row in rows] == [
        ("1", "training", "Llama-3.1-8B"),
        ("2", "serving", "Llama-3.1-70B"),
    ]
    assert float(rows[0]["days"]) > 0 and not rows[0]["joules_per_token"]
    assert float(rows[1]["joules_per_token"]) > 0 and not rows[1]["days"]


def test_nothing_is_written_when_one_name_cannot_be(tmp_path: Path) -> None:
    good = tmp_path / "plan.csv"
    command = ["plan", "--site", "dgx-h100", "--model", "Llama-3.1-8B", "--csv", str(good), "--html", "plan.pdf"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 1 and not good.exists()
