"""Lets a request in: what limits it is found, taken and reserved, and put right when its charge is known.

Where nothing limits a request this costs a look into a dictionary; where something does, a few microseconds in memory
(`holding`). Only when what this process holds has run out, a thread of its own talks to the database, so that the event
loop never waits for a disk. A line of a batch reserves its money in the database itself: it has the same id when
another process asks it again.

Owns which limits and budgets a request falls under. Knows no price and no ledger: both are handed in.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from bessemer.core.errors import BessemerError
from bessemer.core.forwarding import Spent
from bessemer.core.nouns import Subject, Usage
from bessemer.serve.accounts.budgets import Budget, Budgets, Reservation, Spending
from bessemer.serve.accounts.database import Database, Execute
from bessemer.serve.accounts.holding import Holding
from bessemer.serve.accounts.refusing import Headers, refuse_money
from bessemer.serve.accounts.rulebook import Name, RuleBook, Rules
from bessemer.serve.accounts.standing import Permit
from bessemer.serve.accounts.tariffs import Pricing
from bessemer.serve.accounts.workers import JOBS, Charged, Worker, sweep
from bessemer.serve.keys import Key
from bessemer.serve.observing import Seen
from bessemer.serve.refusals import Refusal, Refused, closed_model

logger = logging.getLogger("bessemer.serve")

T = TypeVar("T")

_BYTES_PER_TOKEN = 4
"""Of English text, about. Source: OpenAI Help Center, What are tokens and how to count them?"""
_SWEEP_SECONDS = 1.0
_TEND_SECONDS = 0.25
"""After so long at most the database knows what requests were charged."""
_KEPT_BY = 600.0
"""Seconds after its reservation by which a job is kept, or never will be."""


@dataclass(frozen=True, slots=True)
class _Need:
    """What one request is let in for."""

    subject: Subject
    micros: int
    tokens: int
    rules: Rules


class Hold:
    """What one request holds, from being let in until its charge is known; an asynchronous context manager.

    Attributes:
        headers: that tell the client where its rate limits are; empty where it has none.
        seen: what became of the request, from its span; None if it never came to be metered.
    """

    def __init__(self, gate: Gate, need: _Need) -> None:
        self._gate, self._need = gate, need
        self._permit: Permit | None = None
        self.headers: Headers = ()
        self.seen: Seen | None = None

    async def __aenter__(self) -> Hold:
        """Take and reserve.

        Raises:
            Refused: there is not enough left of a rate limit or a budget.
        """
        need, found = self._need, None
        if not need.rules.lasting:
            found = self._gate.admit_now(need.rules, need.subject.id, need.tokens, need.micros)
        if isinstance(found, Refusal):
            raise Refused(found)
        self._permit = found or await self._admitted()
        self.headers = need.rules.standing.headers()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Settle with what the books say; what they could not be told stays reserved."""
        if self.seen is None:
            charge, tokens = 0, 0
        elif self.seen.entry is None:
            logger.error("request %s could not be booked: its reservation stays", self._need.subject.id)
            return
        else:
            charge, tokens = self.seen.entry.charge.micros, self.seen.entry.usage.total_tokens
        if self._permit:
            self._gate.settle(self._permit, charge, tokens)
        if self._need.rules.lasting:
            await _settled(self._gate.call(self._gate.settle_lasting, self._need.subject.id, charge))

    async def _admitted(self) -> Permit:
        future = self._gate.call(self._gate.admit, self._need)
        try:
            return await _settled(future)
        except asyncio.CancelledError:
            if not future.exception():
                self._permit = future.result()
                await self.__aexit__()
            raise


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
        pricing: says what a request may cost at most.
        worker: this process.
        charged: says of requests of dead processes what they were charged.
        clock: gives Unix seconds.
    """

    def __init__(
        self,
        database: Database,
        pricing: Pricing,
        worker: Worker,
        charged: Charged,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._worker, self._clock = database, worker, clock
        self._charged = charged
        self._budgets = Budgets(database, clock)
        self._holding = Holding(database, self._budgets, worker, clock)
        self._book = RuleBook(database, self._holding, pricing, clock)
        self._late: dict[str, int] = {}
        self._unbooked: list[tuple[Permit, Spent]] = []
        self._swept_at = float("-inf")
        self._drawer = ThreadPoolExecutor(1, "limits")
        self._closed, self._busy = threading.Event(), threading.Event()
        self._tender = threading.Thread(target=self._tend, name="limits tender", daemon=True)
        self._holding.busy = self._busy.set
        self.recover()
        self._tender.start()

    def hold(self, subject: Subject, most: Usage, likely_tokens: int) -> Hold | _Free:
        """Return what lets a request in when it is entered.

        Args:
            subject: whose request it is.
            most: tokens that it may take: never fewer than the engine will count. None are free, whatever is spent.
            likely_tokens: that it is counted with against tokens per minute until the real number is known.
        """
        rules = self.rules((subject.project, subject.key_id, subject.model, subject.service_tier, subject.batch))
        if rules is None:
            return _FREE
        micros = 0 if most == Usage() else rules.tariff.worst(most.input_tokens, most.output_tokens, most.units)
        return Hold(self, _Need(subject, micros, likely_tokens, rules))

    def rules(self, name: Name) -> Rules | None:
        """Return what limits the requests of a key to a model, None if nothing does.

        Raises:
            Refused: a budget is in another currency than the prices.
        """
        return self._book.rules(name)

    def admit_now(self, rules: Rules, id: str, tokens: int, micros: int) -> Permit | Refusal | None:
        """Let a request in from what this process holds, refuse it, or return None: then `admit` knows.

        Args:
            rules: from `rules`.
            id: of the request.
            tokens: that it is likely to take.
            micros: that it may be charged at most.
        """
        return self._holding.admit(rules.standing, id, tokens, micros)

    def settle(self, permit: Permit, micros: int, tokens: int) -> None:
        """Put what a request was charged and took in the place of what it was let in with. Returns at once."""
        self._holding.settle(permit, micros, tokens)

    def settle_when_booked(self, permit: Permit, spent: Spent) -> None:
        """Do the same as soon as the books have a request that they could not be told of yet."""
        logger.error("request %s could not be booked yet: its reservation stays", spent.id)
        self._unbooked.append((permit, spent))
        self._busy.set()

    def reserve_job(self, subject: Subject, most: Usage) -> None:
        """Reserve what a job may be charged at most, until `settle_job`, whichever process ends it. Waits for the disk.

        Args:
            subject: of the entry that will be booked; its id is the reservation's.
            most: tokens that may be charged.

        Raises:
            Refused: a budget has not enough left, or is in another currency than the prices.
        """
        tariff, budgets = self._book.priced(subject)
        if budgets:
            micros = tariff.worst(most.input_tokens, most.output_tokens, most.units)
            wanted = Reservation(subject.id, micros, self._worker.books, JOBS, self._clock())
            self._drawer.submit(self._reserve_job, wanted, budgets).result()

    def settle_job(self, id: str, micros: int) -> None:
        """Put what a job was charged in the place of its reservation, if it has one; again changes nothing."""
        self._drawer.submit(self._budgets.settle_all, [(id, micros)]).result()

    def release_jobs(self, is_known: Callable[[str], bool]) -> int:
        """Release what was reserved a while ago for jobs that were then never kept; return how many those were."""
        ids = self._budgets.reserved(self._worker.books, self._clock() - _KEPT_BY).get(JOBS, ())
        return self._budgets.settle_all([(id, 0) for id in ids if not is_known(id)])

    def recover(self) -> int:
        """Settle what dead processes that wrote these books left reserved; return how many requests that were."""
        self._swept_at = self._database.clock()
        return sweep(self._budgets, self._holding.leases, self._worker, self._charged)

    def close(self) -> None:
        """Give back what is held, and settle what could not be before; the database is closed by its owner."""
        self._drawer.shutdown()
        self._closed.set()
        self._busy.set()
        self._tender.join()
        self._settle_late()
        try:
            self._settle_unbooked()
            self._holding.close()
        except BessemerError as error:  # what is held is settled by others, from the books
            logger.error("what is held of limits could not be given back: %s", error.code)
        self._worker.close()

    def call(self, function: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Return the future of a call in the gate's thread."""
        future: Future[T] = self._drawer.submit(function, *args)
        return asyncio.wrap_future(future)

    def admit(self, need: _Need) -> Permit:
        """Draw what a request needs. Waits for the database.

        Raises:
            Refused: there is not enough left.
        """
        self._settle_late()
        try:
            return self._admit(need)
        except Refused:
            if not (need.rules.standing.money or need.rules.lasting) or not self._swept():
                raise
            return self._admit(need)  # what a dead process had reserved is free again

    def settle_lasting(self, id: str, micros: int) -> None:
        """Put what was charged in the place of what a line of a batch reserved; never raises."""
        try:
            self._budgets.settle_all([(id, micros)])  # what a power loss takes back, the sweep settles
        except BessemerError as error:
            logger.error("request %s could not be settled yet: %s", id, error.code)
            self._late[id] = micros

    def _swept(self) -> bool:
        """Whether a sweep, one a second at most, settled anything."""
        if self._database.clock() - self._swept_at < _SWEEP_SECONDS:
            return False
        try:
            return self.recover() > 0
        except (BessemerError, OSError, sqlite3.Error) as error:  # whoever is refused is told so all the same
            logger.error("reservations of dead processes could not be settled: %s", type(error).__name__)
            return False

    def _admit(self, need: _Need) -> Permit:
        rules, subject = need.rules, need.subject
        wanted = Reservation(subject.id, need.micros, self._worker.books, self._worker.id, self._clock())

        def also(execute: Execute) -> Spending | None:
            return self._budgets.reserve(execute, rules.lasting, wanted)

        needed = need.tokens, need.micros
        return self._holding.draw(rules.standing, subject.id, needed, also if rules.lasting else None)

    def _reserve_job(self, wanted: Reservation, budgets: tuple[Budget, ...]) -> None:
        self._holding.let_go()  # a job may need what is held here ahead
        with self._database.writing(durable=True) as execute:
            if at := self._budgets.reserve(execute, budgets, wanted):
                raise Refused(refuse_money(at, wanted.micros, ()))

    def _settle_late(self) -> None:
        try:
            for id, micros in list(self._late.items()):
                self._budgets.settle_all([(id, micros)])
                del self._late[id]
        except BessemerError as error:
            logger.error("%d requests could not be settled yet: %s", len(self._late), error.code)

    def _settle_unbooked(self) -> None:
        for each in list(self._unbooked):
            permit, spent = each
            if spent.terms is not None:
                self._holding.settle(permit, spent.charge_micros, spent.usage[0] + spent.usage[1])
                self._unbooked.remove(each)

    def _tend(self) -> None:
        """Tend what is held, in a thread of its own, as long as there is something to tend."""
        wait: float | None = None
        while not self._closed.is_set():
            self._busy.wait(wait)
            self._busy.clear()
            try:
                self._settle_unbooked()
                more = self._holding.tend()
            except Exception as error:  # it is tried again
                logger.error("limits could not be tended: %s", type(error).__name__)
                more = True
            wait = _TEND_SECONDS if more or self._unbooked else None


def let_in(gate: Gate | None, key: Key, subject: Subject, most: Usage) -> Hold | _Free:
    """Return what lets a request in when it is entered; see `Gate.hold`.

    A token is at least one byte of the text that it stands for, and the marks around a message are fewer than the
    bytes of its JSON: so the body bounds what the client's own words can come to.

    Args:
        gate: None limits nothing.
        key: whose request it is.
        subject: the same for the books.
        most: that may be used, of all choices together; the input in bytes of the request.

    Raises:
        Refused: the key is not for this model.
    """
    if not key.may_ask(subject.model):
        raise Refused(closed_model(subject.model))
    if gate is None:
        return _FREE
    return gate.hold(subject, most, likely_tokens(most.input_tokens, most.output_tokens))


def likely_tokens(body_bytes: int, output_tokens: int) -> int:
    """Return with how many tokens a request is counted until the real number is known."""
    return body_bytes // _BYTES_PER_TOKEN + output_tokens


async def _settled(future: asyncio.Future[T]) -> T:
    """Return the result of a future. When cancelled meanwhile, wait for its end all the same, then be cancelled."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
