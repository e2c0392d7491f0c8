"""Limits and budgets of the gateways that are killed: one budget is spent again and again, and raised while they run.

Afterwards the accounts must say the same as the books, to the micro-unit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import TracebackType

from bessemer.core.nouns import Entry
from bessemer.core.units import Money
from bessemer.meter import LocalMeter
from bessemer.products.home import Home
from bessemer.products.limiting import open_gate
from bessemer.products.llm.config import LlmConfig
from bessemer.serve import Budget, open_accounts

PRICES = """
version = "killed"
currency = "USD"
[default]
input = 1_300_000
cached = 250_000
output = 7_100_000
"""
_AMPLE = Money(micros=10**12)
_STEP_MICROS = 6_000
"""More than any request may cost at most, and about what the poor project spends until a gateway is killed."""


class Purses:
    """Two projects with limits of requests and tokens; one has a budget that does not last, the organization has
    one that only tells.

    Args:
        home: of the gateways; its accounts stay open here beside theirs.

    Attributes:
        rich: secret of a key whose requests are all let in.
        poor: secret of a key whose budget is spent again and again.
    """

    def __init__(self, home: Home) -> None:
        self._home, self._accounts = home, open_accounts(home.accounts)
        (self.rich, self.poor) = (self._accounts.keys.create(project)[1] for project in ("rich", "poor"))
        for project in ("rich", "poor"):
            self._accounts.rates.set("project", project, requests=6_000_000, tokens=6_000_000_000)
        budgets = self._accounts.budgets
        budgets.set("organization", "", "total", _AMPLE, enforced=False)
        budgets.set("project", "rich", "total", _AMPLE)
        self._poor = budgets.set("project", "poor", "total", Money(micros=_STEP_MICROS))

    def __enter__(self) -> Purses:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._accounts.close()

    def fill(self) -> None:
        """Raise the budget of the poor if it is spent."""
        budgets, limit = self._accounts.budgets, self._poor.limit.micros
        if limit - budgets.spending(self._poor).spent_micros < _STEP_MICROS:
            self._poor = budgets.set("project", "poor", "total", Money(micros=limit + _STEP_MICROS))

    def sweep(self, meter: LocalMeter) -> None:
        """Do what a last gateway does that starts and closes; its meter has booked what was cut."""
        open_gate(self._accounts, self._home, meter.price_history, LlmConfig(), time.time).close()

    def misspent(self, entries: Iterable[Entry]) -> list[str]:
        """Return what is wrong with the budgets, in words; they are swept."""
        charges = [(entry.subject.project, entry.charge.micros) for entry in entries]
        found = []
        for budget in self._accounts.budgets.list():
            at = self._accounts.budgets.spending(budget)
            charged = sum(micros for project, micros in charges if _counts(budget, project))
            if at.spent_micros != charged or at.reserved_micros or at.overrun_micros or at.left_micros < 0:
                found.append(f"{charged} was charged, but {at}")
        return found


def _counts(budget: Budget, project: str) -> bool:
    return budget.scope == "organization" or budget.scope_id == project


async def refused(reader: asyncio.StreamReader, fields: dict[str, str]) -> str:
    """Return the id of a request that a budget refused, of whose answer only the head was read; wait a moment."""
    told = await reader.readexactly(int(fields["content-length"]))
    assert b"budget" in told, told
    await asyncio.sleep(0.02)
    return fields["x-request-id"]
