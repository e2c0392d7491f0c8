"""Small worlds in which an agent acts: a database and a folder, made anew for each attempt, looked at afterwards.

Owns a world's life and the comparison of its end with what was wanted. Knows no agent and no tool.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Annotated

from pydantic import Field

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Noun

Value = str | int | float | None
Rows = tuple[dict[str, Value], ...]
_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"


class State(Noun):
    """What a world holds.

    Attributes:
        tables: name -> rows, all of a table with the same columns.
        files: relative path -> text.
    """

    tables: dict[Annotated[str, Field(pattern=_NAME)], Rows] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)


class World:
    """A database and a folder in a given state; a context manager. Its methods may be called from any thread.

    Args:
        state: what it holds at first.

    Attributes:
        folder: of its files.

    Raises:
        ConfigError: rows of a table differ in their columns, or a file would lie outside.
    """

    def __init__(self, state: State) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bessemer-world-")
        self.folder = Path(self._folder.name)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._make(state)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def execute(self, sql: str, *values: Value) -> list[dict[str, Value]]:
        """Return the rows that one statement gives, with `?` for each value."""
        with self._lock:
            cursor = self._database.execute(sql, values)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def state(self) -> State:
        """Return what it holds now."""
        names = [row["name"] for row in self.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return State(
            tables={str(name): tuple(self.execute(f'SELECT * FROM "{name}"')) for name in names},
            files={str(path.relative_to(self.folder)): path.read_text("utf-8", "replace") for path in paths},
        )

    def _make(self, state: State) -> None:
        for name, rows in state.tables.items():
            self._fill(name, rows)
        for name, text in state.files.items():
            path = (self.folder / name).resolve()
            if not path.is_relative_to(self.folder.resolve()):
                raise ConfigError(f"the file '{name}' lies outside its world", hint="Name it relative to the world.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def _fill(self, name: str, rows: Rows) -> None:
        columns = list(rows[0]) if rows else []
        if not columns or any(list(row) != columns for row in rows):
            raise ConfigError(
                f"the rows of '{name}' differ in their columns, or there are none", hint="Write all of them."
            )
        quoted = ", ".join(f'"{column}"' for column in columns)
        self._database.execute(f'CREATE TABLE "{name}" ({quoted})')
        marks = ", ".join("?" for _ in columns)
        self._database.executemany(f'INSERT INTO "{name}" VALUES ({marks})', [tuple(row.values()) for row in rows])


def differences(wanted: State, found: State) -> list[str]:
    """Return in sentences how a world's end differs from what was wanted; the order of rows says nothing.

    >>> differences(State(files={"a": "x"}), State(files={"a": "y"}))
    ["the file 'a' is not as wanted"]
    """
    told = []
    for name in sorted(set(wanted.tables) | set(found.tables)):
        if _bag(wanted.tables.get(name, ())) != _bag(found.tables.get(name, ())):
            told.append(f"the rows of '{name}' are not as wanted")
    for path in sorted(set(wanted.files) | set(found.files)):
        if wanted.files.get(path) != found.files.get(path):
            told.append(f"the file '{path}' is not as wanted")
    return told


def _bag(rows: Rows) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)
