from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bessemer.cli.app import app

BOOKS = """
[[books]]
version = "one"
default = {input = 1_000_000, output = 2_000_000}
[[books]]
version = "two"
in_force_from = 2026-07-01
default.input = 1_000_000
default.output = 3_000_000
default.cached = 5_000_000
customers.acme.default = {input = 7, output = 8}
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "price.toml").write_text(BOOKS)
    return str(tmp_path / "price.toml")


def asked(*words: str) -> object:
    done = CliRunner().invoke(app, ["prices", *words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_show_tells_the_version_of_a_day(path: str) -> None:
    early, late = asked("show", path, "--at", "2026-06-30"), asked("show", path, "--at", "2026-07-01")
    assert isinstance(early, dict) and isinstance(late, dict)
    assert (early["version"], len(early["prices"])) == ("one", 1)
    assert late["version"] == "two"
    assert [line["output"] for line in late["prices"]] == [3_000_000, 8]
    assert [line["cached"] for line in late["prices"]] == [5_000_000, 7], "cached input goes with fresh input"
    assert "acme" in CliRunner().invoke(app, ["prices", "show", path, "--at", "2026-07-01"]).stdout


def test_show_tells_what_is_charged_where_something_is_left_out(path: str) -> None:
    more = "default.batch = {input = 9}\ndefault.training = 11\nmodels.big = {output = 12, training = 13}\n"
    Path(path).write_text(BOOKS + more)
    told = asked("show", path, "--at", "2026-07-01")
    assert isinstance(told, dict)
    kinds = ("project", "model", "kind", "input", "output", "training")
    assert [tuple(line[kind] for kind in kinds) for line in told["prices"]] == [
        ("", "", "standard", 1_000_000, 3_000_000, 11),
        ("", "", "batch", 9, 3_000_000, None),
        ("", "big", "standard", 0, 12, 13),
        ("acme", "", "standard", 7, 8, 11),
        ("acme", "", "batch", 9, 8, None),
        ("acme", "big", "standard", 7, 8, 13),
    ]
    warnings = asked("check", path)["warnings"]  # type: ignore[index]
    assert "two: acme, default, batch: dearer than the standard price" in warnings
    assert "training" in CliRunner().invoke(app, ["prices", "show", path]).stdout


def test_history_names_what_changed(path: str) -> None:
    first, second = asked("history", path)  # type: ignore[misc]
    assert first["changed"] == [] and second["in_force_from"] == "2026-07-01"
    assert {"default.output", "default.cached", "customers.acme.default.input"} <= set(second["changed"])
    assert "default.input" not in second["changed"]
    assert "default.output" in CliRunner().invoke(app, ["prices", "history", path]).stdout


def test_check_warns_of_what_is_seldom_meant_and_refuses_what_is_wrong(path: str) -> None:
    found = asked("check", path)
    assert found == {
        "versions": 2,
        "warnings": ["two: all projects, default, standard: cached input costs more than fresh input"],
    }
    Path(path).write_text(BOOKS.replace("output", "outptu"))
    assert CliRunner().invoke(app, ["prices", "check", path]).exit_code != 0
