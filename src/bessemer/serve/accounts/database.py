"""The database of accounts: what it has beside any other of the gateway is a number that moves.

Whatever an administrator changes moves `version`, by which every process knows that what it remembers is old: at once,
because it hears a bell (`bells`), and should it not hear it, within `changes.STALE_SECONDS`.

Owns the table `changes` and the bell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bessemer.core.errors import ConfigError
from bessemer.serve import database as plain
from bessemer.serve.accounts.bells import NOTIFY, FileBell, Listener
from bessemer.serve.accounts.changes import Changes
from bessemer.serve.database import Connection, Execute

__all__ = ["Database", "Execute"]

_CHANGES = (
    "CREATE TABLE IF NOT EXISTS changes (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)",
    "INSERT INTO changes (id, version) VALUES (1, 0) ON CONFLICT DO NOTHING",
)


class Database(plain.Database):
    """The accounts, where a transaction locks only the rows that it changes.

    Args:
        url: ``sqlite:///path`` or ``postgresql://...``; see `bessemer.serve.database.Database`.
        schema: statements that make the tables if they are missing, in SQLite's words.
        clock: any seconds; only differences are used.

    Attributes:
        version: returns a number that moves with every change of whatever process.
    """

    def __init__(self, url: str, schema: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(url, (*_CHANGES, *schema), "keys and accounts", prefix="", alone=False, zeros=False)
        self.clock = clock
        self.lock_rows = " FOR UPDATE" if self.is_postgres else ""  # in SQLite a writing transaction is alone anyway
        self._listener: Listener | None = None
        self._bell = None if self.is_postgres else _bell(Path(self._where))
        self._changes = Changes(self._read_version, self._bell, clock)
        self.version = self._changes.version

    @contextmanager
    def changing(self) -> Iterator[Connection]:
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
        super().close()

    def _read_version(self) -> int:
        if self.is_postgres and self._listener is None:
            self._listener = Listener(self._reader.open, self._changes.heard)
        [(version,)] = self.read("SELECT version FROM changes")
        return int(version)


def _bell(path: Path) -> FileBell:
    """Return the bell beside a file."""
    try:
        return FileBell(path.with_name(f"{path.name}-bell"))
    except OSError as error:
        raise ConfigError(
            f"the keys and accounts in {path} cannot be opened: {error}", hint="Check the folder and its permissions."
        ) from error
