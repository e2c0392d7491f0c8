"""Spend alerts: who is told when spending passes a part of a budget.

That a threshold was passed is kept in the transaction that settles the request which passed it, once for each span and
limit of a budget; a raised limit tells anew. Webhooks of the budget's project are told: of a key's budget those of the
key's project, of the organization's those of the projects that have administrators' keys.

Owns the thresholds and what was passed. Knows no HTTP: webhooks keep what is to be sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Noun
from bessemer.serve.accounts.audit import LOCAL, Scribe
from bessemer.serve.accounts.database import Database, Execute
from bessemer.serve.webhooks import WebhookStore

PERCENTS = (50, 80, 100)
"""Of a budget that says nothing else."""

EVENT = "budget.threshold_reached"
MOST_PERCENT = 1000
_LOOK_BACK_SECONDS = 7 * 86_400.0
"""How old an alert may be that a gateway tells when it starts."""
_OVERLAP_SECONDS = 60.0
"""Longer than a transaction lasts and clocks differ: what is committed late is found all the same."""
_STATE = (
    "SELECT spent_micros, limit_micros, percents FROM spend JOIN budgets ON budgets.id = spend.budget"
    " LEFT JOIN thresholds ON thresholds.budget = spend.budget WHERE spend.budget = ? AND span = ?"
)
_FIELDS = "alerts.budget, scope, scope_id, period, span, percent, alerts.limit_micros, spent_micros, currency, at"


class Alert(Noun):
    """A threshold that spending has passed; money in micro-units, `at` in Unix seconds."""

    budget: str
    scope: str
    scope_id: str
    period: str
    span: str
    percent: int
    limit_micros: int
    spent_micros: int
    currency: str
    at: float

    @property
    def event(self) -> str:
        """The same for everybody who tells it."""
        return f"evt_{self.budget}_{self.span or 'total'}_{self.percent}_{self.limit_micros}"


class Alerts:
    """The thresholds of all budgets, and which were passed.

    Args:
        database: of the accounts.
        clock: gives Unix seconds.
        actor: in whose name the audit log notes what is done here.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time, actor: str = LOCAL) -> None:
        self._database, self._clock, self._scribe = database, clock, Scribe(actor, clock)

    def set(self, budget: str, percents: Iterable[int]) -> tuple[int, ...]:
        """Say at which percents of a budget to tell, from now on; none tells never. Return them in order.

        Raises:
            ConfigError: one is no percentage from 1 to 1000.
            NotFound: there is no such budget.
        """
        wanted = tuple(sorted(set(percents)))
        if wrong := [percent for percent in wanted if not 1 <= percent <= MOST_PERCENT]:
            raise ConfigError(
                f"{wrong[0]} % is no threshold of a budget", hint=f"Give whole percents from 1 to {MOST_PERCENT}."
            )
        with self._database.changing() as execute:
            found = execute("SELECT scope, scope_id FROM budgets WHERE id = ? AND removed_at IS NULL", budget)
            if not found:
                raise NotFound(f"there is no budget '{budget}'", hint="`bessemer limits show` lists them.")
            execute(
                "INSERT INTO thresholds (budget, percents) VALUES (?, ?)"
                " ON CONFLICT (budget) DO UPDATE SET percents = excluded.percents",
                budget, " ".join(map(str, wanted)),
            )  # fmt: skip
            project = found[0][1] if found[0][0] == "project" else ""
            self._scribe.note(execute, "budget.updated", budget, project, alert_percents=wanted)
        return wanted

    def percents(self, budget: str) -> tuple[int, ...]:
        """Return at which percents of a budget is told."""
        rows = self._database.read("SELECT percents FROM thresholds WHERE budget = ?", budget)
        return _percents(rows[0][0] if rows else None)

    def note(self, execute: Execute, budget: str, span: str, micros: int) -> None:
        """Keep which thresholds the last of what was spent has passed.

        Args:
            execute: of the transaction that counted it.
            budget: its id.
            span: in which it counted.
            micros: how much it was.
        """
        rows = execute(_STATE, budget, span)
        for spent, limit, said in rows:
            for percent in _percents(said):
                if 100 * (spent - micros) < limit * percent <= 100 * spent:
                    execute(
                        "INSERT INTO alerts (budget, span, percent, limit_micros, spent_micros, at)"
                        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        budget, span, percent, limit, spent, self._clock(),
                    )  # fmt: skip

    def since(self, at: float) -> tuple[Alert, ...]:
        """Return what was passed at a time or later, in order."""
        sql = f"SELECT {_FIELDS} FROM alerts JOIN budgets ON budgets.id = alerts.budget WHERE at >= ? ORDER BY at"
        names = [field.rpartition(".")[2] for field in _FIELDS.split(", ")]
        return tuple(Alert(**dict(zip(names, row, strict=True))) for row in self._database.read(sql, at))

    def projects_of(self, alert: Alert) -> tuple[str, ...]:
        """Return the projects whose webhooks are told of an alert."""
        if alert.scope == "project":
            return (alert.scope_id,)
        if alert.scope == "key":
            rows = self._database.read("SELECT project FROM keys WHERE id = ?", alert.scope_id)
        else:
            rows = self._database.read(
                "SELECT DISTINCT project FROM keys WHERE admin <> 0 AND revoked_at IS NULL"
                " AND (expires_at IS NULL OR expires_at > ?) ORDER BY project",
                self._clock(),
            )  # fmt: skip
        return tuple(project for (project,) in rows)


class Teller:
    """Hands alerts over to the webhooks, each once for every store of them, however many processes do.

    Args:
        alerts: what was passed.
        webhooks: keep and send it.
        clock: gives Unix seconds.
    """

    def __init__(self, alerts: Alerts, webhooks: WebhookStore, clock: Callable[[], float] = time.time) -> None:
        self._alerts, self._webhooks, self._clock = alerts, webhooks, clock
        self._from = clock() - _LOOK_BACK_SECONDS

    def tell(self) -> None:
        """Hand over what is new."""
        now = self._clock()
        for alert in self._alerts.since(self._from):
            for project in self._alerts.projects_of(alert):
                self._webhooks.emit(project, EVENT, _told(alert), event=f"{alert.event}_{project}")
        self._from = max(self._from, now - _OVERLAP_SECONDS)


def _percents(said: str | None) -> tuple[int, ...]:
    return PERCENTS if said is None else tuple(map(int, said.split()))


def _told(alert: Alert) -> dict[str, Any]:
    return {"id": alert.event, **alert.model_dump(mode="json", exclude={"at"}), "reached_at": int(alert.at)}
