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
    assert line.endswith("| 2 of 2 | 20.0 / 20.0 % | +20.0 % | 100 % |")
    assert "25 / 15 %" in line


def test_what_is_not_answered_and_what_lies_out_of_its_bounds_is_counted() -> None:
    family = "interruptions, system left out"
    measured = [Row(family, "a", 10.0, Interval(8.0, 7, 9)), Row(family, "b", 10.0, Interval(9.0, 8, 11))]
    said = as_markdown([*measured, Row(family, "c", 1.0, reason="no"), Row("another", "d", 1.0, reason="no")])
    lines = said.splitlines()
    assert next(each for each in lines if each.startswith("| interruptions |")).endswith(
        "| 2 of 3 | 15.0 / 15.0 % | -15.0 % | 50 % |"
    )
    assert lines[lines.index("") - 1] == "| another | – | – | – | – |  | 0 of 1 | – | – | – |"


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
        return line.rsplit("|", 5)[0] if line.startswith("|") else line

    known = [line for line in shown if not re.match(r"\| [^|]+ \| – \|", line)]
    assert [without_rows(line) for line in known] == [without_rows(line) for line in expected]
    width = HEAD.count("|")
    assert all(line.count("|") == width for line in shown if line.startswith("|"))
    assert all(number(line, "mean") is not None for line in table("validation"))
