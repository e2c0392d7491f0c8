"""The audit log: who did what to which project, key, limit or budget, and when. Appended in the act's transaction.

Owns the log; the database itself refuses to change or to delete what stands in it. Knows no secret: details are the
words of the act, never a key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from bessemer.core.nouns import Noun
from bessemer.serve.accounts.database import Database, Execute
from bessemer.serve.accounts.pages import Page

LOCAL = "local"
"""The actor of acts on the machine itself, by whoever can write the database."""


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


class AuditLog:
    """Reads the log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, limit: int = 20, after: int = 0, project: str = "", act: str = "") -> Page[AuditEvent]:
        """Return a page of acts, the newest first.

        Args:
            limit: acts on a page.
            after: number of the last act of the page before; 0 is the first page.
            project: only of this project.
            act: only acts of this kind.
        """
        sql = "SELECT number, at, actor, act, project, target, details FROM audit WHERE 1 = 1"
        wanted = [("number < ?", after), ("project = ?", project), ("act = ?", act)]
        given = [(condition, value) for condition, value in wanted if value]
        sql += "".join(f" AND {condition}" for condition, _ in given)
        rows = self._database.read(f"{sql} ORDER BY number DESC LIMIT ?", *(v for _, v in given), limit + 1)
        names = ("number", "at", "actor", "act", "project", "target", "details")
        events = (dict(zip(names, row, strict=True)) for row in rows)
        return Page.of([AuditEvent(**{**e, "details": json.loads(e["details"])}) for e in events], limit)
