"""Records of projects in one database: what stands on the wire, as JSON, and whose it is.

A record is found by its project alone, so that no project can be shown another's. Owns the table and its transactions;
knows not what a record says.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from bessemer.core.errors import NotFound
from bessemer.serve.accounts.pages import Page
from bessemer.serve.database import Database, Execute

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS records (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, project TEXT NOT NULL,
        parent TEXT NOT NULL DEFAULT '', tag TEXT NOT NULL DEFAULT '', bytes INTEGER NOT NULL DEFAULT 0,
        body TEXT NOT NULL, factory TEXT NOT NULL DEFAULT '', expires_at REAL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS records_of_project ON records (kind, project, parent, sequence)",
    "CREATE INDEX IF NOT EXISTS records_by_tag ON records (kind, tag)",
    """
    CREATE TABLE IF NOT EXISTS lines (
        batch TEXT NOT NULL, number INTEGER NOT NULL, custom_id TEXT NOT NULL, start INTEGER NOT NULL,
        bytes INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', attempt INTEGER NOT NULL DEFAULT 0,
        staged TEXT, result TEXT, PRIMARY KEY (batch, number)
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS lines_by_state ON lines (batch, state, number)",
    "CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY) STRICT",
    "PRAGMA secure_delete = ON",
)
_NEW_COLUMNS = {"factory": "TEXT NOT NULL DEFAULT ''", "expires_at": "REAL"}
"""Columns that the first files do not have -> what they are."""
_EXPIRY = "json_extract(body, '$.expires_at')"
_NOTE_EXPIRY = f"UPDATE records SET expires_at = {_EXPIRY} WHERE expires_at IS NULL AND {_EXPIRY} IS NOT NULL"
"""Of what an earlier version kept: before the column was there, or since, beside this one while it is upgraded."""
_FILTERED_AT_ONCE = 500


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
        where: path of the database, made if missing, readable by its owner only; or the URL of a Postgres.
        factory: whose gateway takes in what is added here.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
        BackendError: the server cannot be reached.
    """

    def __init__(self, where: Path | str, factory: str = "") -> None:
        self._database, self._whose = Database(where, _SCHEMA, "jobs"), factory
        self.read, self.writing, self.close = self._database.read, self._database.writing, self._database.close
        with self._database.making() as execute:
            if not self._database.is_postgres:
                there = {name for (name,) in execute("SELECT name FROM pragma_table_info('records')")}
                for column in _NEW_COLUMNS.keys() - there:
                    execute(f"ALTER TABLE records ADD COLUMN {column} {_NEW_COLUMNS[column]}")
                execute(_NOTE_EXPIRY)
            if factory:  # what was kept before that was noted is whose gateway begins first
                execute("UPDATE records SET factory = ? WHERE factory = ''", factory)

    def place(self, folder: Path) -> Path:
        """Return where the bytes are of what is added here, within a folder; made if missing.

        In Postgres there are records of several folders, and a folder may have been another database's: each pair has a
        place of its own. Who shares the folder shares the place, and does the work that was left there.
        """
        if not self._database.is_postgres:
            return folder
        with self.writing() as execute:
            known = {name for (name,) in execute("SELECT name FROM places")}
            name = next((each.name for each in folder.glob("place-*") if each.name in known), new_id("place-"))
            (folder / name).mkdir(exist_ok=True, mode=0o700)
            execute("INSERT INTO places (name) VALUES (?) ON CONFLICT DO NOTHING", name)
        self._whose = f"{self._whose} {name}"
        return folder / name

    def add(
        self, execute: Execute, kind: str, project: str, record: Record, *, parent: str = "", tag: str = ""
    ) -> None:
        """Insert a record, within a transaction."""
        size, expires_at = getattr(record, "bytes", 0), getattr(record, "expires_at", None)
        execute(
            "INSERT INTO records (id, kind, project, parent, tag, bytes, body, factory, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            record.id, kind, project, parent, tag, size, record.model_dump_json(), self._whose, expires_at,
        )  # fmt: skip

    def put(self, execute: Execute, record: Record, tag: str = "") -> None:
        """Write a record in the place of the one with its id."""
        execute("UPDATE records SET body = ?, tag = ? WHERE id = ?", record.model_dump_json(), tag, record.id)

    def drop(self, execute: Execute, id: str) -> None:
        """Delete a record and all whose parent it is."""
        execute("DELETE FROM records WHERE id = ? OR parent = ?", id, id)

    def find(self, read: Execute, kind: str, project: str, id: str, model: type[T]) -> T:
        """Return a record of a project, within a transaction or without one (`read`).

        Raises:
            NotFound: the project has none of that kind and id.
        """
        _, body = self._found(read, kind, project, id)
        return model.model_validate_json(body)

    def _found(self, read: Execute, kind: str, project: str, id: str) -> tuple[Any, ...]:
        rows = read("SELECT sequence, body FROM records WHERE kind = ? AND project = ? AND id = ?", kind, project, id)
        if not rows:
            raise NotFound(f"there is no {kind} of that id", hint="List what there is.")
        return rows[0]

    def get(self, kind: str, project: str, id: str, model: type[T]) -> T:
        """Return a record of a project; raises as `find`."""
        return self.find(self.read, kind, project, id, model)

    def change(self, kind: str, project: str, id: str, model: type[T], to: Callable[[T], tuple[T, str]]) -> T:
        """Change a record in one transaction and return it: `to` gives the new one and its tag; raises as `find`."""
        with self.writing() as execute:
            record, tag = to(self.find(execute, kind, project, id, model))
            self.put(execute, record, tag)
        return record

    def page(self, kind: str, project: str, model: type[T], wanted: Wanted) -> Page[T]:
        """Return a page.

        Raises:
            NotFound: `wanted.after` is no such record of this project.
        """
        start = 2**62 if wanted.newest_first else 0
        if wanted.after:
            start, _ = self._found(self.read, kind, project, wanted.after)
        bodies = self._bodies(kind, project, wanted, start)
        found = islice((body for body in bodies if _has(body, wanted.metadata)), wanted.limit + 1)
        return Page.of([model.model_validate_json(body) for body in found], wanted.limit)

    def _bodies(self, kind: str, project: str, wanted: Wanted, start: int) -> Iterator[str]:
        """Yield what is wanted from a number on, whatever its metadata."""
        order, edge = ("DESC", "<") if wanted.newest_first else ("ASC", ">")
        most = wanted.limit + 1 if wanted.metadata == () else _FILTERED_AT_ONCE
        rows: list[tuple[Any, ...]] = [(start, "")]
        while rows:
            rows = self.read(
                "SELECT sequence, body FROM records WHERE kind = ? AND project = ? AND (? = '' OR parent = ?)"
                f" AND (? = '' OR tag = ?) AND sequence {edge} ? ORDER BY sequence {order} LIMIT ?",
                kind, project, *[wanted.parent] * 2, *[wanted.tag] * 2, rows[-1][0], most,
            )  # fmt: skip
            yield from (body for _, body in rows)

    def tagged(self, kind: str, tags: tuple[str, ...], model: type[T], *, own: bool = False) -> list[tuple[str, T]]:
        """Return the records of all projects with one of some tags, oldest first, each with its project.

        With `own`, only those that this factory's gateways took in.
        """
        marks, whose = ", ".join("?" * len(tags)), " AND factory = ?" if own else ""
        rows = self.read(
            f"SELECT project, body FROM records WHERE kind = ? AND tag IN ({marks}){whose} ORDER BY sequence",
            kind, *tags, *([self._whose] if own else ()),
        )  # fmt: skip
        return [(project, model.model_validate_json(body)) for project, body in rows]

    def held_bytes(self, execute: Execute, project: str) -> int:
        """Return the bytes of all files and parts of a project."""
        ((held,),) = execute("SELECT sum(bytes) FROM records WHERE project = ?", project)
        return int(held or 0)

    def ids(self, kind: str) -> set[str]:
        """Return the ids of all records of a kind."""
        return {id for (id,) in self.read("SELECT id FROM records WHERE kind = ?", kind)}


def _has(body: str, metadata: tuple[tuple[str, str], ...] | None) -> bool:
    """Whether a record's metadata have some pairs; for None, whether it has no metadata."""
    if metadata == ():
        return True
    said = json.loads(body).get("metadata")
    return said is None if metadata is None else set(metadata) <= set((said or {}).items())


def new_id(prefix: str) -> str:
    """Return a new id, such as ``file-…``."""
    return f"{prefix}{secrets.token_hex(12)}"


def as_json(value: object) -> str:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
