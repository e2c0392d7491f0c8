"""The audit log: who did what to which project, key, limit or budget, and when. Appended in the act's transaction.

Owns the log; the database itself refuses to change or to delete what stands in it. Knows no secret: details are the
words of the act, never a key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from bessemer.core.nouns import Noun
from bessemer.serve.accounts.database import Database, Execute
from bessemer.serve.accounts.pages import Page

LOCAL = "local"
"""The actor of acts on the machine itself, by whoever can write the database."""


Comparison = Literal["gt", "gte", "lt", "lte"]
_SIGNS: dict[Comparison, str] = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_NAMES = ("number", "at", "actor", "act", "project", "target", "details")


class AuditEvent(Noun):
    """One administrative act.

    Attributes:
        number: rises by one with each act; gaps are acts that were undone.
        at: Unix seconds.
        actor: id of the key that asked for it, or ``local``.
        act: such as ``api_key.created``, in the words of OpenAI's audit log where it has the act.
        project: that it concerns, or empty.
        target: id of what was made, changed or ended.
        details: what was asked for.
    """

    number: int
    at: float
    actor: str
    act: str
    project: str = ""
    target: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes acts down in somebody's name.

    Args:
        actor: who acts.
        clock: gives Unix seconds.
    """

    actor: str = LOCAL
    clock: Callable[[], float] = time.time

    def note(self, execute: Execute, act: str, target: str, project: str = "", **details: Any) -> None:
        """Append an act within its own transaction."""
        execute(
            "INSERT INTO audit (at, actor, act, project, target, details) VALUES (?, ?, ?, ?, ?, ?)",
            self.clock(),
            self.actor,
            act,
            project,
            target,
            json.dumps(details, ensure_ascii=False, sort_keys=True),
        )


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which acts are wanted; what is empty takes all.

    Attributes:
        projects: only concerning these.
        acts: only of these kinds.
        actors: only by these keys, or by keys of these users and service accounts.
        emails: only by keys of users with these addresses.
        targets: only on these.
        times: only at times that compare so, in Unix seconds.
    """

    projects: Sequence[str] = ()
    acts: Sequence[str] = ()
    actors: Sequence[str] = ()
    emails: Sequence[str] = ()
    targets: Sequence[str] = ()
    times: Sequence[tuple[Comparison, float]] = ()

    def where(self) -> tuple[list[str], list[Any]]:
        """Return the conditions in SQL, all of which must hold, and their values."""
        conditions, values = list[str](), list[Any]()
        for condition, wanted in (
            ("project IN ({0})", self.projects),
            ("act IN ({0})", self.acts),
            ("(actor IN ({0}) OR actor IN (SELECT id FROM keys WHERE user_id IN ({0}) OR service_account IN ({0})))",
             self.actors),
            ("actor IN (SELECT keys.id FROM keys JOIN users ON users.id = user_id WHERE email IN ({0}))", self.emails),
            ("target IN ({0})", self.targets),
        ):  # fmt: skip
            if wanted:
                conditions.append(condition.format(", ".join("?" * len(wanted))))
                values += [*wanted] * condition.count("{0}")
        for comparison, at in self.times:
            conditions.append(f"at {_SIGNS[comparison]} ?")
            values.append(at)
        return conditions, values


_ALL = AuditFilter()


class AuditLog:
    """Reads the log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, limit: int = 20, after: int = 0, before: int = 0, wanted: AuditFilter = _ALL) -> Page[AuditEvent]:
        """Return a page of acts, the newest first.

        Args:
            limit: acts on a page.
            after: number of the last act of the page before; 0 is the first page.
            before: number of the first act of the page after: this one ends right before it. 0 is none.
            wanted: only these.
        """
        conditions, values = wanted.where()
        for condition, edge in (("number < ?", after), ("number > ?", before)):
            if edge:
                conditions.append(condition)
                values.append(edge)
        back = bool(before) and not after
        sql = f"SELECT {', '.join(_NAMES)} FROM audit WHERE {' AND '.join(conditions) or '1 = 1'}"
        rows = self._database.read(f"{sql} ORDER BY number {'ASC' if back else 'DESC'} LIMIT ?", *values, limit + 1)
        events = (dict(zip(_NAMES, row, strict=True)) for row in rows)
        page = Page.of([AuditEvent(**{**e, "details": json.loads(e["details"])}) for e in events], limit)
        return Page(page.items[::-1], page.has_more) if back else page
