"""Records of work whose steps nobody knows beforehand: named sequences of JSON values, appended, never changed.

They lie in a database of `flow`, beside the runs of steps that somebody could declare. Two that append the same number
to one name collide, and one of them is told: so what must happen once is written down before it is done.

With each name stands when it was last written, whose it is, and which documents it may quote: by that, records end
with their time, and an erasure finds them.

Owns the tables. Knows not what a record says.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from bessemer.core.digest import canonical_json
from bessemer.core.errors import Conflict
from bessemer.flow.database import Database, Execute
from bessemer.infer.agents.config import RetentionConfig

ANY = "*"
"""Stands for documents that nobody can tell: what quotes it goes with each document that is erased."""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS records (
    name TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (name, number))""",
    "CREATE TABLE IF NOT EXISTS record_names (name TEXT PRIMARY KEY, owner TEXT NOT NULL, written_at REAL NOT NULL)",
    """CREATE TABLE IF NOT EXISTS record_quotes (
    name TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (name, document))""",
    "CREATE TABLE IF NOT EXISTS erased_documents (document TEXT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS erasures (id TEXT PRIMARY KEY)",
)
_SWEEP_SECONDS = 3600.0
_DAY_SECONDS = 86_400.0


class Records:
    """Sequences in one database; any number of processes share it.

    Args:
        database: where the tables are.
        retention: how long records stay, and how many.
        clock: Unix time in seconds.
    """

    def __init__(
        self, database: Database, retention: RetentionConfig | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._retention, self._clock = database, retention or RetentionConfig(), clock
        if not database.is_postgres:
            database.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
        with database.transaction() as execute:
            if database.is_postgres:  # two that create a table at the same moment would collide
                execute("SELECT pg_advisory_xact_lock(7205760)")
            for table in _SCHEMA:
                execute(table)
            self._adopt(execute)
        self._swept_at = float("-inf")
        self._sweep()

    def read(self, name: str, last: int | None = None) -> list[Any]:
        """Return the records of a name in their order; with `last`, no more than so many of the newest."""
        limit = () if last is None else (last,)
        rows = self._database.execute(
            f"SELECT body FROM records WHERE name = ? ORDER BY number DESC{' LIMIT ?' if limit else ''}", name, *limit
        )
        return [json.loads(body) for (body,) in reversed(rows)]

    def quoted(self, name: str) -> frozenset[str]:
        """Return the ids of the documents that the records of a name may quote."""
        rows = self._database.execute("SELECT document FROM record_quotes WHERE name = ?", name)
        return frozenset(document for (document,) in rows)

    def erasures(self) -> int:
        """Return how many times documents were erased: who may quote `ANY` reads it before, see `append`."""
        return int(self._database.execute("SELECT COUNT(*) FROM erasures")[0][0])

    def append(self, name: str, number: int, body: Any, quotes: Iterable[str] = (), since: int | None = None) -> None:
        """Write one record; when this returns it is on disk.

        Args:
            name: of the sequence.
            number: of the record, from 0.
            body: JSON.
            quotes: ids of documents that it may quote, or `ANY`.
            since: what `erasures` said before anything was read that is quoted; `ANY` is not written if documents were
                erased since, whichever they were. None: nothing of them can have been read.

        Raises:
            Conflict: somebody else wrote that number first, or what came before it was erased.
        """
        insert = (
            "INSERT INTO records SELECT ?, ?, ? WHERE ? = 0 OR EXISTS "
            "(SELECT 1 FROM records WHERE name = ? AND number = ?) ON CONFLICT DO NOTHING RETURNING number"
        )
        with self._database.transaction() as execute:
            quoting = self._quote(execute, name, quotes, since)
            if not quoting or not execute(insert, name, number, canonical_json(body), number, name, number - 1):
                raise Conflict(
                    f"'{name}' is being worked on elsewhere, or was erased", hint="Wait for it, or use another name."
                )
        self._sweep()

    def add(
        self,
        name: str,
        *bodies: Any,
        quotes: Iterable[str] = (),
        keep: int | None = None,
        since: int | None = None,
    ) -> None:
        """Write records behind the last one, all or none; with `keep`, no more than so many of the newest stay.

        Nothing is written that quotes a document which was erased meanwhile; `since` is as `append` takes it.
        """
        following = "INSERT INTO records SELECT ?, COALESCE(MAX(number), -1) + 1, ? FROM records WHERE name = ?"
        older = "DELETE FROM records WHERE name = ? AND number <= (SELECT MAX(number) FROM records WHERE name = ?) - ?"
        with self._database.transaction() as execute:
            if not self._quote(execute, name, quotes, since):
                return
            for body in bodies:
                execute(following, name, canonical_json(body), name)
            if keep is not None:
                execute(older, name, name, keep)
        self._sweep()

    def forget(self, *names: str) -> int:
        """Delete the records of names; return how many there were."""
        with self._database.transaction() as execute:
            gone = self._forget(execute, names)
        self._scrub()
        return gone

    def erase(self, documents: Iterable[str]) -> int:
        """Delete all names that may quote one of these documents, and write none again; return how many records."""
        wanted = sorted({*documents})
        with self._database.transaction() as execute:
            if wanted:
                execute("INSERT INTO erasures VALUES (?)", uuid.uuid4().hex)
            for document in wanted:
                execute("INSERT INTO erased_documents VALUES (?) ON CONFLICT DO NOTHING", document)
            names: set[str] = set()
            for document in (*wanted, *([ANY] if wanted else [])):
                names |= {name for (name,) in execute("SELECT name FROM record_quotes WHERE document = ?", document)}
            gone = self._forget(execute, names)
        self._scrub()
        return gone

    def erase_owner(self, owner: str) -> int:
        """Delete all names of an owner, a project's, and return how many records there were."""
        with self._database.transaction() as execute:
            names = [name for (name,) in execute("SELECT name FROM record_names WHERE owner = ?", owner)]
            gone = self._forget(execute, names)
        self._scrub()
        return gone

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _quote(self, execute: Execute, name: str, quotes: Iterable[str], since: int | None) -> bool:
        """Note that a name is written and what it quotes; return whether all of that may still be quoted."""
        again = "ON CONFLICT (name) DO UPDATE SET written_at = excluded.written_at"
        touched = f"INSERT INTO record_names VALUES (?, ?, ?) {again}"
        execute(touched, name, owner_of(name), self._clock())
        for document in quotes:
            if document == ANY and since is not None and execute("SELECT COUNT(*) FROM erasures")[0][0] != since:
                return False
            if execute("SELECT 1 FROM erased_documents WHERE document = ?", document):
                return False
            execute("INSERT INTO record_quotes VALUES (?, ?) ON CONFLICT DO NOTHING", name, document)
        return True

    def _adopt(self, execute: Execute) -> None:
        """Give records of before there was a retention a name that is written now and may quote anything."""
        orphans = "SELECT DISTINCT name FROM records WHERE name NOT IN (SELECT name FROM record_names)"
        for (name,) in execute(orphans):
            execute("INSERT INTO record_names VALUES (?, ?, ?)", name, owner_of(name), self._clock())
            execute("INSERT INTO record_quotes VALUES (?, ?) ON CONFLICT DO NOTHING", name, ANY)

    def _sweep(self) -> None:
        """Forget what is older than it may be, and of each owner the oldest beyond what it may have; once an hour."""
        now, retention = self._clock(), self._retention
        if now - self._swept_at < _SWEEP_SECONDS:
            return
        self._swept_at = now
        beyond = (
            "SELECT name FROM (SELECT name, ROW_NUMBER() OVER (PARTITION BY owner ORDER BY written_at DESC) AS place "
            "FROM record_names) AS placed WHERE place > ?"
        )
        with self._database.transaction() as execute:
            limit = now - retention.keep_days * _DAY_SECONDS
            names = {name for (name,) in execute("SELECT name FROM record_names WHERE written_at < ?", limit)}
            names |= {name for (name,) in execute(beyond, retention.names_per_project)}
            self._forget(execute, names)
        if names:
            self._scrub()

    def _forget(self, execute: Execute, names: Iterable[str]) -> int:
        gone = 0
        for name in names:
            gone += len(execute("DELETE FROM records WHERE name = ? RETURNING number", name))
            execute("DELETE FROM record_names WHERE name = ?", name)
            execute("DELETE FROM record_quotes WHERE name = ?", name)
        return gone

    def _scrub(self) -> None:
        """Empty the log of writes, which has the words, too."""
        if not self._database.is_postgres:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def record_name(kind: str, project: str, agent: str, name: str) -> str:
    """Return the name of records; no two of different projects or agents can be the same, whatever is in a name."""
    return canonical_json([kind, project, agent, name])


def owner_of(name: str) -> str:
    """Return the project whose records have a name; empty if the name tells none.

    >>> owner_of(record_name("run", "shop", "clerk", "r1")), owner_of("r1")
    ('shop', '')
    """
    try:
        _, project, _, _ = json.loads(name)
    except (ValueError, TypeError):
        return ""
    return str(project)


def open_records(url: str, retention: RetentionConfig | None = None, clock: Callable[[], float] = time.time) -> Records:
    """Return the records in a database.

    Args:
        url: ``sqlite:///path`` or ``postgresql://…``.
        retention: how long records stay, and how many.
        clock: Unix time in seconds.

    Raises:
        ConfigError: the URL is of another kind.
        BackendError: the database cannot be reached.
    """
    return Records(Database(url), retention, clock)
