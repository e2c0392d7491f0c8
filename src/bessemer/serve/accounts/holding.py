"""What this process holds of limits and budgets, from which it lets requests in without waiting.

    admit, settle   in memory, from any thread, microseconds
    draw            the long way: one request draws what it needs and a block ahead; waits for the database
    tend            in the background: tells the database what was charged, draws before a block runs out, gives back
                    what is idle

A request is entered on the slate before it is let in, so that after a kill the books say what it was charged.

Owns the order of memory and database. Knows no key, no price and no HTTP server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from bessemer.core.errors import BackendError
from bessemer.serve.accounts.blocks import IDLE_SECONDS, Charged, MoneyBlock, RateBlock
from bessemer.serve.accounts.budgets import Budget, Budgets
from bessemer.serve.accounts.database import Database
from bessemer.serve.accounts.drawing import Also, Draw
from bessemer.serve.accounts.leases import Leases, Round
from bessemer.serve.accounts.rates import RateLimit
from bessemer.serve.accounts.slates import Slate
from bessemer.serve.accounts.standing import Permit, Standing
from bessemer.serve.accounts.workers import Worker
from bessemer.serve.refusals import TOO_MANY, Refusal, Refused

_REFRESH_SECONDS = 1.0
"""A block of a rate limit that is in use is drawn again after so long, so that it does not lapse."""


class Holding:
    """The blocks of this process.

    Args:
        database: of the accounts.
        budgets: counts spending.
        worker: this process.
        clock: gives Unix seconds.

    Attributes:
        busy: is called, maybe often, when there is something to tend soon.
    """

    def __init__(
        self, database: Database, budgets: Budgets, worker: Worker, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._worker, self._clock = database, worker, clock
        self.leases = Leases(database, budgets, worker.books, worker.id)
        self._lock, self._trade = threading.Lock(), threading.Lock()
        self._money: dict[tuple[str, str, bool], MoneyBlock] = {}
        self._rates: dict[tuple[str, str], RateBlock] = {}
        self._touched_money, self._touched_rates = set[MoneyBlock](), set[RateBlock]()
        self._slate: Slate | None = None
        self._round, self._places, self._untold = 1, list[int](), list[Round]()
        self.busy: Callable[[], None] = lambda: None

    def stand(self, rates: Iterable[RateLimit], budgets: Iterable[Budget], now: float) -> Standing:
        """Return the blocks of limits and budgets, of the spans that a time falls into.

        What changed since the last time is not believed any more: the next request asks the database.
        """
        with self._lock:
            return Standing(
                [self._rate_block(limit, name) for limit in rates for name, _ in limit.units()],
                [self._money_block(budget, now) for budget in budgets],
                min((budget.span_end(now) for budget in budgets), default=float("inf")),
            )

    def admit(self, standing: Standing, id: str, tokens: int, micros: int) -> Permit | Refusal | None:
        """Let a request in, refuse it, or return None: then `draw` knows. Returns at once.

        Args:
            standing: from `stand`.
            id: of the request, by which the books know it.
            tokens: that it is likely to take.
            micros: that it may be charged at most.
        """
        at = self._database.clock()
        with self._lock:
            for needed, blocks in ((1, standing.requests), (tokens, standing.tokens)):
                for rate in blocks:
                    if rate.left < needed or at >= rate.until:
                        return rate.refusal if at < rate.refused_until and needed >= rate.refused_for else None
            for money in standing.money:
                if not money.known or (money.free < micros and money.hard):
                    return money.refusal if micros >= money.spent_for else None
            if standing.money and (self._slate is None or self._slate.is_full):
                return None
            return self._enter(standing, id, (1, tokens), tokens, micros, at)

    def draw(self, standing: Standing, id: str, need: tuple[int, int], also: Also | None = None) -> Permit:
        """Let a request in by drawing what it needs. Waits for the database.

        Args:
            standing: from `stand`.
            id: of the request.
            need: tokens that it is likely to take, and micro-units that it may be charged at most.
            also: reserves in the same transaction; the permit does not hold that.

        Raises:
            Refused: there is not enough left.
            BackendError: the database does not answer.
        """
        with self._trade:
            self._tell()
            if standing.money and self._open_slate().is_full:
                raise Refused(TOO_MANY)
            now, at = self._clock(), self._database.clock()
            with self._lock:
                draw = Draw.of(standing, need, at)
            try:
                with self._database.writing(durable=bool(standing.money or also)) as execute:
                    draw.carry_out(self.leases, execute, now, also)
            except Refused:
                with self._lock:
                    draw.put_back()
                raise
            except BaseException:
                with self._lock:
                    self._touch(draw.doubt())
                raise
            with self._lock:
                draw.take_in()
                return self._enter(standing, id, (0, 0), *need, at)  # rates were taken by drawing

    def settle(self, permit: Permit, micros: int, tokens: int) -> None:
        """Put what a request was charged and took in the place of what it held. Returns at once."""
        standing = permit.standing
        with self._lock:
            for rate in standing.tokens:
                rate.correct(permit.tokens - tokens)
                if not rate.touched:
                    self._touch([rate])
            for money in standing.money:
                money.settle(permit.micros, micros)
                if not money.touched:
                    self._touch([money])
            if permit.place >= 0 and self._slate:
                self._slate.settle(permit.place, self._round)
                self._places.append(permit.place)

    def tend(self) -> bool:
        """Do what is to be done in the background; return whether there will be more to do.

        Raises:
            BackendError: the database does not answer; nothing is lost.
        """
        with self._trade:
            at = self._database.clock()
            with self._lock:
                for block in self._touched_money:
                    if block.hard and block.known:
                        block.give_back(at)
            self._tell()
            self._tend_rates(at)
            self._top_up(at)
        return bool(self._touched_money or self._touched_rates)

    def let_go(self) -> None:
        """Give back all that is free, so that others find it.

        Raises:
            BackendError: the database does not answer.
        """
        with self._trade:
            self._let_go()

    def close(self) -> bool:
        """Give everything back, and return whether nothing was held any more.

        What requests still hold that could not be booked is settled by others, from the books.

        Raises:
            BackendError: the database does not answer.
        """
        with self._trade:
            done = False
            try:
                self._let_go()
                self._tend_rates(float("inf"))
                done = not self._touched_money
                if done and self._slate:
                    with self._database.writing() as execute:  # durable: what was given back stays so
                        self.leases.unregister(execute)
            finally:
                if self._slate:
                    self._slate.close(keep=not done)
        return done

    # --- memory, under the lock -------------------------------------------------------------------------------------

    def _enter(
        self, standing: Standing, id: str, taken: tuple[int, int], tokens: int, micros: int, at: float
    ) -> Permit:
        low, place = False, -1
        if standing.money and standing.number < 0:
            self._number(standing)
        for rate in standing.requests:
            low |= rate.take(taken[0], at) or not rate.touched
        for rate in standing.tokens:
            low |= rate.take(taken[1], at) or not rate.touched
        if standing.money:
            assert self._slate
            place = self._slate.enter(id, standing.number)
            for money in standing.money:
                low |= money.reserve(micros, at) or not money.touched
        if low:
            self._touch((*standing.requests, *standing.tokens, *standing.money))
        return Permit(standing, tokens, micros, place)

    def _touch(self, blocks: Iterable[RateBlock | MoneyBlock]) -> None:
        """See to it that blocks are tended soon."""
        for block in blocks:
            block.touched = True
            if isinstance(block, MoneyBlock):
                self._touched_money.add(block)
            else:
                self._touched_rates.add(block)
        self.busy()

    def _number(self, standing: Standing) -> None:
        if self._slate:
            standing.number = self._slate.number(tuple((block.budget.id, block.span) for block in standing.money))

    def keep(self, rates: Iterable[RateLimit], budgets: Iterable[Budget], now: float) -> None:
        """Forget the blocks of what is not in force any more; what they hold is told and given back all the same."""
        names, spans = {limit.id for limit in rates}, {(budget.id, budget.span(now)) for budget in budgets}
        with self._lock:
            self._rates = {name: block for name, block in self._rates.items() if name[0] in names}
            self._touched_rates = {block for block in self._touched_rates if block.limit.id in names}
            self._money = {
                name: block for name, block in self._money.items() if name[:2] in spans or block in self._touched_money
            }

    def _rate_block(self, limit: RateLimit, unit: str) -> RateBlock:
        name, most = next(each for each in limit.units() if each[0] == unit)
        block = self._rates.get((limit.id, unit))
        if block is None:
            block = self._rates[limit.id, unit] = RateBlock(limit, name, most)
        elif block.limit != limit:
            block.renew(limit, most)
            self._touch([block])
        return block

    def _money_block(self, budget: Budget, now: float) -> MoneyBlock:
        name = (budget.id, budget.span(now), budget.enforced)
        block = self._money.get(name)
        if block is None:
            block = self._money[name] = MoneyBlock(budget, name[1])
        elif block.budget != budget:
            block.renew(budget)
            self._touch([block])
        return block

    # --- the database, one at a time --------------------------------------------------------------------------------

    def _open_slate(self) -> Slate:
        if self._slate is None:
            try:
                slate = Slate(self._worker.folder, self._worker.id)
            except OSError as error:
                raise BackendError(
                    f"the folder {self._worker.folder} cannot be written: {error.strerror}",
                    hint="Check its permissions, and whether the disk is full.",
                ) from error
            with self._database.writing() as execute:
                self.leases.register(execute)
            self._slate = slate
        return self._slate

    def _tell(self) -> None:
        """Tell the database what was charged, and what is held of budgets."""
        with self._lock:
            charged = {block: block.take_charged() for block in self._touched_money if block.spent}
            if charged or self._places:
                self._untold.append(Round(self._round, charged, self._places))
                self._round, self._places = self._round + 1, []
            told = _sum(self._untold)
            held = {
                block: block.drawn - told.get(block, Charged()).consumed
                for block in self._touched_money
                if block.hard and block.drawn - told.get(block, Charged()).consumed != block.written
            }
            for block in held:
                block.written = -1
        if self._untold or held:
            with self._database.writing(durable=False) as execute:
                self.leases.tell(execute, self._untold, held)
        with self._lock:
            for block, micros in held.items():
                block.written = micros
            for block, amount in told.items():
                block.drawn -= amount.consumed
            if self._slate:
                self._slate.wipe([place for round in self._untold for place in round.places])
            self._untold = []
            for block in [block for block in self._touched_money if block.is_empty]:
                block.touched = False
                self._touched_money.remove(block)

    def _let_go(self) -> None:
        with self._lock:
            for block in self._touched_money:
                block.empty()
        self._tell()

    def _tend_rates(self, at: float) -> None:
        """Refresh what is in use of rate limits, and give back what is not."""
        with self._lock:
            idle, due = list[RateBlock](), list[RateBlock]()
            for block in sorted(self._touched_rates, key=lambda each: (each.limit.id, each.unit)):
                if at - block.used_at >= IDLE_SECONDS:
                    block.give_back()
                    idle.append(block)
                elif block.left < block.low or at - block.sizing.drawn_at >= _REFRESH_SECONDS:
                    due.append(block)
            draw = Draw.ahead_of(due, [], at)
        if not idle and not due:
            return
        now = self._clock()
        try:
            with self._database.writing(durable=False) as execute:
                for block in idle:
                    self.leases.return_rate(execute, block, now)
                draw.carry_out(self.leases, execute, now)
        except BaseException:
            with self._lock:
                draw.doubt()
                for block in idle:
                    block.doubt()
            raise
        with self._lock:
            draw.take_in()
            for block in idle:
                block.gave_back()
                block.touched = bool(block.back)
            self._touched_rates -= {block for block in idle if not block.touched}

    def _top_up(self, at: float) -> None:
        """Draw more of the budgets of which little is left here."""
        with self._lock:
            low = [block for block in self._touched_money if block.hard and block.known and block.free < block.low]
            draw = Draw.ahead_of([], low, at)
        if not low:
            return
        try:
            with self._database.writing() as execute:
                draw.carry_out(self.leases, execute, self._clock())
        except BaseException:
            with self._lock:
                draw.doubt()
            raise
        with self._lock:
            draw.take_in()


def _sum(rounds: Sequence[Round]) -> dict[MoneyBlock, Charged]:
    total: dict[MoneyBlock, Charged] = {}
    for round in rounds:
        for block, amount in round.charged.items():
            total[block] = amount.and_(total.get(block, Charged()))
    return total
