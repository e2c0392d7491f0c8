"""`bessemer compare` fits a terminal of 80 columns and gives JSON and CSV that others can read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bessemer.cli import verbs_compare
from bessemer.cli.app import app
from bessemer.core.errors import ConfigError


def call(*words: str) -> str:
    done = CliRunner().invoke(app, ["compare", *words], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("more", [[], ["--model", "Llama-3.1-70B"], ["--model", "Llama-3.1-8B", "--tokens", "1e11"]])
def test_the_table_fits_and_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    monkeypatch.setattr("bessemer.cli.output.out.width", 80, raising=False)
    said = call("superpod-h100-127", "--years", "3", *more)
    assert max(len(line) for line in said.splitlines()) <= 80
    assert "…" not in said
    (owned,) = [line for line in said.splitlines() if "superpod-h100-127, owned" in line]
    assert len(owned.split()) >= 5
    assert said.count("without a date") == 1


def test_json_is_strict_and_the_file_has_the_same_ways(tmp_path: Path) -> None:
    file = tmp_path / "ways.csv"
    said = call("dgx-h100", "--model", "Llama-3.1-8B", "--csv", str(file), "--json")

    def never(word: str) -> float:
        raise AssertionError(f"{word} is no JSON")

    (found,) = json.loads(said, parse_constant=never)
    assert (found["unit"], found["provenance"]) == ("million tokens", "estimated")
    with file.open(encoding="utf-8") as lines:
        assert [row["name"] for row in csv.DictReader(lines)] == [each["name"] for each in found["offered"]]


def test_the_file_holds_every_comparison_under_one_head(tmp_path: Path) -> None:
    file = tmp_path / "ways.csv"
    found = json.loads(call("dgx-h100", "gb200-nvl72", "--csv", str(file), "--json"))
    rows = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    assert [(row["comparison"], row["site"], row["name"]) for row in rows] == [
        (str(place), each["site"], way["name"]) for place, each in enumerate(found, 1) for way in each["offered"]
    ]


def test_numbers_are_short() -> None:
    assert [verbs_compare._short(each) for each in (0.5, 9.99, 1.2e9)] == ["0.50", "9.99", "1.20 G"]


def test_several_sites_are_each_compared_and_clouds_always_are() -> None:
    found = json.loads(call("dgx-h100", "gb200-nvl72", "clouds", "--json"))
    assert [each["site"] for each in found] == ["dgx-h100", "gb200-nvl72"]
    assert all(len({way["term"] for way in each["offered"]}) > 1 for each in found)
    refused = CliRunner().invoke(app, ["compare", "clouds"])
    assert refused.exit_code != 0
    assert isinstance(refused.exception, ConfigError) or "no site is named" in refused.output
