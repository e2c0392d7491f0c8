"""What no room does, and what no file is called."""

from __future__ import annotations

import ast
import csv
import tomllib
from typing import Any

import pytest

NO_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "stuff"}
LITERAL_ENTRIES = 60
STREAMS = {"sys.stdout", "sys.stderr", "sys.stdin"}


def test_no_module_is_named_after_nothing(sources) -> None:
    assert [source.module for source in sources if NO_NAMES & set(source.module.split("."))] == []


def test_the_environment_is_read_in_cli_only(sources, keeps) -> None:
    breaches = {}
    for source in sources:
        if source.room == "cli":
            continue
        for node in ast.walk(source.tree):
            read = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb", "putenv")
            taken = (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and {"environ", "getenv"} & {alias.name for alias in node.names}
            )
            if read or taken:
                breaches[source.module] = f"line {node.lineno}"
    keeps("environment", breaches)


def test_rooms_never_print(sources, keeps) -> None:
    breaches = {}
    for source in sources:
        if source.room == "cli":
            continue
        for node in ast.walk(source.tree):
            called = isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "input")
            if called or (isinstance(node, ast.Attribute) and ast.unparse(node) in STREAMS):
                breaches[source.module] = f"line {node.lineno}"
    keeps("print", breaches)


def test_data_stands_in_catalogues_not_in_python(sources, keeps) -> None:
    breaches = {}
    for source in sources:
        for node in ast.walk(source.tree):
            entries = len(node.keys) if isinstance(node, ast.Dict) else len(getattr(node, "elts", ()))
            if entries > LITERAL_ENTRIES:
                breaches[source.module] = f"{entries} entries in line {node.lineno}"
    keeps("tables_in_python", breaches)


def unsourced(table: dict[str, Any], name: str) -> list[str]:
    """Return the tables of a TOML file that neither have a source nor stand in one that has."""
    if "source" in table or "sources" in table:  # `sources` names each value by its path; the room tests that it does
        return []
    below = {key: value for key, value in table.items() if isinstance(value, dict)}
    below |= {
        f"{key}[{at}]": item
        for key, value in table.items()
        if isinstance(value, list)
        for at, item in enumerate(value)
        if isinstance(item, dict)
    }
    return [bad for key, value in below.items() for bad in unsourced(value, f"{name}.{key}")] if below else [name]


def test_every_catalogue_says_where_its_numbers_come_from(root) -> None:
    package = root / "src" / "bessemer"
    bad = [name for path in package.rglob("*.toml") for name in unsourced(tomllib.loads(path.read_text()), path.name)]
    for path in package.rglob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            lines = (line for line in file if not line.startswith("#"))
            bad += [f"{path.name}: {row}" for row in csv.DictReader(lines) if not row.get("source")]
    assert bad == []


@pytest.fixture
def doors(sources) -> dict[str, ast.Module]:
    """Each room with its front door."""
    return {s.room: s.tree for s in sources if s.module.count(".") == 1 and s.path.name == "__init__.py"}


def test_every_room_says_what_it_is(doors) -> None:
    assert [room for room, tree in doors.items() if len((ast.get_docstring(tree) or "").split()) < 8] == []


def test_every_room_has_tests(doors, root) -> None:
    assert [room for room in doors if not any((root / "tests" / room).glob("test_*.py"))] == []
