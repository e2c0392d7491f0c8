"""The database of accounts: SQLite (WAL, private to its owner) or Postgres, the same SQL on both.

One connection reads and another one writes, so that a check in the event loop never waits for a thread's commit.
Whatever an administrator changes moves `version`, by which every process knows that what it remembers is old: at once,
because it hears a bell (`bells`), and should it not hear it, within `changes.STALE_SECONDS`.

Owns connections, transactions, errors and the dialect (`?` marks a parameter). Knows no table but `changes`.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bessemer.core.errors import BackendError, ConfigError, IntegrityError, MissingDependency
from bessemer.serve.accounts.bells import NOTIFY, FileBell, Listener
from bessemer.serve.accounts.changes import Changes
from bessemer.serve.database import use_wal

Execute = Callable[..., list[tuple[Any, ...]]]

_CHANGES = (
    "CREATE TABLE IF NOT EXISTS changes (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)",
    "INSERT INTO changes (id, version) VALUES (1, 0) ON CONFLICT DO NOTHING",
)
_MAKING = 5_482_113
"""Postgres's advisory lock under which tables are made; any number that nobody else uses."""


class _Connection:
    """One connection; threads take turns."""

    def __init__(self, open_one: Callable[[], Any], is_postgres: bool) -> None:
        self._open, self._is_postgres = open_one, is_postgres
        self.lock = threading.Lock()
        self.raw = open_one()

    def execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        if not all(_is_sound(value) for value in values if isinstance(value, str)):
            raise ConfigError("a text has a character that no database takes", hint="Leave out zeros and surrogates.")
        cursor = self.raw.execute(sql.replace("?", "%s") if self._is_postgres else sql, values)
        return cursor.fetchall() if cursor.description else []

    def revive(self) -> None:
        """Open it again if the server closed it."""
        if self._is_postgres and self.raw.closed:
            self.raw = self._open()


class Database:
    """Two connections to the accounts; for several threads and processes at once.

    Args:
        url: ``sqlite:///path`` or ``postgresql://...``; a file is made if missing, readable by its owner only.
        schema: statements that make the tables if they are missing, in SQLite's words.
        clock: any seconds; only differences are used.

    Attributes:
        version: returns a number that moves with every change of whatever process.

    Raises:
        ConfigError: the URL is of another kind, or the file cannot be made or read.
        IntegrityError: the file is no database.
        BackendError: the server cannot be reached.
        MissingDependency: psycopg is not installed.
    """

    def __init__(self, url: str, schema: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        kind, _, rest = url.partition("://")
        self.is_postgres = kind in ("postgresql", "postgres")
        if not self.is_postgres and (kind != "sqlite" or not rest.startswith("/") or len(rest) < 2):
            raise ConfigError(f"no database has the URL '{url}'", hint="Use sqlite:///path or postgresql://...")
        self.url, self.clock = url, clock
        self.lock_rows = " FOR UPDATE" if self.is_postgres else ""  # in SQLite a writing transaction is alone anyway
        self._where = "Postgres" if self.is_postgres else rest[1:]
        self._errors: tuple[type[Exception], ...] = (sqlite3.Error,)
        self._durable: bool | None = None
        self._listener: Listener | None = None
        self._bell = None if self.is_postgres else _make_private(Path(rest[1:]))
        self._changes = Changes(self._read_version, self._bell, clock)
        self.version = self._changes.version
        with self._translated():
            self._reader = _Connection(self._open, self.is_postgres)
            self._writer = _Connection(self._open, self.is_postgres)
        for side in (self._reader, self._writer):
            weakref.finalize(self, side.raw.close)
        with self.writing() as execute:
            if self.is_postgres:  # two that create a table at the same moment would collide
                execute("SELECT pg_advisory_xact_lock(?)", _MAKING)
            for statement in (*_CHANGES, *schema):
                execute(_for_postgres(statement) if self.is_postgres else statement)

    def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows that one statement gives.

        Raises:
            BackendError: the disk, the server or another process is in the way.
            IntegrityError: the file is no database.
        """
        with self._reader.lock, self._translated():
            self._reader.revive()
            return self._reader.execute(sql, *values)

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[Execute]:
        """Give a function that executes SQL in a transaction, which is undone if the block raises.

        Args:
            durable: False lets SQLite answer before the disk has it: it outlives this process, not a power loss.
        """
        with self._writer.lock, self._translated():
            self._writer.revive()
            if not self.is_postgres and durable != self._durable:
                self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._writer.execute("BEGIN" if self.is_postgres else "BEGIN IMMEDIATE")
            try:
                yield self._writer.execute
                self._writer.execute("COMMIT")
            except BaseException:
                if not self.is_postgres or not self._writer.raw.closed:
                    self._writer.raw.rollback()
                raise

    @contextmanager
    def changing(self) -> Iterator[Execute]:
        """Give the same as `writing`, for what an administrator changes: it moves the version."""
        with self.writing() as execute:
            yield execute
            execute("UPDATE changes SET version = version + 1")
            if self.is_postgres:
                execute(NOTIFY)
        self._changes.heard()
        if self._bell:
            self._bell.ring()

    def close(self) -> None:
        """Close the connections."""
        listener, self._listener = self._listener, None
        if listener:
            listener.close()
        for side in (self._reader, self._writer):
            with side.lock:
                side.raw.close()

    def _read_version(self) -> int:
        if self.is_postgres and self._listener is None:
            self._listener = Listener(self._open, self._changes.heard)
        [(version,)] = self.read("SELECT version FROM changes")
        return int(version)

    def _open(self) -> Any:
        if not self.is_postgres:
            path = self.url.removeprefix("sqlite:///")
            connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            use_wal(connection)
            return connection
        try:
            import psycopg
        except ModuleNotFoundError as error:
            raise MissingDependency("psycopg", extra="postgres") from error
        self._errors = (psycopg.Error,)
        return psycopg.connect(self.url, autocommit=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                raise IntegrityError(
                    f"{self._where} is no sound database of keys and accounts: {error}",
                    hint="Restore it from a copy, or move it away.",
                ) from error
            raise BackendError(
                f"the keys and accounts in {self._where} cannot be used: {error}",
                hint="Check that the database is there, writable and not full.",
            ) from error


def _is_sound(text: str) -> bool:
    """Whether a text can be kept, or asked for, in either database."""
    return "\x00" not in text and (text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text))


def _make_private(path: Path) -> FileBell:
    """Make a file if it is missing, for its owner only; return the bell beside it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.chmod(0o600)  # SQLite gives its side files the same mode
        return FileBell(path.with_name(f"{path.name}-bell"))
    except OSError as error:
        raise ConfigError(
            f"the keys and accounts in {path} cannot be opened: {error}", hint="Check the folder and its permissions."
        ) from error


def _for_postgres(statement: str) -> str:
    """Return a statement of the schema as Postgres writes it.

    >>> _for_postgres("CREATE TABLE a (n INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, digest BLOB) STRICT")
    'CREATE TABLE a (n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at DOUBLE PRECISION, digest BYTEA)'
    """
    for ours, theirs in (
        (r"INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
        (r"\bINTEGER\b", "BIGINT"),
        (r"\bREAL\b", "DOUBLE PRECISION"),
        (r"\bBLOB\b", "BYTEA"),
        (r"\) STRICT$", ")"),
    ):
        statement = re.sub(ours, theirs, statement.strip())
    return statement
