"""Records of projects in one SQLite database: what stands on the wire, as JSON, and whose it is.

A record is found by its project alone, so that no project can be shown another's. Owns the table and its transactions;
knows not what a record says.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from bessemer.core.errors import NotFound
from bessemer.serve.accounts.pages import Page
from bessemer.serve.database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, project TEXT NOT NULL,
    parent TEXT NOT NULL DEFAULT '', tag TEXT NOT NULL DEFAULT '', bytes INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL, factory TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS records_of_project ON records (kind, project, parent, sequence);
CREATE INDEX IF NOT EXISTS records_by_tag ON records (kind, tag);
CREATE TABLE IF NOT EXISTS lines (
    batch TEXT NOT NULL, number INTEGER NOT NULL, custom_id TEXT NOT NULL, start INTEGER NOT NULL,
    bytes INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', attempt INTEGER NOT NULL DEFAULT 0,
    staged TEXT, result TEXT, PRIMARY KEY (batch, number)
) STRICT;
CREATE INDEX IF NOT EXISTS lines_by_state ON lines (batch, state, number);
PRAGMA secure_delete = ON;
"""


class Record(BaseModel):
    """What every record has; the rest is the wire's."""

    id: str


T = TypeVar("T", bound=Record)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records a page has: after the one of that id, so many, of one parent, with one tag; empty is any.

    Attributes:
        metadata: pairs that a record's must have; None wants those without metadata.
    """

    after: str = ""
    limit: int = 20
    newest_first: bool = True
    parent: str = ""
    tag: str = ""
    metadata: tuple[tuple[str, str], ...] | None = ()


class Records:
    """All records; for several threads and processes at once.

    Args:
        path: of the database; made if missing, readable by its owner only.
        factory: whose gateway takes in what is added here.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
    """

    def __init__(self, path: Path, factory: str = "") -> None:
        self._database, self._factory = Database(path, _SCHEMA, "jobs"), factory
        self.close = self._database.close
        with self.writing() as connection:
            if not connection.execute("SELECT 1 FROM pragma_table_info('records') WHERE name = 'factory'").fetchone():
                connection.execute("ALTER TABLE records ADD COLUMN factory TEXT NOT NULL DEFAULT ''")
            if factory:  # what was kept before that was noted is whose gateway begins first
                connection.execute("UPDATE records SET factory = ? WHERE factory = ''", (factory,))

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a transaction; `add`, `put` and `drop` within it take its connection."""
        with self._database.writing() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for statements that stand alone."""
        with self._database.reading() as connection:
            yield connection

    def add(
        self, on: sqlite3.Connection, kind: str, project: str, record: Record, *, parent: str = "", tag: str = ""
    ) -> None:
        """Insert a record."""
        size, body = getattr(record, "bytes", 0), record.model_dump_json()
        on.execute(
            "INSERT INTO records (id, kind, project, parent, tag, bytes, body, factory)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (record.id, kind, project, parent, tag, size, body, self._factory),
        )

    def put(self, on: sqlite3.Connection, record: Record, tag: str = "") -> None:
        """Write a record in the place of the one with its id."""
        on.execute("UPDATE records SET body = ?, tag = ? WHERE id = ?", (record.model_dump_json(), tag, record.id))

    def drop(self, on: sqlite3.Connection, id: str) -> None:
        """Delete a record and all whose parent it is."""
        on.execute("DELETE FROM records WHERE id = ? OR parent = ?", (id, id))

    def find(self, on: sqlite3.Connection, kind: str, project: str, id: str, model: type[T]) -> T:
        """Return a record of a project within a transaction.

        Raises:
            NotFound: the project has none of that kind and id.
        """
        row = on.execute(
            "SELECT body FROM records WHERE kind = ? AND project = ? AND id = ?", (kind, project, id)
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no {kind} of that id", hint="List what there is.")
        return model.model_validate_json(row[0])

    def get(self, kind: str, project: str, id: str, model: type[T]) -> T:
        """Return a record of a project; raises as `find`."""
        with self.reading() as connection:
            return self.find(connection, kind, project, id, model)

    def change(self, kind: str, project: str, id: str, model: type[T], to: Callable[[T], tuple[T, str]]) -> T:
        """Change a record in one transaction and return it: `to` gives the new one and its tag; raises as `find`."""
        with self.writing() as connection:
            record, tag = to(self.find(connection, kind, project, id, model))
            self.put(connection, record, tag)
        return record

    def page(self, kind: str, project: str, model: type[T], wanted: Wanted) -> Page[T]:
        """Return a page.

        Raises:
            NotFound: `wanted.after` is no such record of this project.
        """
        order, edge = ("DESC", "<") if wanted.newest_first else ("ASC", ">")
        pairs = wanted.metadata or ()
        said = " AND EXISTS (SELECT 1 FROM json_each(body, '$.metadata') WHERE key = ? AND value = ?)" * len(pairs)
        if wanted.metadata is None:
            said = " AND json_extract(body, '$.metadata') IS NULL"
        with self.reading() as connection:
            start = 2**62 if wanted.newest_first else 0
            if wanted.after:
                self.find(connection, kind, project, wanted.after, model)
                start = connection.execute("SELECT sequence FROM records WHERE id = ?", (wanted.after,)).fetchone()[0]
            rows = connection.execute(
                "SELECT body FROM records WHERE kind = ? AND project = ? AND (? = '' OR parent = ?)"
                f" AND (? = '' OR tag = ?) AND sequence {edge} ?{said} ORDER BY sequence {order} LIMIT ?",
                (kind, project, *[wanted.parent] * 2, *[wanted.tag] * 2, start, *chain(*pairs), wanted.limit + 1),
            ).fetchall()
        return Page.of([model.model_validate_json(body) for (body,) in rows], wanted.limit)

    def tagged(self, kind: str, tags: tuple[str, ...], model: type[T], *, own: bool = False) -> list[tuple[str, T]]:
        """Return the records of all projects with one of some tags, oldest first, each with its project.

        With `own`, only those that this factory's gateways took in.
        """
        marks, whose = ", ".join("?" * len(tags)), " AND factory = ?" if own else ""
        with self.reading() as connection:
            rows = connection.execute(
                f"SELECT project, body FROM records WHERE kind = ? AND tag IN ({marks}){whose} ORDER BY sequence",
                (kind, *tags, *([self._factory] if own else ())),
            ).fetchall()
        return [(project, model.model_validate_json(body)) for project, body in rows]

    def held_bytes(self, on: sqlite3.Connection, project: str) -> int:
        """Return the bytes of all files and parts of a project."""
        row = on.execute("SELECT sum(bytes) FROM records WHERE project = ?", (project,)).fetchone()
        return int(row[0] or 0)

    def ids(self, kind: str) -> set[str]:
        """Return the ids of all records of a kind."""
        with self.reading() as connection:
            return {id for (id,) in connection.execute("SELECT id FROM records WHERE kind = ?", (kind,))}


def new_id(prefix: str) -> str:
    """Return a new id, such as ``file-…``."""
    return f"{prefix}{secrets.token_hex(12)}"


def as_json(value: object) -> str:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
