"""Where the ledger's tables are: SQLite (WAL) or Postgres, the same SQL on both but for what `Dialect` names.

Owns connection, transactions, errors and the dialect (`?` marks a parameter). Knows no table.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bessemer.core.errors import BackendError, ConfigError, MissingDependency
from bessemer.core.postgres import UNHURRIED, connected, made_in_postgres

CACHE_BYTES = 64 * 1024 * 1024
_TRIES = 100
_LARGE = 2**62
_WRITING = 5_482_114
"""Postgres's advisory lock of whoever writes: one at a time, as with SQLite, so none waits for another in a ring."""


class Dialect(NamedTuple):
    """What the two write in different words; `second`: whole Unix seconds of ``started_at``."""

    second: str


_SQLITE = Dialect("CAST(started_at AS BIGINT)")
_POSTGRES = Dialect("CAST(TRUNC(started_at) AS BIGINT)")


class LedgerDatabase:
    """One connection; threads take turns.

    Args:
        where: of the file, made if missing, or ``postgresql://...``.

    Raises:
        BackendError: the server cannot be reached.
        ConfigError: a URL is of another kind.
        MissingDependency: psycopg is not installed.
    """

    def __init__(self, where: Path | str) -> None:
        self._where, self._lock = where, threading.RLock()
        self.is_postgres = isinstance(where, str) and where.startswith(("postgresql://", "postgres://"))
        if isinstance(where, str) and not self.is_postgres:
            raise ConfigError("no ledger has that URL", hint="Use postgresql://..., or none for SQLite.")
        self.dialect = _POSTGRES if self.is_postgres else _SQLITE
        self._errors: tuple[type[Exception], ...] = ()
        self._doubled: tuple[type[Exception], ...] = ()
        with self._translated():
            self._connection = self._opened()

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows that one statement gives, alone or in the transaction of this thread."""
        with self._lock, self._translated():
            cursor = self._alive().execute(self._said(sql), values)
            return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert new rows, within a transaction."""
        with self._lock, self._translated():
            self._insert(table, columns, rows)

    def insert_new(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[int]:
        """Insert rows but for those whose key is there already, and return which these are; within a transaction.

        Args:
            table: with a primary key.
            columns: the first is the key.
            rows: of two with one key the first is new.
        """
        with self._lock, self._translated():
            if self.is_postgres:
                return self._copy_new(table, columns, rows)
            marks = ", ".join("?" * len(columns))
            return self._insert_each(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)

    def add_up(self, table: str, key: Sequence[str], sums: Sequence[str], rows: Sequence[Sequence[int]]) -> list[int]:
        """Add rows of whole numbers to those that have the same key, or insert them; within a transaction.

        Args:
            table: whose primary key is `key`.
            key: columns that come first in a row; no two rows have the same.
            sums: the columns after them, which are added.
            rows: numbers of less than 2**62 each.

        Returns:
            Which rows were left out, because a sum would have outgrown its column.
        """
        names = ", ".join((*key, *sums))
        added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in sums)
        conflict = f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {added}"
        with self._lock, self._translated():
            if not self.is_postgres:
                marks = ", ".join("?" * len((*key, *sums)))
                return self._insert_each(f"INSERT INTO {table} ({names}) VALUES ({marks}) {conflict}", rows)
            arrays = [f"{{{','.join(map(str, column))}}}" for column in zip(*rows, strict=True)]
            fits = " AND ".join(f"ABS({table}.{name} + excluded.{name}) < {_LARGE}" for name in sums)
            marks = ", ".join(["?::bigint[]"] * len(arrays))
            sql = f"INSERT INTO {table} ({names}) SELECT * FROM UNNEST({marks}) {conflict} WHERE {fits}"
            done = set(self.query(f"{sql} RETURNING {', '.join(key)}", arrays))
            return [number for number, row in enumerate(rows) if tuple(row[: len(key)]) not in done]

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        names, cursor = ", ".join(columns), self._connection.cursor()
        if not self.is_postgres:
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})", rows)
            return
        with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def _insert_each(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[int]:
        """Return which rows SQLite refused: their key is there, or a sum outgrew its column."""
        refused: list[int] = []
        at, before = 0, self._connection.total_changes
        while at < len(rows):
            try:
                self._connection.executemany(sql, rows[at:] if at else rows)
                break
            except sqlite3.IntegrityError:  # of one row: those before it are in
                at = self._connection.total_changes - before + len(refused)
                refused.append(at)
                at += 1
        return refused

    def _copy_new(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[int]:
        key = columns[0]
        self.query("SAVEPOINT copying")
        there: list[int] = []
        try:
            self._insert(table, columns, rows)
        except self._doubled:  # of one row: none of them is in
            self.query("ROLLBACK TO SAVEPOINT copying")
            asked = [row[0] for row in rows]
            known = {id for (id,) in self.query(f"SELECT {key} FROM {table} WHERE {key} = ANY(?)", (asked,))}
            fresh: list[int] = []
            for number, row in enumerate(rows):
                (there if row[0] in known else fresh).append(number)
                known.add(row[0])
            self._insert(table, columns, [rows[number] for number in fresh])
        self.query("RELEASE SAVEPOINT copying")
        return there

    @contextmanager
    def writing(self, unhurried: bool = False) -> Iterator[None]:
        """Make a transaction of a block, the only one that writes; it is undone if the block raises.

        Args:
            unhurried: whether each statement takes what it takes: no transaction but one that changes tables needs it.
        """
        with self._lock:
            self.query("BEGIN" if self.is_postgres else "BEGIN IMMEDIATE")
            try:
                if self.is_postgres:
                    self.query("SELECT pg_advisory_xact_lock(?)", (_WRITING,))
                    self._slow_down(unhurried)
                yield
                self.query("COMMIT")
            except BaseException:
                if not self.is_postgres or not self._connection.closed:
                    self._connection.rollback()
                raise

    @contextmanager
    def snapshot(self, unhurried: bool = False) -> Iterator[None]:
        """Let all questions of a block see the same entries, whatever others write meanwhile.

        Args:
            unhurried: whether each question takes what it takes, for one that reads all entries.
        """
        with self._lock:
            self.query("BEGIN ISOLATION LEVEL REPEATABLE READ" if self.is_postgres else "BEGIN")
            try:
                self._slow_down(unhurried)
                yield
            finally:
                if not self.is_postgres or not self._connection.closed:
                    self._connection.rollback()

    def make(self, script: str) -> None:
        """Execute the statements of a script in SQLite's words, within a transaction."""
        for statement in re.sub(r"--.*", "", script).split(";"):
            if statement.strip():
                self.query(made_in_postgres(statement, bytewise=True) if self.is_postgres else statement)

    def columns(self, table: str) -> set[str]:
        """Return the columns of a table, or view, where new tables are made; none if there is none."""
        if not self.is_postgres:
            return {name for (name,) in self.query("SELECT name FROM pragma_table_info(?)", (table,))}
        sql = (
            "SELECT attname FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid JOIN pg_namespace"
            " ON relnamespace = pg_namespace.oid WHERE nspname = current_schema() AND relname = ? AND attnum > 0"
            " AND NOT attisdropped"
        )
        return {name for (name,) in self.query(sql, (table,))}

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _slow_down(self, unhurried: bool) -> None:
        if unhurried and self.is_postgres:
            self.query(UNHURRIED)

    def _said(self, sql: str) -> str:
        return sql.replace("%", "%%").replace("?", "%s") if self.is_postgres else sql

    def _alive(self) -> Any:
        if self.is_postgres and self._connection.closed:
            self._connection = self._opened()
        return self._connection

    def _opened(self) -> Any:
        if isinstance(self._where, Path):
            self._where.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._where, timeout=30, isolation_level=None, check_same_thread=False)
            _use_wal(connection)
            connection.execute(f"PRAGMA cache_size = -{CACHE_BYTES // 1024}")
            connection.execute("PRAGMA synchronous = NORMAL")  # losing the end is harmless: the journal has it
            return connection
        try:
            import psycopg
        except ModuleNotFoundError as error:
            raise MissingDependency("psycopg", extra="postgres") from error
        self._errors, self._doubled = (psycopg.Error,), (psycopg.errors.UniqueViolation,)
        server = connected(psycopg, self._where)
        weakref.finalize(self, server.close)
        return server

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise BackendError(
                f"the ledger in Postgres cannot be used: {error}",
                hint="Check that the server is there and its disk is not full; what was booked is in the journal.",
            ) from error


def _use_wal(connection: sqlite3.Connection) -> None:
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
