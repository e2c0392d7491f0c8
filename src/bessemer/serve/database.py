"""A SQLite database of the gateway: private to its owner, for several threads and processes, with the house's errors.

Owns connection, transactions and errors. Knows no table.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bessemer.core.errors import BackendError, ConfigError, IntegrityError

_TRIES = 100


class Database:
    """One connection, shared by threads one at a time.

    Args:
        path: of the file; made if missing, readable by its owner only.
        schema: statements that make the tables if they are missing.
        what: is kept there, for error messages.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
    """

    def __init__(self, path: Path, schema: str, what: str) -> None:
        self._path, self._what = path, what
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.chmod(0o600)  # SQLite gives its side files the same mode
            self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as error:
            raise ConfigError(
                f"the {what} in {path} cannot be opened: {error}", hint="Check the folder and its permissions."
            ) from error
        weakref.finalize(self, self._connection.close)
        with self.reading() as connection:
            use_wal(connection)
            connection.executescript(schema)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for statements that stand alone.

        Raises:
            BackendError: the disk or another process is in the way.
            IntegrityError: the file is no database.
        """
        with self._lock:
            try:
                yield self._connection
            except sqlite3.OperationalError as error:
                raise BackendError(
                    f"the {self._what} in {self._path} cannot be used: {error}",
                    hint="Check the disk and the permissions.",
                ) from error
            except sqlite3.DatabaseError as error:
                raise IntegrityError(
                    f"{self._path} is no database of {self._what}: {error}",
                    hint="Restore it from a copy, or move it away.",
                ) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection in a transaction that is undone if the block raises.

        Raises:
            BackendError: the disk or another process is in the way.
            IntegrityError: the file is no database.
        """
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()


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
