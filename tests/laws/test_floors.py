"""Who may import whom, and which outside packages each room may know."""

from __future__ import annotations

import ast
import logging
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest
from importlinter import cli

OUTSIDE = {
    "core": set(),
    "flow": {"psycopg"},
    "models": {"torch", "transformers", "tokenizers", "huggingface_hub", "safetensors", "gguf", "numpy"},
    "lake": {"pyarrow", "lance", "selectolax", "docutils", "yaml", "duckdb", "numpy"},
    "train": {"torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "scipy"},
    "evals": {"numpy", "sklearn", "threadpoolctl"},
    "infer": {
        "openvino", "openvino_genai", "openvino_tokenizers", "nncf", "httpx2",
        "torch", "transformers", "tokenizers", "safetensors", "gguf", "numpy",
        "usearch", "mcp", "httpx",
    },
    "serve": {
        "psycopg", "starlette", "httptools", "uvloop", "msgspec", "prometheus_client", "opentelemetry", "httpx2",
    },
    "meter": {"psutil", "pynvml", "psycopg", "msgspec"},
    "twin": {"numpy"},
    "products": {"yaml", "httpx2", "psutil"},
    "cli": {"typer", "click", "rich", "httpx2"},
}  # fmt: skip
"""The design's table: room -> packages that it may import besides pydantic and the standard library."""

CORE_MUST_NOT_KNOW = {"os", "io", "time", "socket", "subprocess", "sqlite3", "shutil", "tempfile", "random", "logging"}


@pytest.fixture(scope="session")
def graph():
    return grimp.build_graph("bessemer", include_external_packages=True, exclude_type_checking_imports=True)


@pytest.fixture
def loggers_stay() -> Iterator[None]:
    """Undo what import-linter does to all loggers that exist: it disables them."""
    yield
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).disabled = False


def test_the_contracts_of_import_linter_are_kept(root, capsys, loggers_stay) -> None:
    assert cli.lint_imports(config_filename=str(root / "pyproject.toml"), no_cache=True) == 0, capsys.readouterr().out


def test_the_contracts_cover_every_room(root, sources) -> None:
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = " ".join(next(c["layers"] for c in contracts if c["type"] == "layers"))
    rooms = {source.room for source in sources} - {""}
    assert {room for room in rooms if f"bessemer.{room}" not in floors} == set()
    assert rooms == set(OUTSIDE)


def test_no_ring(graph) -> None:
    own = {module for module in graph.modules if module.startswith("bessemer")}
    needs = {module: graph.find_modules_directly_imported_by(module) & own for module in own}
    try:
        tuple(TopologicalSorter(needs).static_order())
    except CycleError as error:
        pytest.fail("a ring of imports: " + " <- ".join(error.args[1]))


def test_each_room_knows_only_its_own_outside_packages(graph, keeps) -> None:
    free = set(sys.stdlib_module_names) | {"bessemer", "pydantic", "pydantic_core"}
    breaches = {}
    for module in graph.modules:
        parts = module.split(".")
        if parts[0] == "bessemer" and len(parts) > 1:
            imported = {name.split(".")[0] for name in graph.find_modules_directly_imported_by(module)}
            unknown = imported - free - OUTSIDE[parts[1]]
            if unknown:
                breaches[module] = f"imports {', '.join(sorted(unknown))}"
    keeps("outside_packages", breaches)


def test_core_knows_no_file_no_network_and_no_clock(sources, keeps) -> None:
    breaches = {}
    for source in sources:
        if source.room != "core":
            continue
        for node in ast.walk(source.tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if known := {name.split(".")[0] for name in names} & CORE_MUST_NOT_KNOW:
                breaches[source.module] = f"imports {', '.join(sorted(known))}"
    keeps("core_is_pure", breaches)
