"""Budgets and prepaid credit: what the worst case may cost is reserved before a request, what it did cost is settled.

For each budget and each span of its period (a day, a month, for ever)

    spent + reserved + the worst case <= limit

is checked and the reservation written in one transaction, so that no order of requests, workers and crashes spends
more than an enforced budget. A reservation stays until it is settled: by the request, or after its process died from
the books (`workers`). Credit is a budget whose limit is the sum of what was paid in.

Owns budgets, spending and reservations, in whole micro-units. Knows no price: the amounts are handed in.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from bessemer.core.errors import ConfigError, Conflict, NotFound
from bessemer.core.nouns import Noun
from bessemer.core.units import Money
from bessemer.serve.accounts.alerts import Alerts
from bessemer.serve.accounts.audit import LOCAL, Scribe
from bessemer.serve.accounts.database import Database, Execute
from bessemer.serve.accounts.rates import Scope, check_scope

Period = Literal["day", "month", "total", "credit", "alert"]
_COLUMNS = "id, scope, scope_id, period, limit_micros, currency, enforced, created_at"
_SPANS: Mapping[Period, str] = {"day": "%Y-%m-%d", "month": "%Y-%m", "total": "", "credit": "", "alert": "%Y-%m"}
_MOST_MICROS = 2**60
_ALWAYS = 2.0**53
_MOST_ALERTS = 20
"""Of one scope: each is counted with every request."""


class Budget(Noun):
    """How much money may be spent.

    Attributes:
        scope: whose requests count.
        scope_id: of the project or key; empty for the organization.
        period: after which it starts anew, in UTC; never for ``total`` and for ``credit``, which was paid before. An
            ``alert`` is a month's and only tells; of those there may be several.
        limit: of a period; of credit all that was ever paid in.
        enforced: requests that could exceed it are refused; else it only tells (see `Spending`).
        created_at: Unix seconds.
    """

    id: str
    scope: Scope
    scope_id: str = ""
    period: Period
    limit: Money
    enforced: bool = True
    created_at: float

    def span(self, at: float) -> str:
        """Return the name of the span that a time falls into, such as ``2026-11``; a request counts to its start's."""
        return datetime.fromtimestamp(at, UTC).strftime(_SPANS[self.period])

    def span_end(self, at: float) -> float:
        """Return when the span ends that a time falls into, in Unix seconds; infinite if never."""
        if not _SPANS[self.period]:
            return float("inf")
        day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        later = day + timedelta(days=1 if self.period == "day" else 32)
        return (later if self.period == "day" else later.replace(day=1)).timestamp()


class Spending(Noun):
    """Where a budget stands in a span.

    Attributes:
        spent_micros: what finished requests were charged.
        reserved_micros: the worst case of those under way.
        overrun_micros: what requests were charged beyond their worst case: 0, or the worst case was none.
    """

    budget: Budget
    span: str
    spent_micros: int = 0
    reserved_micros: int = 0
    overrun_micros: int = 0

    @property
    def left_micros(self) -> int:
        """What is neither spent nor reserved; below zero only if the limit was lowered, or is not enforced."""
        return self.budget.limit.micros - self.spent_micros - self.reserved_micros


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one request may cost at most, and whose process answers it."""

    id: str
    micros: int
    books: str
    worker: str
    at: float


class Budgets:
    """All budgets.

    Args:
        database: of the accounts.
        clock: gives Unix seconds.
        actor: in whose name the audit log notes what is done here.
        currency: of the prices; amounts in others are refused. Empty takes any.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float] = time.time, actor: str = LOCAL, currency: str = ""
    ) -> None:
        self._database, self._clock, self._currency = database, clock, currency
        self._scribe, self._alerts = Scribe(actor, clock), Alerts(database, clock)

    def set(
        self, scope: Scope, scope_id: str, period: Literal["day", "month", "total"], limit: Money, enforced: bool = True
    ) -> Budget:
        """Set a budget, in place of the earlier one of this scope and period, whose spending goes on.

        A new budget counts from now on: nothing that was spent before, and of what is under way nothing.

        Raises:
            ConfigError: the limit is negative, or in another currency than the prices or the earlier one.
            NotFound: there is no such project or key.
        """
        wanted = self._new(scope, scope_id, period, limit, enforced)
        with self._database.changing() as execute:
            return self._put(execute, wanted, _in_force(execute, scope, scope_id, period))

    def set_alert(self, scope: Scope, scope_id: str, amount: Money, id: str = "") -> Budget:
        """Set what may be spent in a month before somebody is told, in place of the alert of that id, if one is given.

        Alerts stand beside each other and beside the budgets, and count as budgets do: from when they were set.

        Raises:
            ConfigError: the amount is not above 0, or in another currency than the prices or the earlier one.
            NotFound: there is no such project or key, or it has no such alert.
            Conflict: there are as many alerts as there may be.
        """
        if amount.micros <= 0:
            raise ConfigError(f"an alert at {amount} would never be told", hint="Give an amount above 0.")
        wanted = self._new(scope, scope_id, "alert", amount, enforced=False)
        with self._database.changing() as execute:
            there = _alerts(execute, scope, scope_id)
            earlier = next((each for each in there if each.id == id), None)
            if id and earlier is None:
                raise NotFound(f"there is no spend alert '{id}' here", hint="List those that there are.")
            if earlier is None and len(there) >= _MOST_ALERTS:
                raise Conflict(f"there are {_MOST_ALERTS} spend alerts here already", hint="Change or remove one.")
            budget = self._put(execute, wanted, earlier)
            if earlier is None:
                execute("INSERT INTO thresholds (budget, percents) VALUES (?, '100')", budget.id)
        return budget

    def alerts(self, scope: Scope, scope_id: str) -> tuple[Budget, ...]:
        """Return the alerts of one scope, the oldest first."""
        return _alerts(self._database.read, scope, scope_id)

    def add_credit(self, scope: Scope, scope_id: str, paid: Money, note: str = "") -> Budget:
        """Add what was paid before, or take off what was paid back (a negative amount); return the credit.

        Raises:
            ConfigError: nothing is added, more is taken off than was ever paid in, or the currency is another one.
            NotFound: there is no such project or key.
        """
        if paid.micros == 0:
            raise ConfigError("the credit to add is 0", hint="Give an amount.")
        with self._database.changing() as execute:
            earlier = _in_force(execute, scope, scope_id, "credit")
            before = earlier.limit if earlier else Money(currency=paid.currency)
            if before.currency != paid.currency:
                raise ConfigError(
                    f"the credit is in {before.currency}, not in {paid.currency}", hint="Use one currency."
                )
            budget = self._put(execute, self._new(scope, scope_id, "credit", before + paid), earlier)
            execute(
                "INSERT INTO credits (budget, micros, note, at) VALUES (?, ?, ?, ?)",
                budget.id, paid.micros, note, self._clock(),
            )  # fmt: skip
            self._scribe.note(execute, "credit.added", budget.id, _project(budget), micros=paid.micros, note=note)
        return budget

    def remove(self, id: str) -> Budget:
        """Lift a budget and return what it was; what is under way settles all the same.

        Raises:
            NotFound: there is none with that id.
        """
        with self._database.changing() as execute:
            budget = next((budget for budget in _all(execute) if budget.id == id), None)
            if budget is None:
                raise NotFound(f"there is no budget '{id}'", hint="`bessemer limits show` lists them.")
            execute("UPDATE budgets SET removed_at = ? WHERE id = ?", self._clock(), id)
            self._scribe.note(execute, "budget.deleted", id, _project(budget))
        return budget

    def list(self, scope: Scope | None = None, scope_id: str | None = None) -> tuple[Budget, ...]:
        """Return the budgets in force, of one scope if it is given."""
        found = _all(self._database.read)
        return tuple(each for each in found if scope in (None, each.scope) and scope_id in (None, each.scope_id))

    def spending(self, budget: Budget, at: float | None = None) -> Spending:
        """Return where a budget stands, now or in the span of another time."""
        span = budget.span(self._clock() if at is None else at)
        rows = self._database.read(
            "SELECT spent_micros, reserved_micros, overrun_micros FROM spend WHERE budget = ? AND span = ?",
            budget.id, span,
        )  # fmt: skip
        spent, reserved, overrun = rows[0] if rows else (0, 0, 0)
        return Spending(budget=budget, span=span, spent_micros=spent, reserved_micros=reserved, overrun_micros=overrun)

    def reserve(self, execute: Execute, budgets: Sequence[Budget], wanted: Reservation) -> Spending | None:
        """Reserve in all budgets, or return where the one stands that has not enough left: then undo the transaction.

        Args:
            execute: of a transaction.
            budgets: that the request falls under; what was changed or lifted meanwhile counts as it is now.
            wanted: at most this; its id is the request's.
        """
        spans = []
        for known in sorted(budgets, key=lambda each: each.id):  # the one order in which all workers lock their rows
            span = known.span(wanted.at)
            budget, spent, reserved = self.standing(execute, known, span)
            if budget.enforced and spent + reserved + wanted.micros > budget.limit.micros:
                return Spending(budget=budget, span=span, spent_micros=spent, reserved_micros=reserved)
            self.reserve_less(execute, (budget.id, span), -wanted.micros)
            spans.append((budget.id, span))
        if spans:
            execute(
                "INSERT INTO reservations (id, books, worker, micros, spans, at) VALUES (?, ?, ?, ?, ?, ?)",
                wanted.id, wanted.books, wanted.worker, wanted.micros, json.dumps(spans), wanted.at,
            )  # fmt: skip
        return None

    def standing(self, execute: Execute, known: Budget, span: str) -> tuple[Budget, int, int]:
        """Return a budget as it is now (one that was lifted enforces nothing), with what is spent and reserved of it.

        The row of its spending is locked until the end of the transaction.
        """
        execute(
            "INSERT INTO spend (budget, span, spent_micros, reserved_micros, overrun_micros)"
            " VALUES (?, ?, 0, 0, 0) ON CONFLICT DO NOTHING",
            known.id, span,
        )  # fmt: skip
        [(spent, reserved)] = execute(
            "SELECT spent_micros, reserved_micros FROM spend WHERE budget = ? AND span = ?" + self._database.lock_rows,
            known.id, span,
        )  # fmt: skip
        rows = execute(f"SELECT {_COLUMNS} FROM budgets WHERE id = ? AND removed_at IS NULL", known.id)
        budget = _budget(rows[0]) if rows else known.model_copy(update={"enforced": False})
        return budget, spent, reserved

    def reserve_less(self, execute: Execute, name: tuple[str, str], micros: int) -> None:
        """Reserve so much less, or more (below zero), of a budget's span."""
        execute("UPDATE spend SET reserved_micros = reserved_micros - ? WHERE budget = ? AND span = ?", micros, *name)

    def spend(self, execute: Execute, name: tuple[str, str], micros: int, overrun: int = 0, lost: int = 0) -> None:
        """Count what requests were charged to a budget's span, and tell whom it concerns.

        Args:
            execute: of a transaction.
            name: of the budget and the span.
            micros: what they were charged.
            overrun: how much of that was beyond what was reserved.
            lost: how much of that is counted because a power loss took what would tell.
        """
        execute(
            "UPDATE spend SET spent_micros = spent_micros + ?, overrun_micros = overrun_micros + ?"
            " WHERE budget = ? AND span = ?",
            micros, overrun, *name,
        )  # fmt: skip
        self._tell_if_reached(execute, *name, micros)
        self._alerts.note(execute, *name, micros)
        if lost:
            self._scribe.note(execute, "budget.counted_as_spent", name[0], span=name[1], micros=lost)

    def settle(self, execute: Execute, id: str, micros: int) -> bool:
        """Put what a request was charged in place of its reservation; return whether there still was one.

        Args:
            execute: of a transaction.
            id: of the request.
            micros: that it was charged; 0 releases the reservation.
        """
        rows = execute(f"SELECT micros, spans FROM reservations WHERE id = ?{self._database.lock_rows}", id)
        if not rows:
            return False
        reserved, spans = rows[0][0], json.loads(rows[0][1])
        execute("DELETE FROM reservations WHERE id = ?", id)
        for budget, span in spans:
            self.reserve_less(execute, (budget, span), reserved)
            self.spend(execute, (budget, span), micros, max(0, micros - reserved))
        return True

    def reserved(self, books: str, until: float = float("inf")) -> dict[str, tuple[str, ...]]:
        """Return the requests that have reservations, by the worker that took them, of those who write these books.

        Args:
            books: of whom.
            until: Unix seconds; later reservations are left out.
        """
        found: dict[str, tuple[str, ...]] = {}
        sql = "SELECT worker, id FROM reservations WHERE books = ? AND at <= ? ORDER BY id"
        for worker, id in self._database.read(sql, books, min(until, _ALWAYS)):
            found[worker] = (*found.get(worker, ()), id)
        return found

    def settle_all(self, charged: Iterable[tuple[str, int]]) -> int:
        """Settle requests by id and charge, each in its own transaction; return how many still were reserved.

        What a power loss takes back is settled again by the sweep, from the books.
        """
        settled = 0
        for id, micros in charged:  # together, they could lock the rows of budgets in another order than others do
            with self._database.writing(durable=False) as execute:
                settled += self.settle(execute, id, micros)
        return settled

    def _tell_if_reached(self, execute: Execute, budget: str, span: str, micros: int) -> None:
        [(spent, limit, scope, scope_id)] = execute(
            "SELECT spent_micros, limit_micros, scope, scope_id FROM spend JOIN budgets ON budgets.id = spend.budget"
            " WHERE budget = ? AND span = ?",
            budget, span,
        )  # fmt: skip
        if spent - micros < limit <= spent:
            project = scope_id if scope == "project" else ""
            self._scribe.note(execute, "budget.reached", budget, project, span=span, spent_micros=spent)

    def _new(self, scope: Scope, scope_id: str, period: Period, limit: Money, enforced: bool = True) -> Budget:
        id, now = f"bud_{secrets.token_hex(6)}", self._clock()
        return Budget(
            id=id, scope=scope, scope_id=scope_id, period=period, limit=limit, enforced=enforced, created_at=now
        )

    def _put(self, execute: Execute, budget: Budget, earlier: Budget | None) -> Budget:
        limit, enforced = budget.limit, budget.enforced
        if not 0 <= limit.micros <= _MOST_MICROS:
            raise ConfigError(f"a budget of {limit} cannot be", hint="Give an amount of 0 or more.")
        if self._currency not in ("", limit.currency):
            raise ConfigError(
                f"prices are in {self._currency}, and nothing in {limit.currency} can be held against them",
                hint=f"Give the amount in {self._currency}.",
                about="currency",
            )
        check_scope(execute, budget.scope, budget.scope_id)
        if earlier and earlier.limit.currency != limit.currency:
            other = f"the budget is in {earlier.limit.currency}, not in {limit.currency}"
            raise ConfigError(other, hint="Remove it first.", about="currency")
        if earlier:
            budget = budget.model_copy(update={"id": earlier.id, "created_at": earlier.created_at})
            execute(
                "UPDATE budgets SET limit_micros = ?, enforced = ? WHERE id = ?",
                limit.micros, int(enforced), budget.id,
            )  # fmt: skip
        else:
            execute(
                f"INSERT INTO budgets ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                budget.id, budget.scope, budget.scope_id, budget.period, limit.micros, limit.currency, int(enforced),
                budget.created_at,
            )  # fmt: skip
        told = budget.model_dump(mode="json", include={"scope", "scope_id", "period", "limit", "enforced"})
        self._scribe.note(execute, "budget.updated", budget.id, _project(budget), **told)
        return budget


def _all(execute: Execute) -> tuple[Budget, ...]:
    sql = f"SELECT {_COLUMNS} FROM budgets WHERE removed_at IS NULL ORDER BY scope, scope_id, period"
    return tuple(_budget(row) for row in execute(sql))


def _in_force(execute: Execute, scope: Scope, scope_id: str, period: Period) -> Budget | None:
    found = (each for each in _all(execute) if (each.scope, each.scope_id, each.period) == (scope, scope_id, period))
    return next(found, None)


def _alerts(execute: Execute, scope: Scope, scope_id: str) -> tuple[Budget, ...]:
    found = (each for each in _all(execute) if (each.scope, each.scope_id, each.period) == (scope, scope_id, "alert"))
    return tuple(sorted(found, key=lambda each: (each.created_at, each.id)))


def _budget(row: Sequence[object]) -> Budget:
    fields = dict(zip(_COLUMNS.split(", "), row, strict=True))
    limit = {"micros": fields.pop("limit_micros"), "currency": fields.pop("currency")}
    return Budget.model_validate({**fields, "limit": limit, "enforced": bool(fields["enforced"])})


def _project(budget: Budget) -> str:
    return budget.scope_id if budget.scope == "project" else ""
