"""What users did with items, as clients tell it: kept on disk before it is acknowledged, each project's by itself.

Owns the database of events. Knows no HTTP and no model: engines that learn are told by who took the events in.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from bessemer.core.errors import NotFound
from bessemer.core.ranking import Interaction
from bessemer.serve.database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, id TEXT NOT NULL, user TEXT NOT NULL,
    session TEXT NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL, weight REAL NOT NULL, time REAL NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS events_by_id ON events (project, id);
CREATE INDEX IF NOT EXISTS events_of_user ON events (project, user, sequence);
PRAGMA secure_delete = ON;
"""
_COLUMNS = "id, user, session, item, kind, weight, time"
_AT_ONCE = 10_000
_ASKED_AT_ONCE = 500


class EventStore:
    """Events in a SQLite database that only its owner can read; for several threads and processes at once.

    Args:
        path: of the database; made if missing.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA, "events")

    def add(self, project: str, events: Sequence[Interaction]) -> list[Interaction]:
        """Keep a project's events and return those that are new, in their order; all of them are on disk then.

        An event without an id gets one. An id that the project told before is the same event, and is left as it was.

        Raises:
            BackendError: the disk refused; none is kept.
        """
        made = secrets.token_hex(8)
        named = [
            event if event.id else event.model_copy(update={"id": f"ev_{made}{number:x}"})
            for number, event in enumerate(events)
        ]
        given = [event.id for event in events if event.id]
        with self._database.writing() as database:
            known: set[str] = set()
            for at in range(0, len(given), _ASKED_AT_ONCE):
                some = given[at : at + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(some))
                found = database.execute(
                    f"SELECT id FROM events WHERE project = ? AND id IN ({marks})", (project, *some)
                )
                known.update(id for (id,) in found)
            new = []
            for event in named:
                if event.id not in known:
                    known.add(event.id)
                    new.append(event)
            database.executemany(
                f"INSERT INTO events (project, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(project, e.id, e.user, e.session, e.item, e.kind, e.weight, e.time) for e in new],
            )
        return new

    def page(self, project: str, user: str = "", after: str = "", limit: int = 20) -> tuple[list[Interaction], bool]:
        """Return a project's events, the last told first, and whether there are more.

        Args:
            project: whose.
            user: only of this one; empty is all.
            after: the id that the page before ended with; empty is the first page.
            limit: at most so many.

        Raises:
            NotFound: `after` is no event of this project.
        """
        with self._database.reading() as database:
            before = 2**62
            if after:
                found = database.execute(
                    "SELECT sequence FROM events WHERE project = ? AND id = ?", (project, after)
                ).fetchone()
                if not found:
                    raise NotFound(f"there is no event '{after}'", hint="Begin with the first page.")
                before = found[0]
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM events WHERE project = ? AND (? = '' OR user = ?) AND sequence < ?"
                " ORDER BY sequence DESC LIMIT ?",
                (project, user, user, before, limit + 1),
            ).fetchall()
        return [_event(row) for row in rows[:limit]], len(rows) > limit

    def all(
        self, projects: Sequence[str] = (), known: Mapping[str, int] = MappingProxyType({})
    ) -> Iterator[tuple[str, list[Interaction]]]:
        """Yield (project, events) in the order in which they were told, some thousands at a time.

        Args:
            projects: only of these; empty is all.
            known: the number up to which a project's events are left out.
        """
        last = 0
        while True:
            with self._database.reading() as database:
                rows = database.execute(
                    f"SELECT sequence, project, {_COLUMNS} FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
                    (last, _AT_ONCE),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            by_project: dict[str, list[Interaction]] = {}
            for row in rows:
                if (not projects or row[1] in projects) and row[0] > known.get(row[1], 0):
                    by_project.setdefault(row[1], []).append(_event(row[2:]))
            yield from by_project.items()

    def state(self, projects: Sequence[str]) -> tuple[int, int]:
        """Return what changes when these projects' events do: how many there are, and the last one's number."""
        with self._database.reading() as database:
            marks = ",".join("?" * len(projects))
            count, last = database.execute(
                f"SELECT count(*), coalesce(max(sequence), 0) FROM events WHERE project IN ({marks})", tuple(projects)
            ).fetchone()
        return int(count), int(last)

    def forget(self, project: str, user: str) -> int:
        """Delete a user's events of a project, their bytes too, and return how many there were."""
        with self._database.writing() as database:
            gone = database.execute("DELETE FROM events WHERE project = ? AND user = ?", (project, user)).rowcount
        with self._database.reading() as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log of writes has them, too
        return gone

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _event(row: tuple[str, str, str, str, str, float, float]) -> Interaction:
    id, user, session, item, kind, weight, time = row
    return Interaction.model_construct(  # checked when it was taken in
        id=id, user=user, session=session, item=item, kind=kind, weight=weight, time=time
    )
