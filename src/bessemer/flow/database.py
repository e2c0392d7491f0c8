"""The thin seam between the two databases: SQLite (WAL) and Postgres run the same SQL.

Owns the connection, transactions and the dialect: `?` marks a parameter; row locks are dropped for SQLite, where a
writing transaction is alone anyway. Knows no table.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bessemer.core.errors import BackendError, BessemerError, ConfigError, MissingDependency
from bessemer.core.postgres import connected

Execute = Callable[..., list[tuple[Any, ...]]]


class Database:
    """One connection; threads take turns.

    Args:
        url: ``sqlite:///path`` or ``postgresql://...``.

    Raises:
        ConfigError: the URL is of another kind.
        BackendError: the database cannot be reached.
    """

    def __init__(self, url: str) -> None:
        kind, _, rest = url.partition("://")
        self._url, self._lock = url, threading.RLock()
        self._errors: tuple[type[Exception], ...] = (sqlite3.Error,)
        self.is_postgres = kind in ("postgresql", "postgres")
        if not self.is_postgres and (kind != "sqlite" or not rest.startswith("/") or len(rest) < 2):
            raise ConfigError(f"no database has the URL '{url}'", hint="Use sqlite:///path or postgresql://...")
        with self._translated():
            self._connection: Any = self._open()

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        """Give a function that executes SQL; all of it holds, or none if the block raises."""
        with self._lock, self._translated():
            self.execute("BEGIN" if self.is_postgres else "BEGIN IMMEDIATE")
            try:
                yield self.execute
                self.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise

    def execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows that one statement gives."""
        dialect = [("?", "%s")] if self.is_postgres else [(" FOR UPDATE", ""), (" SKIP LOCKED", "")]
        for ours, theirs in dialect:
            sql = sql.replace(ours, theirs)
        with self._lock, self._translated():
            try:
                cursor = self._connection.execute(sql, values)
                return cursor.fetchall() if cursor.description else []
            except (KeyboardInterrupt, BessemerError):  # a signal came in the middle of a statement, which goes on
                self._connection.close()
                self._connection = self._open()
                raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _open(self) -> Any:
        if not self.is_postgres:
            return _open_sqlite(Path(self._url.removeprefix("sqlite:///")))
        try:
            import psycopg
        except ModuleNotFoundError as error:
            raise MissingDependency("psycopg", extra="postgres") from error
        self._errors = (psycopg.Error,)
        return connected(psycopg, self._url)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            hint = "Check that the database is there, writable and not full; then run again."
            raise BackendError(f"the flow's database failed: {error}", hint=hint) from error


def _open_sqlite(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise sqlite3.OperationalError(str(error)) from error
    connection = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection
