"""The README's table of errors: goals, left-out errors, misses."""

from __future__ import annotations

import re
from pathlib import Path

from bessemer.twin.catalogue import number, table
from bessemer.twin.evidence import Row
from bessemer.twin.interval import Interval
from bessemer.twin.validate_table import HEAD, as_markdown, is_met

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_rows_given_stand_beside_the_left_out_errors_and_the_goal() -> None:
    said = as_markdown(
        [Row("tpot agg", "a", 10.0, Interval(11.0, 9, 12)), Row("tpot disagg", "b", 10.0, Interval(13.0, 9, 14))]
    )
    line = next(each for each in said.splitlines() if each.startswith("| time per output token | model "))
    assert line.endswith("| 20.0 / 20.0 % |")
    assert "25 / 15 %" in line


def test_every_miss_is_explained_and_nothing_else_is() -> None:
    assert {line["prediction"] for line in table("validation") if is_met(line) is False and not line["miss"]} == set()
    assert {line["prediction"] for line in table("validation") if is_met(line) and line["miss"]} == set()


def test_a_goal_is_missed_when_either_error_is_above_it() -> None:
    line = {"goal_mean": "25", "goal_median": "15", "mean": "24.0", "median": "15.1"}
    assert is_met(line) is False
    assert is_met(line | {"median": "15.0"}) is True
    assert is_met(line | {"goal_mean": "", "goal_median": ""}) is None


def test_the_readme_shows_the_catalogues_table() -> None:
    found = re.search(r"<!-- validation:start -->\n(.*?)<!-- validation:end -->", README.read_text("utf-8"), re.DOTALL)
    assert found is not None
    shown, expected = found[1].strip().splitlines(), as_markdown([]).strip().splitlines()
    assert shown[0] == HEAD

    def without_rows(line: str) -> str:
        return line.rsplit("|", 2)[0] if line.startswith("|") else line

    assert [without_rows(line) for line in shown] == [without_rows(line) for line in expected]
    width = HEAD.count("|")
    assert all(line.count("|") == width for line in shown if line.startswith("|"))
    assert all(number(line, "mean") is not None for line in table("validation"))
