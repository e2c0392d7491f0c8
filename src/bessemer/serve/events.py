"""What users did with items, as clients tell it: kept on disk before it is acknowledged, each project's by itself.

Owns the database of events. Knows no HTTP and no model: engines that learn are told by who took the events in, and
hear from `EventStore.news` what other processes took in.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bessemer.core.errors import NotFound
from bessemer.core.ranking import Interaction
from bessemer.serve.database import Database

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, id TEXT NOT NULL, user TEXT NOT NULL,
        session TEXT NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL, weight REAL NOT NULL, time REAL NOT NULL
    ) STRICT""",
    "CREATE UNIQUE INDEX IF NOT EXISTS events_by_id ON events (project, id)",
    "CREATE INDEX IF NOT EXISTS events_of_user ON events (project, user, sequence)",
    """
    CREATE TABLE IF NOT EXISTS forgotten (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, mark TEXT NOT NULL, at INTEGER NOT NULL
    ) STRICT""",
    """
    CREATE TABLE IF NOT EXISTS erased (
        project TEXT NOT NULL, mark TEXT NOT NULL, upto INTEGER NOT NULL, PRIMARY KEY (project, mark)
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS secret (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL) STRICT",
    "PRAGMA secure_delete = ON",
)
_COLUMNS = "id, user, session, item, kind, weight, time"
_AT_ONCE = 10_000
_ASKED_AT_ONCE = 500
_MARK_SECONDS = 600
"""How long others may take to hear that a user is forgotten; then a keyed hash is left, for models trained before."""


@dataclass(frozen=True, slots=True)
class News:
    """What other processes took in.

    Attributes:
        forgotten: (project, mark of a user) to be forgotten, before the events are taken; see `EventStore.mark`.
        events: (project, events) in the order in which they were told.
    """

    forgotten: tuple[tuple[str, str], ...] = ()
    events: tuple[tuple[str, list[Interaction]], ...] = ()


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a store was read.

    Attributes:
        event: number of the last event.
        erasures: see `EventStore.erasures`.
    """

    event: int = 0
    erasures: frozenset[tuple[str, str, int]] = frozenset()


NOTHING = Extent()
"""Of who has read nothing."""


class EventStore:
    """Events in a SQLite database that only its owner can read; for several threads and processes at once.

    Args:
        path: of the database; made if missing.

    Attributes:
        telling: held from before something is taken in, forgotten or heard until the engines of this process know;
            else one that learns late would bring back who was forgotten meanwhile.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
    """

    def __init__(self, path: Path) -> None:
        self.telling = threading.Lock()
        self._database = Database(path, _SCHEMA, "events")
        with self._database.writing() as execute:
            execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", secrets.token_bytes(32))
            ((self._secret,),) = execute("SELECT value FROM secret")
        self._own: list[tuple[int, int]] | None = None  # first and last numbers of events taken in here; None: no wish
        self._forgot: set[int] = set()
        self._heard, self._heard_forgotten, self._version, self._swept = 0, 0, -1, 0.0

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
        with self._database.writing() as execute:
            known: set[str] = set()
            for at in range(0, len(given), _ASKED_AT_ONCE):
                some = given[at : at + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(some))
                found = execute(f"SELECT id FROM events WHERE project = ? AND id IN ({marks})", project, *some)
                known.update(id for (id,) in found)
            new = []
            for event in named:
                if event.id not in known:
                    known.add(event.id)
                    new.append(event)
            execute.many(
                f"INSERT INTO events (project, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(project, e.id, e.user, e.session, e.item, e.kind, e.weight, e.time) for e in new],
            )
            ((last,),) = execute("SELECT last_insert_rowid()")
        if new:
            self._note(last - len(new) + 1, last)
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
        before = 2**62
        if after:
            found = self._database.read("SELECT sequence FROM events WHERE project = ? AND id = ?", project, after)
            if not found:
                raise NotFound(f"there is no event '{after}'", hint="Begin with the first page.")
            ((before,),) = found
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM events WHERE project = ? AND (? = '' OR user = ?) AND sequence < ?"
            " ORDER BY sequence DESC LIMIT ?",
            project, user, user, before, limit + 1,
        )  # fmt: skip
        return [_event(row) for row in rows[:limit]], len(rows) > limit

    def all(
        self, projects: Sequence[str] = (), known: Mapping[str, int] = MappingProxyType({}), after: int = 0
    ) -> Iterator[tuple[str, list[Interaction]]]:
        """Yield (project, events) in the order in which they were told, some thousands at a time.

        Args:
            projects: only of these; empty is all.
            known: the number up to which a project's events are left out.
            after: the number up to which all events are.
        """
        last = after
        while True:
            asked = f"SELECT sequence, project, {_COLUMNS} FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
            rows = self._database.read(asked, last, _AT_ONCE)
            if not rows:
                return
            last = rows[-1][0]
            by_project: dict[str, list[Interaction]] = {}
            for row in rows:
                if (not projects or row[1] in projects) and row[0] > known.get(row[1], 0):
                    by_project.setdefault(row[1], []).append(_event(row[2:]))
            yield from by_project.items()

    def between(self, project: str, after: int, upto: int) -> list[Interaction]:
        """Return a project's events that were taken in after the one of a number, up to another's, in their order."""
        asked = f"SELECT {_COLUMNS} FROM events WHERE sequence > ? AND sequence <= ? AND project = ? ORDER BY sequence"
        return [_event(row) for row in self._database.read(asked, after, upto, project)]

    def state(self, projects: Sequence[str]) -> tuple[int, int]:
        """Return what changes when these projects' events do: how many there are, and the last one's number."""
        marks = ",".join("?" * len(projects))
        asked = f"SELECT count(*), coalesce(max(sequence), 0) FROM events WHERE project IN ({marks})"
        ((count, last),) = self._database.read(asked, *projects)
        return int(count), int(last)

    def since(self, projects: Sequence[str], number: int) -> int:
        """Return how many events of these projects were taken in after the one of a number."""
        marks = ",".join("?" * len(projects))
        asked = f"SELECT count(*) FROM events WHERE sequence > ? AND project IN ({marks})"
        ((count,),) = self._database.read(asked, number, *projects)
        return int(count)

    def sessions(self, project: str, user: str) -> list[str]:
        """Return the sessions that a project's user did something in."""
        asked = "SELECT DISTINCT session FROM events WHERE project = ? AND user = ? AND session <> ''"
        return [session for (session,) in self._database.read(asked, project, user)]

    def last(self) -> int:
        """Return the number of the last event that was taken in, of any project; 0 before the first."""
        ((last,),) = self._database.read("SELECT coalesce(max(sequence), 0) FROM events")
        return int(last)

    def forget(self, project: str, user: str) -> int:
        """Delete a user's events of a project, their bytes too, and return how many there were.

        A mark of the user stays: what was trained before must forget the user, however late it is opened.
        """
        with self._database.writing() as execute:
            gone = len(execute("DELETE FROM events WHERE project = ? AND user = ? RETURNING 1", project, user))
            mark = self.mark(project, user)
            told = "INSERT INTO forgotten (project, mark, at) VALUES (?, ?, unixepoch()) RETURNING sequence"
            ((number,),) = execute(told, project, mark)
            # Not the largest number that is left: an event that was deleted may have been trained on, too.
            last = "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
            execute(f"INSERT OR REPLACE INTO erased (project, mark, upto) VALUES (?, ?, {last})", project, mark)
        if self._own is not None:
            self._forgot.add(number)
        self._database.overwrite()
        return gone

    def erasures(self) -> frozenset[tuple[str, str, int]]:
        """Return (project, mark of a user, number) of who was forgotten after the event of that number.

        A model that knows no later event of the project may have been trained on the user.
        """
        return frozenset(self._database.read("SELECT project, mark, upto FROM erased"))

    def mark(self, project: str, user: str) -> str:
        """Return what a project's user can be recognised by where the name is known; nothing without the secret."""
        return hashlib.blake2b(f"{project}\0{user}".encode(), key=self._secret, digest_size=16).hexdigest()

    def extent(self) -> Extent:
        """Return how far the store goes now."""
        return Extent(self.last(), self.erasures())

    def follow(self) -> None:
        """Begin to listen: `news` will tell what other processes take in from now on."""
        self._version = -1
        self._own, self._forgot = [], set()
        self._heard = self.last()
        ((self._heard_forgotten,),) = self._database.read("SELECT coalesce(max(sequence), 0) FROM forgotten")

    def news(self) -> News:
        """Return what other processes took in since this was asked last, or since `follow`.

        One look costs some microseconds where nobody else has written.

        Raises:
            BackendError: the disk or another process is in the way; nothing is lost, ask again.
        """
        if time.monotonic() - self._swept > _MARK_SECONDS / 10:
            self._sweep()
        read = self._database.read
        ((version,),) = read("PRAGMA data_version")  # moves when another connection writes
        if self._own is None or version == self._version:
            return News()
        marks = read(
            "SELECT sequence, project, mark FROM forgotten WHERE sequence > ? ORDER BY sequence", self._heard_forgotten
        )
        last = self.last()
        found: list[tuple[str, list[Interaction]]] = []
        between = f"SELECT project, {_COLUMNS} FROM events WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
        for span in _gaps(self._heard, self._own, last):
            for project, *row in read(between, *span):
                if not found or found[-1][0] != project:
                    found.append((project, []))
                found[-1][1].append(_event(tuple(row)))
        forgotten = tuple((project, mark) for number, project, mark in marks if number not in self._forgot)
        self._version, self._heard, self._own, self._forgot = version, max(last, self._heard), [], set()
        self._heard_forgotten = marks[-1][0] if marks else self._heard_forgotten
        return News(forgotten, tuple(found))

    def _sweep(self) -> None:
        """Leave nothing of a user who was forgotten a while ago."""
        self._swept = time.monotonic()
        old = "FROM forgotten WHERE at < unixepoch() - ?"
        if self._database.read(f"SELECT 1 {old} LIMIT 1", _MARK_SECONDS):
            with self._database.writing() as execute:
                execute(f"DELETE {old}", _MARK_SECONDS)

    def _note(self, first: int, last: int) -> None:
        """Remember which events came in here; they are on disk. One that is not remembered is told twice, no more."""
        if self._own is None:
            return
        if self._own and self._own[-1][1] == first - 1:
            first = self._own.pop()[0]
        self._own.append((first, last))

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _gaps(after: int, taken: Sequence[tuple[int, int]], last: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last numbers of what lies after one number, up to another, in none of the ranges.

    >>> list(_gaps(3, [(5, 8), (12, 12)], 14))
    [(4, 4), (9, 11), (13, 14)]
    """
    for first, end in (*taken, (last + 1, last)):
        if after + 1 < first:
            yield after + 1, first - 1
        after = max(after, end)


def _event(row: tuple[Any, ...]) -> Interaction:
    id, user, session, item, kind, weight, time = row
    return Interaction.model_construct(  # checked when it was taken in
        id=id, user=user, session=session, item=item, kind=kind, weight=weight, time=time
    )
