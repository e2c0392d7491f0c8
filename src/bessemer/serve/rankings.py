"""What was shown to whom, in experiments and by exploration: kept on disk before the answer leaves.

Users and sessions are kept as marks that only this store can make, so that what came of a ranking can be joined with
it, and a user forgotten, while nobody reads a name here. What is older than the bound goes.

Owns the database of rankings. Knows no engine, no event and no statistics.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.core.errors import Conflict
from bessemer.core.experiments import Experiment
from bessemer.core.nouns import Noun
from bessemer.core.ranking import Ranking, RankRequest
from bessemer.serve.database import Database, Execute
from bessemer.serve.privacy import CaptureOf, keep_all

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS shown (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL,
        "user" TEXT NOT NULL, session TEXT NOT NULL, at REAL NOT NULL, model TEXT NOT NULL, experiment TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS shown_at ON shown (at)",
    "CREATE INDEX IF NOT EXISTS shown_in ON shown (experiment, project, sequence)",
    'CREATE INDEX IF NOT EXISTS shown_to ON shown (project, "user")',
    "CREATE INDEX IF NOT EXISTS shown_in_session ON shown (project, session)",
    "CREATE TABLE IF NOT EXISTS experiments (name TEXT PRIMARY KEY, at REAL NOT NULL, body TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS secret (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL) STRICT",
    "PRAGMA secure_delete = ON",
)
KEEP_DAYS = 90
_SWEEP_SECONDS = 3_600.0
_PERMIT_SECONDS = 1.0
_AT_ONCE = 1_000


class ShownItem(Noun):
    """An item in its place; see `Ranked`."""

    item: str
    score: float
    team: int | None = None
    propensity: float | None = None


class Shown(Noun):
    """A ranking that was shown.

    Attributes:
        id: of the answer; feedback names it.
        project: whose.
        user: mark of the user, or empty.
        session: mark of the session, or empty.
        at: Unix seconds.
        model: the name that was asked for.
        policy: which models and rules ranked.
        experiment: empty of none.
        arm: see `Ranking`.
        told: number of the last event that was taken in before; what ranked had heard of those up to it.
        request: what was asked, without project, user and session.
        items: as they were shown.
        pool: see `Ranking`.
    """

    id: str
    project: str
    user: str
    session: str
    at: float
    model: str
    policy: str
    experiment: str
    arm: str
    told: int
    request: RankRequest
    items: tuple[ShownItem, ...]
    pool: tuple[str, ...]

    @property
    def who(self) -> str:
        """The mark of whom it was shown to: the user's, or the session's where no user was named."""
        return self.user or self.session

    @property
    def names(self) -> tuple[str, ...]:
        """Its items' names, in their places."""
        return tuple(each.item for each in self.items)


@dataclass(frozen=True, slots=True)
class Glance:
    """What an experiment is judged by of a ranking that was shown; see `Shown`.

    Attributes:
        id: of the answer.
        project: whose.
        who: whom it was shown to.
        at: Unix seconds.
        policy: which models and rules ranked.
        arm: whose it is, of an A/B test.
        told: number of the last event that was taken in before.
        names: of its items, in their places.
        teams: whose each of them is, where two rankings are interleaved.
    """

    id: str
    project: str
    who: str
    at: float
    policy: str
    arm: str
    told: int
    names: tuple[str, ...]
    teams: tuple[int, ...]


class RankingStore:
    """Shown rankings; for several threads and processes at once.

    Args:
        where: path of the database, made if missing, readable by its owner only; or the URL of a Postgres.
        clock: gives Unix seconds.
        capture: says whether anything may be kept of a project.
        told: gives the number of the last event that was taken in.
        keep_days: what was shown before is deleted, at once and as more is added; None deletes nothing, for who looks.

    Raises:
        ConfigError: the file cannot be made or read.
        IntegrityError: it is no database.
        BackendError: the server cannot be reached.
    """

    def __init__(
        self,
        where: Path | str,
        clock: Callable[[], float] = time.time,
        capture: CaptureOf = keep_all,
        told: Callable[[], int] = lambda: 0,
        keep_days: float | None = None,
    ) -> None:
        self._clock, self._capture, self._told = clock, capture, told
        self._keep_seconds = None if keep_days is None else keep_days * 86_400
        self._database = Database(where, _SCHEMA, "shown rankings")
        with self._database.writing() as execute:
            execute("INSERT INTO secret (id, value) VALUES (1, ?) ON CONFLICT DO NOTHING", secrets.token_bytes(32))
            ((self._secret,),) = execute("SELECT value FROM secret")
        self._waiting: list[tuple[object, ...]] = []
        self._written, self._asked, self._turn = 0, 0, threading.Lock()
        self._lock, self._swept = threading.Lock(), float("-inf")
        self._permits: dict[str, tuple[float, bool]] = {}
        with self._database.writing() as execute:
            self._sweep(execute)  # where nothing is shown any more, no writing would

    def permits(self, project: str) -> bool:
        """Return whether rankings of a project may be kept; a change counts within a second."""
        at, kept = self._permits.get(project, (float("-inf"), False))
        if (now := time.monotonic()) - at > _PERMIT_SECONDS:
            kept = self._capture(project).stores
            self._permits[project] = now, kept
        return kept

    def mark(self, kind: str, project: str, name: str) -> str:
        """Return the mark of a project's ``user`` or ``session``; empty for none."""
        told = f"{kind}\0{project}\0{name}".encode()
        return hashlib.blake2b(told, key=self._secret, digest_size=16).hexdigest() if name else ""

    def declare(self, experiment: Experiment) -> None:
        """Note that an experiment runs.

        Raises:
            Conflict: one of its name ran with other settings.
        """
        self.check(experiment)
        row = experiment.name, self._clock(), experiment.model_dump_json()
        with self._database.writing() as execute:
            execute("INSERT INTO experiments (name, at, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", *row)

    def check(self, experiment: Experiment) -> None:
        """Do nothing, if an experiment is new, or is what was noted under its name.

        Raises:
            Conflict: one of its name ran with other settings; what both found could not be told apart.
        """
        earlier = next((each for each in self.experiments() if each.name == experiment.name), experiment)
        fields = [name for name in Experiment.model_fields if getattr(earlier, name) != getattr(experiment, name)]
        if fields:
            raise Conflict(
                f"the experiment '{experiment.name}' began with another {', '.join(fields)}",
                hint="Give the changed one another name; what the earlier one found stays.",
            )

    def experiments(self) -> list[Experiment]:
        """Return all experiments, the newest first."""
        rows = self._database.read("SELECT body FROM experiments ORDER BY at DESC, name")
        return [Experiment.model_validate_json(body) for (body,) in rows]

    def add(self, request: RankRequest, ranking: Ranking, model: str) -> None:
        """Keep a ranking; it is on disk then. Those that come at the same time are written together.

        Raises:
            BackendError: the disk refused.
        """
        shown = Shown(
            id=request.kept,
            project=request.project,
            user=self.mark("user", request.project, request.user),
            session=self.mark("session", request.project, request.session),
            at=self._clock(),
            model=model,
            policy=ranking.policy,
            experiment=ranking.experiment,
            arm=ranking.arm,
            told=self._told(),
            request=request.model_copy(update={"project": "", "user": "", "session": "", "kept": "", "explain": False}),
            items=tuple(
                ShownItem(item=each.item, score=each.score, team=each.team, propensity=each.propensity)
                for each in ranking.items
            ),
            pool=ranking.pool,
        )
        body = shown.model_dump_json(exclude_defaults=True)
        row = (shown.id, shown.project, shown.user, shown.session, shown.at, model, shown.experiment, body)
        with self._lock:
            self._waiting.append(row)
            self._asked += 1
            mine = self._asked
        with self._turn:  # whoever comes first writes for all who wait
            if self._written < mine:
                self._write(row)

    def shown(self, *, experiment: str = "", project: str = "", explored: bool = False) -> Iterator[Shown]:
        """Yield what was shown, the first first.

        Args:
            experiment: only in this one; empty is all.
            project: only to its users; empty is all.
            explored: only where chance had a part in the order.
        """
        last = 0
        where = "sequence > ? AND (? = '' OR experiment = ?) AND (? = '' OR project = ?)"
        asked = f"SELECT sequence, body FROM shown WHERE {where} ORDER BY sequence LIMIT ?"
        while rows := self._database.read(asked, last, experiment, experiment, project, project, _AT_ONCE):
            last = rows[-1][0]
            for _, body in rows:
                shown = Shown.model_validate_json(body)
                if not explored or any(each.propensity is not None for each in shown.items):
                    yield shown

    def glances(self, experiment: str, project: str = "", limit: int = 2**62) -> list[Glance]:
        """Return what was shown in an experiment, the first first.

        Args:
            experiment: its name.
            project: only to its users; empty is all.
            limit: the first so many.
        """
        where, given = _of(experiment, project)
        found, last = list[Glance](), 0
        asked = f"SELECT sequence, body FROM shown WHERE {where} AND sequence > ? ORDER BY sequence LIMIT ?"
        while rows := self._database.read(asked, *given, last, min(_AT_ONCE, limit - len(found))):
            last = rows[-1][0]
            found += (_glance(json.loads(body)) for _, body in rows)
        return found

    def state(self, experiment: str, project: str = "") -> tuple[int, int]:
        """Return what changes when what was shown in an experiment does: how many, and the last one's number."""
        where, given = _of(experiment, project)
        asked = f"SELECT count(*), coalesce(max(sequence), 0) FROM shown WHERE {where}"
        ((count, last),) = self._database.read(asked, *given)
        return int(count), int(last)

    def forget(self, project: str, user: str, sessions: Sequence[str] = ()) -> int:
        """Delete what a project's user was shown, in their sessions too, and return how many rankings that were."""
        gone = 0
        with self._database.writing() as execute:
            for column, name in (("user", user), *(("session", session) for session in sessions)):
                told = f'DELETE FROM shown WHERE project = ? AND "{column}" = ? RETURNING 1'
                gone += len(execute(told, project, self.mark(column, project, name)))
        self._database.overwrite()
        return gone

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _sweep(self, execute: Execute) -> None:
        if self._keep_seconds is not None and time.monotonic() - self._swept > _SWEEP_SECONDS:
            self._swept = time.monotonic()
            execute("DELETE FROM shown WHERE at < ?", self._clock() - self._keep_seconds)

    def _write(self, mine: tuple[object, ...]) -> None:
        with self._lock:
            rows, self._waiting, upto = self._waiting, [], self._asked
        try:
            with self._database.writing() as execute:
                execute.many(
                    'INSERT INTO shown (id, project, "user", session, at, model, experiment, body)'
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    rows,
                )
                self._sweep(execute)
        except BaseException:
            with self._lock:  # the others who wait try again, and are told themselves
                self._waiting = [row for row in rows if row is not mine] + self._waiting
            raise
        self._written = upto


def _of(experiment: str, project: str) -> tuple[str, tuple[str, ...]]:
    """Return a condition that the index answers, and what belongs into it."""
    return ("experiment = ? AND project = ?", (experiment, project)) if project else ("experiment = ?", (experiment,))


def _glance(told: dict[str, Any]) -> Glance:
    same = sys.intern  # the same few names stand in all of them
    return Glance(
        id=told["id"],
        project=same(told["project"]),
        who=same(told["user"] or told["session"]),
        at=told["at"],
        policy=same(told["policy"]),
        arm=same(told["arm"]),
        told=told["told"],
        names=tuple(same(each["item"]) for each in told["items"]),
        teams=tuple(each.get("team") or 0 for each in told["items"]),
    )
