"""SQL that reads: one SELECT over chosen tables, with nothing else in reach and an end in sight.

The query runs in DuckDB, in a process of its own that holds no secret, over views of Lance tables: no file, no network,
no extension and no setting can be reached from SQL, and the process ends when its time or its memory does.

Owns what a query may be. Knows no agent. Source of the settings: DuckDB's documentation, "Securing DuckDB".
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.core.errors import BackendError, BudgetExceeded, ConfigError, MissingDependency
from bessemer.core.nouns import Noun

_CHILD = Path(__file__).with_name("querying_child.py")
_START_SECONDS = 20.0
"""Until a process has loaded its libraries and opened the tables; the query's own time begins after it."""


class Asked(Noun):
    """What a query may read and take.

    Attributes:
        tables: name in SQL -> Lance folder and version.
        rows: that are returned at most.
        seconds: that the query may take.
        memory_bytes: that DuckDB may take.
    """

    tables: dict[str, tuple[str, int]]
    rows: int = 100
    seconds: float = 2.0
    memory_bytes: int = 1 << 28


class Found(Noun):
    """Rows of an answer; `more` says that there were others."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool = False


def query(sql: str, asked: Asked) -> Found:
    """Return what one SELECT gives.

    Raises:
        ConfigError: it is no single SELECT, or a wrong one; the message is the database's.
        BudgetExceeded: it took too long, or too much memory.
        MissingDependency: DuckDB is not installed.
        BackendError: the process failed.
    """
    order = {**asked.model_dump(), "sql": sql}
    command = [sys.executable, "-P", str(_CHILD)]
    with tempfile.TemporaryDirectory(prefix="bessemer-query-") as folder:
        try:
            done = subprocess.run(
                command,
                input=json.dumps(order),
                capture_output=True,
                text=True,
                cwd=folder,
                env={"PATH": "", "HOME": folder, "LANG": "C.UTF-8"},
                timeout=_START_SECONDS + asked.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BudgetExceeded(f"the query took longer than {asked.seconds:g} s", hint="Ask for less.") from error
    try:
        told = json.loads(done.stdout)
    except ValueError as error:
        raise BudgetExceeded("the query took too much memory, or ended its process", hint="Ask for less.") from error
    if "error" in told:
        raise _error(told, asked)
    return Found.model_validate(told)


def describe(tables: Mapping[str, Any]) -> str:
    """Return the tables with their columns, as a model is told of them.

    Args:
        tables: name -> Lance dataset.
    """
    return "; ".join(
        f"{name}({', '.join(f'{field.name} {field.type}' for field in dataset.schema)})"
        for name, dataset in tables.items()
    )


def _error(told: Mapping[str, str], asked: Asked) -> Exception:
    match told["error"]:
        case "time":
            return BudgetExceeded(f"the query took longer than {asked.seconds:g} s", hint="Ask for less.")
        case "memory":
            return BudgetExceeded("the query took too much memory", hint="Ask for less.")
        case "package":
            return MissingDependency("duckdb", extra="agent")
        case "query":
            return ConfigError(told["message"], hint="One SELECT over the named tables is taken.")
        case _:
            return BackendError(told["message"], hint="Try again.")
