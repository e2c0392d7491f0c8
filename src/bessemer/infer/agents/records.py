"""Records of work whose steps nobody knows beforehand: named sequences of JSON values, appended, never changed.

They lie in a database of `flow`, beside the runs of steps that somebody could declare. Two that append the same number
to one name collide, and one of them is told: so what must happen once is written down before it is done.

Owns the table. Knows not what a record says.
"""

from __future__ import annotations

import json
from typing import Any

from bessemer.core.digest import canonical_json
from bessemer.core.errors import Conflict
from bessemer.flow.database import Database

_SCHEMA = """CREATE TABLE IF NOT EXISTS records (
    name TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (name, number))"""


class Records:
    """Sequences in one database; any number of processes share it.

    Args:
        database: where the table is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as execute:
            if database.is_postgres:  # two that create a table at the same moment would collide
                execute("SELECT pg_advisory_xact_lock(7205760)")
            execute(_SCHEMA)

    def read(self, name: str, last: int | None = None) -> list[Any]:
        """Return the records of a name in their order; with `last`, no more than so many of the newest."""
        limit = () if last is None else (last,)
        rows = self._database.execute(
            f"SELECT body FROM records WHERE name = ? ORDER BY number DESC{' LIMIT ?' if limit else ''}", name, *limit
        )
        return [json.loads(body) for (body,) in reversed(rows)]

    def append(self, name: str, number: int, body: Any) -> None:
        """Write one record; when this returns it is on disk.

        Raises:
            Conflict: somebody else wrote that number first.
        """
        insert = "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING number"
        with self._database.transaction() as execute:
            if not execute(insert, name, number, canonical_json(body)):
                raise Conflict(f"'{name}' is being worked on elsewhere", hint="Wait for it, or use another name.")

    def add(self, name: str, *bodies: Any) -> None:
        """Write records behind the last one, all or none."""
        following = "INSERT INTO records SELECT ?, COALESCE(MAX(number), -1) + 1, ? FROM records WHERE name = ?"
        with self._database.transaction() as execute:
            for body in bodies:
                execute(following, name, canonical_json(body), name)

    def forget(self, name: str) -> int:
        """Delete the records of a name; return how many there were."""
        return len(self._database.execute("DELETE FROM records WHERE name = ? RETURNING number", name))

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def open_records(url: str) -> Records:
    """Return the records in a database.

    Args:
        url: ``sqlite:///path`` or ``postgresql://…``.

    Raises:
        ConfigError: the URL is of another kind.
        BackendError: the database cannot be reached.
    """
    return Records(Database(url))
