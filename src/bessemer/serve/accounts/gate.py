"""Lets a request in: what limits it is found, taken and reserved, and put right when its charge is known.

Where nothing limits a request this costs a look into a dictionary. Where something does, a thread of its own talks to
the database, so that the event loop never waits for a disk.

Owns the order: rates first, then budgets, in one transaction. Knows no price and no ledger: both are handed in.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from bessemer.core.errors import BessemerError, ConfigError
from bessemer.core.nouns import Subject, Usage
from bessemer.core.units import Money
from bessemer.serve.accounts.budgets import Budget, Budgets, Reservation
from bessemer.serve.accounts.database import Database
from bessemer.serve.accounts.rates import Level, RateLimit, RateLimits
from bessemer.serve.accounts.refusing import Headers, rate_headers, refuse_money, refuse_rate
from bessemer.serve.accounts.workers import JOBS, Charged, Worker, sweep
from bessemer.serve.keys import Key
from bessemer.serve.observing import Seen
from bessemer.serve.refusals import Refused, closed_model

logger = logging.getLogger("bessemer.serve")

T = TypeVar("T")
Worst = Callable[[Subject, Usage], Money]
"""From whose request it is, and the most tokens that it may take, to the most that it may be charged."""

_BYTES_PER_TOKEN = 4
"""Of English text, about. Source: OpenAI Help Center, What are tokens and how to count them?"""
_REMEMBERED_AT_MOST = 20_000
_SWEEP_SECONDS = 1.0
_KEPT_BY = 600.0
"""Seconds after its reservation by which a job is kept, or never will be."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What limits the requests of a key to a model."""

    rates: tuple[RateLimit, ...]
    budgets: tuple[Budget, ...]

    @property
    def settled_later(self) -> bool:
        """Whether anything is put right when the charge is known."""
        return bool(self.budgets) or any(limit.tokens_per_minute is not None for limit in self.rates)


@dataclass(frozen=True, slots=True)
class _Need:
    """What one request is let in for."""

    subject: Subject
    most: Usage
    likely_tokens: int
    rules: Rules


class Hold:
    """What one request holds, from being let in until its charge is known; an asynchronous context manager.

    Attributes:
        headers: that tell the client where its rate limits are; empty where it has none.
        seen: what became of the request, from its span; None if it never came to be metered.
    """

    def __init__(self, gate: Gate, need: _Need) -> None:
        self._gate, self._need = gate, need
        self.headers: Headers = ()
        self.seen: Seen | None = None

    async def __aenter__(self) -> Hold:
        """Take and reserve.

        Raises:
            Refused: there is not enough left of a rate limit or a budget.
        """
        future = self._gate.call(self._gate.admit, self._need)
        try:
            self.headers = await _settled(future)
        except asyncio.CancelledError:
            if not future.exception():
                await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Settle with what the books say; what they could not be told stays reserved."""
        if not self._need.rules.settled_later:
            return
        if self.seen is None:
            charge, tokens = 0, 0
        elif self.seen.entry is None:
            logger.error("request %s could not be booked: its reservation stays", self._need.subject.id)
            return
        else:
            charge, tokens = self.seen.entry.charge.micros, self.seen.entry.usage.total_tokens
        await _settled(self._gate.call(self._gate.settle, self._need, charge, tokens))


class _Free:
    """Holds nothing, for requests that nothing limits."""

    headers: Headers = ()
    seen: Seen | None = None

    async def __aenter__(self) -> _Free:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __setattr__(self, name: str, value: object) -> None:
        """Keep nothing: all such requests share one object."""


_FREE = _Free()


class Gate:
    """Lets requests in, within the limits and budgets of a database of accounts.

    Args:
        database: of the accounts.
        worst: says what a request may cost at most.
        worker: this process.
        charged: says of requests of dead processes what they were charged.
        clock: gives Unix seconds.
    """

    def __init__(
        self, database: Database, worst: Worst, worker: Worker, charged: Charged, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._worst, self._worker, self._clock = database, worst, worker, clock
        self._charged = charged
        self._rates, self._budgets = RateLimits(database, clock), Budgets(database, clock)
        self._rules: dict[tuple[str, str, str], Rules | None] = {}
        self._all = Rules((), ())
        self._rules_at = -1
        self._late: dict[str, int] = {}
        self._swept_at = float("-inf")
        self._thread = ThreadPoolExecutor(1, "limits")
        self.recover()

    def hold(self, subject: Subject, most: Usage, likely_tokens: int) -> Hold | _Free:
        """Return what lets a request in when it is entered.

        Args:
            subject: whose request it is.
            most: tokens that it may take: never fewer than the engine will count.
            likely_tokens: that it is counted with against tokens per minute until the real number is known.
        """
        rules = self._rules_of(subject.project, subject.key_id, subject.model)
        return _FREE if rules is None else Hold(self, _Need(subject, most, likely_tokens, rules))

    def limits(self, project: str, key_id: str, model: str) -> bool:
        """Return whether anything limits the requests of a key to a model."""
        return self._rules_of(project, key_id, model) is not None

    def reserve_job(self, subject: Subject, most: Usage) -> None:
        """Reserve what a job may be charged at most, until `settle_job`, whichever process ends it. Waits for the disk.

        Args:
            subject: of the entry that will be booked; its id is the reservation's.
            most: tokens that may be charged.

        Raises:
            Refused: a budget has not enough left.
        """
        rules = self._rules_of(subject.project, subject.key_id, subject.model)
        if rules is None or not rules.budgets:
            return
        need = _Need(subject, most, 0, Rules((), rules.budgets))
        self._thread.submit(self._reserve_job, need).result()

    def settle_job(self, id: str, micros: int) -> None:
        """Put what a job was charged in the place of its reservation, if it has one; again changes nothing."""
        self._thread.submit(self._budgets.settle_all, [(id, micros)]).result()

    def release_jobs(self, is_known: Callable[[str], bool]) -> int:
        """Release what was reserved a while ago for jobs that were then never kept; return how many those were."""
        ids = self._budgets.reserved(self._worker.books, self._clock() - _KEPT_BY).get(JOBS, ())
        return self._budgets.settle_all([(id, 0) for id in ids if not is_known(id)])

    def recover(self) -> int:
        """Settle what dead processes that wrote these books left reserved; return how many requests that were."""
        self._swept_at = self._database.clock()
        return sweep(self._budgets, self._worker, self._charged)

    def close(self) -> None:
        """Settle what could not be settled before; the database is closed by its owner."""
        self._thread.shutdown()
        self._settle_late()
        self._worker.close()

    def call(self, function: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Return the future of a call in the gate's thread."""
        future: Future[T] = self._thread.submit(function, *args)
        return asyncio.wrap_future(future)

    def admit(self, need: _Need) -> Headers:
        """Take and reserve what a request needs; return the headers that tell where its rate limits are.

        Raises:
            Refused: there is not enough left.
        """
        self._settle_late()
        try:
            return self._admit(need)
        except Refused:
            if not need.rules.budgets or not self._swept():
                raise
            return self._admit(need)  # what a dead process had reserved is free again

    def settle(self, need: _Need, micros: int, tokens: int) -> None:
        """Put what a request was charged and used in the place of what it was let in with; never raises."""
        try:
            with self._database.writing(durable=False) as execute:  # what a power loss takes back, the sweep settles
                self._rates.correct(execute, need.rules.rates, need.likely_tokens - tokens)
                if need.rules.budgets:
                    self._budgets.settle(execute, need.subject.id, micros)
        except BessemerError as error:
            logger.error("request %s could not be settled yet: %s", need.subject.id, error.code)
            if need.rules.budgets:
                self._late[need.subject.id] = micros

    def _swept(self) -> bool:
        """Whether a sweep, one a second at most, settled anything."""
        if self._database.clock() - self._swept_at < _SWEEP_SECONDS:
            return False
        try:
            return self.recover() > 0
        except (BessemerError, OSError, sqlite3.Error) as error:  # whoever is refused is told so all the same
            logger.error("reservations of dead processes could not be settled: %s", type(error).__name__)
            return False

    def _admit(self, need: _Need) -> Headers:
        rules, now = need.rules, self._clock()
        with self._database.writing(durable=bool(rules.budgets)) as execute:
            levels = self._rates.take(execute, rules.rates, need.likely_tokens, now)
            if short := [level for level in levels if level.left < 0]:
                raise Refused(refuse_rate(max(short, key=lambda level: level.wait_seconds), levels))
            if rules.budgets:
                wanted = self._reservation(need, now)
                if at := self._budgets.reserve(execute, rules.budgets, wanted):
                    raise Refused(refuse_money(at, wanted.micros, _back(levels)))
        return rate_headers(levels)

    def _reserve_job(self, need: _Need) -> None:
        wanted = replace(self._reservation(need, self._clock()), worker=JOBS)
        with self._database.writing(durable=True) as execute:
            if at := self._budgets.reserve(execute, need.rules.budgets, wanted):
                raise Refused(refuse_money(at, wanted.micros, ()))

    def _reservation(self, need: _Need, now: float) -> Reservation:
        worst = self._worst(need.subject, need.most)
        for budget in need.rules.budgets:
            if budget.limit.currency != worst.currency:
                raise ConfigError(
                    f"the budget {budget.id} is in {budget.limit.currency}, and prices are in {worst.currency}",
                    hint="Remove the budget, or name a price book in its currency.",
                )
        return Reservation(need.subject.id, worst.micros, self._worker.books, self._worker.id, now)

    def _settle_late(self) -> None:
        try:
            for id, micros in list(self._late.items()):
                self._budgets.settle_all([(id, micros)])
                del self._late[id]
        except BessemerError as error:
            logger.error("%d requests could not be settled yet: %s", len(self._late), error.code)

    def _rules_of(self, project: str, key_id: str, model: str) -> Rules | None:
        version = self._database.version()
        if version != self._rules_at:
            self._all = Rules(self._rates.list(), self._budgets.list())
            self._rules, self._rules_at = {}, version
        name = (project, key_id, model)
        return self._rules[name] if name in self._rules else self._find(*name)

    def _find(self, project: str, key_id: str, model: str) -> Rules | None:
        scopes = {("organization", ""), ("project", project), ("key", key_id)}
        rates = tuple(r for r in self._all.rates if (r.scope, r.scope_id) in scopes and r.model in ("", model))
        budgets = tuple(b for b in self._all.budgets if (b.scope, b.scope_id) in scopes)
        if len(self._rules) >= _REMEMBERED_AT_MOST:
            self._rules = {}
        rules = self._rules[project, key_id, model] = Rules(rates, budgets) if rates or budgets else None
        return rules


def let_in(
    gate: Gate | None, key: Key, subject: Subject, body_bytes: int, output_tokens: int, units: int = 0
) -> Hold | _Free:
    """Return what lets a request in when it is entered; see `Gate.hold`.

    A token is at least one byte of the text that it stands for, and the marks around a message are fewer than the
    bytes of its JSON: so the body bounds what the client's own words can come to.

    Args:
        gate: None limits nothing.
        key: whose request it is.
        subject: the same for the books.
        body_bytes: of the request.
        output_tokens: that may be made, of all choices together.
        units: that may be delivered.

    Raises:
        Refused: the key is not for this model.
    """
    if not key.may_ask(subject.model):
        raise Refused(closed_model(subject.model))
    if gate is None:
        return _FREE
    most = Usage(input_tokens=body_bytes, output_tokens=output_tokens, units=units)
    return gate.hold(subject, most, body_bytes // _BYTES_PER_TOKEN + output_tokens)


def _back(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """Return where buckets are when what was taken is put back, as it is when a budget refuses."""
    return tuple(Level(at.rate_limit, at.unit, at.limit, 0, at.left + at.needed) for at in levels)


async def _settled(future: asyncio.Future[T]) -> T:
    """Return the result of a future. When cancelled meanwhile, wait for its end all the same, then be cancelled."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
