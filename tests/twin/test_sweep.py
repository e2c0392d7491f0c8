"""A sweep plans every point as the planner would, drops none, and says what it does not know."""

from __future__ import annotations

import csv
import io
import json
import runpy
import sys
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bessemer.cli.app import app
from bessemer.core.errors import ConfigError, NotFound
from bessemer.twin.answer import with_part
from bessemer.twin.plan import plan
from bessemer.twin.site import Site, load_site
from bessemer.twin.sweep import as_csv, axes, best, sweep
from bessemer.twin.workload import Serving, Training

TODAY = date(2026, 11, 23)
JOB = Training(model="Llama-3.1-8B", tokens=1e9)


@pytest.fixture
def small() -> Site:
    return load_site("dgx-h100")


def test_a_point_is_the_plan_that_one_would_ask_for(small: Site) -> None:
    given = axes(["electricity_price=0.05,0.4", "precision=bf16,fp8"], small, JOB)
    points = sweep(small, JOB, given, TODAY)
    assert [point.values for point in points] == [("0.05", "bf16"), ("0.05", "fp8"), ("0.4", "bf16"), ("0.4", "fp8")]
    dear = plan(with_part(small, "power", usd_per_kwh=0.4), JOB.model_copy(update={"precision": "fp8"}), TODAY)
    assert points[3].plan is not None
    assert points[3].plan.answer == dear.answer
    found = best(points)
    assert found is not None and found.values == ("0.05", "fp8")


def test_what_cannot_be_stays_with_its_reason() -> None:
    small = load_site("superpod-h100-127")
    job = Training(model="Llama-3.1-70B", tokens=1e9)
    points = sweep(small, job, axes(["nodes=1,4"], small, job), TODAY)
    assert points[0].plan is None and "fit" in points[0].reason and any(map(str.isdigit, points[0].reason))
    assert points[1].plan is not None
    assert best(points) is points[1]
    rows = list(csv.DictReader(io.StringIO(as_csv([(job, axes(["nodes=1,4"], small, job), points)]))))
    assert [(row["nodes"], row["is_best"], bool(row["reason"])) for row in rows] == [
        ("1", "0", True),
        ("4", "1", False),
    ]
    assert float(rows[1]["cost_usd"]) == pytest.approx(points[1].plan.answer["cost_usd"].mid, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("nodez=1", "nodes"),
        ("power.usd_per_kw=1", "power.usd_per_kwh"),
        ("demand=1", "There are|Did you mean"),
        ("nodes", "NAME=VALUE"),
        ("nodes=0", "declaration"),
        ("precision=fp7", "declaration"),
    ],
)
def test_bad_names_and_values_say_what_would_do(small: Site, given: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        axes([given], small, JOB)
    assert any(word in caught.value.hint for word in told.split("|"))


def test_unknown_parts_double_names_and_endless_grids_are_refused(small: Site) -> None:
    with pytest.raises(NotFound, match="H101"):
        axes(["accelerator=H101"], small, JOB)
    with pytest.raises(ConfigError, match="twice"):
        axes(["nodes=1", "nodes.count=2"], small, JOB)
    with pytest.raises(ConfigError, match="points"):
        axes([f"nodes={','.join(map(str, range(1, 300)))}"], small, JOB)


def test_tensor_parallelism_is_kept_as_asked() -> None:
    site = load_site("superpod-h100-127")
    job = Training(model="Llama-3.1-70B", accelerators=64)
    points = sweep(site, job, axes(["tensor_parallel=2,8"], site, job), TODAY)
    assert [point.plan.layout.tensor for point in points if point.plan and point.plan.layout] == [2, 8]


def test_more_demand_takes_no_fewer_replicas(small: Site) -> None:
    work = Serving(model="Llama-3.1-8B")
    points = sweep(small, work, axes(["demand=1,20,1e9"], small, work), TODAY)
    replicas = [point.plan.answer["replicas"].mid for point in points if point.plan]
    assert len(replicas) == 2 and replicas == sorted(replicas)
    assert "requests a second" in points[2].reason


def test_the_command_shows_writes_and_draws_all_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESSEMER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    page, rows = tmp_path / "plan.html", tmp_path / "points.csv"
    command = ["plan", "--site", "superpod-h100-127", "--model", "Llama-3.1-8B", "--sweep", "nodes=8,16"]
    shown = CliRunner().invoke(app, [*command, "--html", str(page), "--csv", str(rows)])
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
    assert shown.output.count("*") == 2
    text = page.read_text("utf-8")
    assert text.count("<circle") == 2 and "nodes 16" in text
    assert len(rows.read_text("utf-8").splitlines()) == 3
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert [point["is_best"] for point in told[0]["points"]].count(True) == 1
    wrong = CliRunner().invoke(app, [*command, "--csv", str(tmp_path / "points.txt")])
    assert wrong.exit_code != 0


@pytest.mark.parametrize(("question", "words"), [("sweep", ["--rows", "16384"]), ("planner", ["--json"])])
def test_benchmarks_keep_their_results(
    question: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / f"bench_{question}.py"))
    monkeypatch.setitem(bench["main"].__globals__, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    bench["main"]()
    (line,) = (tmp_path / "results" / f"{question}.jsonl").read_text("utf-8").splitlines()
    kept = json.loads(line)
    assert kept["question"] == question and kept["hardware"] and kept["versions"]["numpy"]
