"""A database of the gateway: a SQLite file (WAL, private to its owner) or tables in Postgres, the same SQL on both.

One connection reads and another one writes, so that a check in the event loop never waits for a thread's commit.

Owns connections, transactions, errors and the dialect (`?` marks a parameter). Knows no table.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bessemer.core.errors import BackendError, ConfigError, IntegrityError, MissingDependency
from bessemer.core.postgres import UNHURRIED, connected, made_in_postgres

Execute = Callable[..., list[tuple[Any, ...]]]
"""Takes SQL and its values, within a transaction or without one (`Database.read`)."""
PREFIX = "gateway_"
"""Of tables in a Postgres, where they stand beside those of others."""
_TRIES = 100
_MAKING = 5_482_113
"""Postgres's advisory lock under which tables are made; any number that nobody else uses."""
_WRITING = 5_482_115
"""The same, with a store's own number, for whoever writes alone."""


class Connection:
    """One connection, opened when it is first used; threads take turns.

    Args:
        open_one: opens it.
        said: turns a statement into the dialect's words.
        takes_zeros: whether a text may have zeros there.
    """

    def __init__(self, open_one: Callable[[], Any], said: Callable[[str], str], takes_zeros: bool = True) -> None:
        self.open, self._translate, self._takes_zeros = open_one, said, takes_zeros
        self._said: dict[str, str] = {}
        self._raw: Any = None
        self.lock = threading.Lock()

    def __call__(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows that one statement gives; looking for a text that cannot be kept finds none.

        Raises:
            ConfigError: such a text is to be kept.
        """
        if not self._takes(values):
            if sql.lstrip().startswith(("SELECT", "DELETE")):
                return []
            raise _unsound()
        cursor = self._raw.execute(self._words(sql), values)
        return cursor.fetchall() if cursor.description else []

    def first(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute what nothing was written before: on a new connection, if the server closed this one; as a call."""
        self.revive()
        try:
            return self(sql, *values)
        except Exception:
            if not self._is_closed():
                raise
        self.revive()
        return self(sql, *values)

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute one statement with each of several rows of values; raises as a call."""
        if not all(map(self._takes, rows)):
            raise _unsound()
        if rows:
            self._raw.cursor().executemany(self._words(sql), rows)

    def revive(self) -> None:
        """Open the connection, if it was not yet or the server closed it."""
        if self._raw is None or self._is_closed():
            self._raw = self.open()

    def rollback(self) -> None:
        """Undo the transaction that is open, if there is one."""
        if not self._is_closed():
            self._raw.rollback()

    def close(self) -> None:
        """Close the connection."""
        if self._raw is not None:
            self._raw.close()

    def _is_closed(self) -> bool:
        return bool(getattr(self._raw, "closed", False))  # SQLite's have no server that closes them

    def _takes(self, values: Sequence[Any]) -> bool:
        return all(is_sound(value, self._takes_zeros) for value in values if isinstance(value, str))

    def _words(self, sql: str) -> str:
        if sql not in self._said:
            self._said[sql] = self._translate(sql)
        return self._said[sql]


class Database:
    """Two connections; for several threads and processes at once.

    Args:
        where: path of a file, made if missing, for its owner only; or ``sqlite:///path``, or ``postgresql://...``.
        schema: statements that make the tables if they are missing, in SQLite's words.
        what: is kept there, for error messages.
        prefix: of the tables' and indexes' names in Postgres, which the statements leave out.
        alone: whether whoever writes is alone in Postgres, as with SQLite: what comes later has a higher number then,
            and none waits for another in a ring.
        zeros: whether SQLite keeps texts with zeros, which Postgres never does.

    Raises:
        ConfigError: the URL is of another kind, or the file cannot be made or read.
        IntegrityError: the file is no database.
        BackendError: the server cannot be reached.
        MissingDependency: psycopg is not installed.
    """

    def __init__(
        self, where: Path | str, schema: Sequence[str], what: str, prefix: str = PREFIX, alone: bool = True,
        zeros: bool = True,
    ) -> None:  # fmt: skip
        found = _found(where)
        self._what, self.is_postgres = what, isinstance(found, str)
        self.url = found if isinstance(found, str) else f"sqlite:///{found}"
        self._where = "Postgres" if self.is_postgres else str(found)
        self._durable: bool | None = None
        self._errors: tuple[type[Exception], ...] = (sqlite3.Error,)
        said: Callable[[str], str] = _as_it_is
        self._begin, open_one = "BEGIN IMMEDIATE", partial(_open, found, what)
        if self.is_postgres:
            self._errors = (_psycopg().Error,)
            said = partial(_postgres_words, names=_names(schema), prefix=prefix)
            held = f"SELECT pg_advisory_xact_lock({_WRITING}, hashtext('{what}'))" if alone else ""
            self._begin = f"BEGIN ISOLATION LEVEL READ COMMITTED; {held}"  # who has waited sees what the others wrote
        self._reader, self._writer = (Connection(open_one, said, zeros and not self.is_postgres) for _ in range(2))
        for side in (self._reader, self._writer):
            weakref.finalize(self, side.close)
        with self.making() as execute:
            if self.is_postgres:  # two that create a table at the same moment would collide
                execute("SELECT pg_advisory_xact_lock(?)", _MAKING)
            for statement in schema:
                execute(made_in_postgres(statement) if self.is_postgres else statement)

    def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows that one statement gives.

        Raises:
            BackendError: the disk, the server or another process is in the way.
            IntegrityError: the file is no database.
        """
        with self._reader.lock, self._translated():
            return self._reader.first(sql, *values)

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[Connection]:
        """Give what executes SQL in a transaction, which is undone if the block raises.

        Args:
            durable: False lets SQLite answer before the disk has it: it outlives this process, not a power loss.

        Raises:
            BackendError: the disk, the server or another process is in the way.
            IntegrityError: the file is no database.
        """
        with self._writer.lock, self._translated():
            self._writer.revive()
            if not self.is_postgres and durable != self._durable:
                self._writer(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            try:
                self._writer.first(self._begin)
                yield self._writer
                self._writer("COMMIT")
            except BaseException:
                self._writer.rollback()
                raise

    @contextmanager
    def making(self) -> Iterator[Connection]:
        """Give the same as `writing`, for what changes tables: over much that is there, it takes what it takes."""
        with self.writing() as execute:
            if self.is_postgres:
                execute(UNHURRIED)
            yield execute

    def overwrite(self) -> None:
        """Leave nothing of what was deleted in SQLite's log of writes; Postgres has ways of its own."""
        if not self.is_postgres:
            with self._writer.lock, self._translated():
                self._writer("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connections."""
        for side in (self._reader, self._writer):
            with side.lock:
                side.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                raise IntegrityError(
                    f"{self._where} is no sound database of {self._what}: {error}",
                    hint="Restore it from a copy, or move it away.",
                ) from error
            raise BackendError(
                f"the {self._what} in {self._where} cannot be used: {error}",
                hint="Check that the database is there, writable and not full.",
            ) from error


def use_wal(connection: sqlite3.Connection) -> None:
    """Turn write-ahead logging on: readers then never wait for a writer.

    The first to do it needs the file to itself, and SQLite does not wait for that as it does for other locks: processes
    that open a new database together would fail each other. Here each waits, as long as its connection's timeout.

    Raises:
        sqlite3.OperationalError: the disk refuses, or somebody keeps the file for longer.
    """
    for rest in reversed(range(_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not rest:
                raise
        connection.execute("BEGIN EXCLUSIVE")  # waits for everybody
        connection.execute("ROLLBACK")


def _found(where: Path | str) -> Path | str:
    """Return the path of a file, or a server's URL."""
    if isinstance(where, Path):
        return where.absolute()
    kind, _, rest = where.partition("://")
    if kind in ("postgresql", "postgres"):
        return where
    if kind != "sqlite" or not rest.startswith("/") or len(rest) < 2:
        raise ConfigError(f"no database has the URL '{where}'", hint="Use sqlite:///path or postgresql://...")
    return Path(rest[1:])


def _open(where: Path | str, what: str) -> Any:
    if isinstance(where, str):
        return connected(_psycopg(), where)
    return _open_file(where, what)


def _open_file(path: Path, what: str) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.chmod(0o600)  # SQLite gives its side files the same mode
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.OperationalError) as error:
        raise ConfigError(
            f"the {what} in {path} cannot be opened: {error}", hint="Check the folder and its permissions."
        ) from error
    try:
        use_wal(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _psycopg() -> Any:
    try:
        import psycopg
    except ModuleNotFoundError as error:
        raise MissingDependency("psycopg", extra="postgres") from error
    return psycopg


def _unsound() -> ConfigError:
    return ConfigError("a text has a character that the database does not take", hint="Leave out zeros and surrogates.")


def is_sound(text: str, takes_zeros: bool = False) -> bool:
    """Whether a text can be kept in either database, or in one that takes zeros."""
    try:
        text.encode()  # a surrogate has no bytes; to look at each character takes forty times as long
    except UnicodeEncodeError:
        return False
    return takes_zeros or "\x00" not in text


def _names(schema: Sequence[str]) -> re.Pattern[str]:
    """Return what finds the names of a schema's tables and indexes."""
    made = (re.search(r"CREATE (?:UNIQUE )?(?:TABLE|INDEX) IF NOT EXISTS (\w+)", statement) for statement in schema)
    return re.compile(rf"\b({'|'.join(found[1] for found in made if found)})\b")


def _as_it_is(sql: str) -> str:
    return sql


def _postgres_words(sql: str, names: re.Pattern[str], prefix: str) -> str:
    """Return a statement as psycopg takes it.

    >>> _postgres_words("SELECT a FROM lines WHERE b LIKE 'x%' AND c = ?", re.compile(r"\\b(lines)\\b"), "gateway_")
    "SELECT a FROM gateway_lines WHERE b LIKE 'x%%' AND c = %s"
    """
    sql = names.sub(rf"{prefix}\1", sql) if prefix else sql
    return sql.replace("%", "%%").replace("?", "%s")
