"""`bessemer simulate` takes a scenario and writes its months as table, JSON, CSV and page."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from typer.testing import CliRunner

from bessemer.cli.app import app
from bessemer.products.months_html import months_page
from bessemer.products.planning import play
from bessemer.twin.scenario import Cut, Scenario, Window
from bessemer.twin.site import load_site

SCENARIO = """
[policy]
order = "fair"
preempt = true
packing = "spread"
[[cuts]]
start_hour = 2
hours = 3
power_ratio = 0.2
[[windows]]
start_hour = 8
hours = 4
servers_ratio = 0.5
"""


def test_jobs_run_on_a_machine_that_is_too_small_for_a_service_beside_them() -> None:
    found = play(load_site("laptop"), 5, 0)
    assert sum(job.started >= 0 for job in found.jobs) > 10
    assert play(load_site("laptop"), 5, 0, Scenario(service_ratio=0.6)).totals.served_requests > 0


def test_a_scenario_shows_in_all_that_is_written(tmp_path: Path) -> None:
    file, lines, page = (tmp_path / name for name in ("months.toml", "lines.csv", "months.html"))
    file.write_text(SCENARIO)
    words = ["simulate", "--site", "gb200-nvl72", "--days", "1", "--scenario", str(file), "--json"]
    done = CliRunner().invoke(app, [*words, "--csv", str(lines), "--html", str(page)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["loss_accelerator_hours"]["throttled"] > 0
    assert found["swing"]["drawn_watts"] > 0
    with lines.open(encoding="utf-8") as rows:
        read = list(csv.DictReader(rows))
    throttled = [number for number, row in enumerate(read) if float(row["throttled"]) > 0]
    assert throttled == [2, 3, 4]
    usual = float(read[1]["maintenance"])
    assert [float(row["maintenance"]) > usual for row in read[7:13]] == [False, True, True, True, True, False]
    told = page.read_text("utf-8")
    for word in ("fair shares", "spread over blocks", "power cut by 20%", "50% of the servers", "throttled", "Swings"):
        assert word in told


def test_a_bad_scenario_gets_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "months.toml"
    file.write_text("[policy]\norder = 'lifo'\n")
    done = CliRunner().invoke(app, ["simulate", "--site", "dgx-h100", "--days", "1", "--scenario", str(file)])
    assert done.exit_code != 0


def test_a_page_says_again_how_often_a_cut_comes() -> None:
    scenario = Scenario(cuts=(Cut(every_days=1), Cut(every_days=7)), windows=(Window(),))
    site = load_site("dgx-h100")
    told = months_page(site, play(site, 1, 0, scenario), scenario)
    assert "every day" in told
    assert "every 7 days" in told
    assert " kW" in told


def test_a_small_site_s_months_are_told_in_small_units() -> None:
    done = CliRunner().invoke(app, ["simulate", "--site", "laptop", "--days", "1"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert re.search(r"[1-9][\d.]* Wh at the meter", words) and re.search(r"[1-9][\d.]* g CO2e of electricity", words)
    assert re.search(r"0\.0\d+ USD of electricity", words) and "0 MWh" not in words
