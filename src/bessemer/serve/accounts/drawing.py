"""One draw from the database: what is claimed of what is held, what it lacks, and what becomes of both.

    claimed -> carried out  -> taken in    what was drawn is held here
            -> refused      -> put back    nothing was drawn
            -> no answer    -> doubted     nothing is held that the database may not know

Owns these ends. Memory is changed under the lock of whoever holds the blocks, the database in its transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bessemer.serve.accounts.blocks import MoneyBlock, RateBlock
from bessemer.serve.accounts.budgets import Spending
from bessemer.serve.accounts.database import Execute
from bessemer.serve.accounts.leases import Leases
from bessemer.serve.accounts.rates import Level
from bessemer.serve.accounts.refusing import refuse_money, refuse_rate
from bessemer.serve.accounts.standing import Standing
from bessemer.serve.refusals import Refused

Also = Callable[[Execute], Spending | None]
"""What else is reserved in the transaction of a draw; returns the budget that has not enough left."""


@dataclass(slots=True)
class _Rate:
    """What is drawn of a rate limit: needed, how much of that was held, and what came of it."""

    block: RateBlock
    needed: int
    claimed: int
    level: Level | None = None
    ahead: int = 0


@dataclass(slots=True)
class _Money:
    """What is drawn of a budget: how much of what is needed was held, all that was drawn before, what came of it."""

    block: MoneyBlock
    claimed: int
    drawn: int
    ahead: int = 0


@dataclass(slots=True)
class Draw:
    """One draw, for a request or only ahead.

    Attributes:
        micros: that the request may be charged at most; 0 if there is none.
        at: the monotonic clock's seconds.
    """

    micros: int
    at: float
    rates: list[_Rate] = field(default_factory=list)
    money: list[_Money] = field(default_factory=list)

    @classmethod
    def of(cls, standing: Standing, need: tuple[int, int], at: float) -> Draw:
        """Return the draw for a request, with what is held of what it needs: tokens and micro-units."""
        tokens, micros = need
        rates = [_Rate(block, 1, block.claim(1, at)) for block in standing.requests]
        rates += [_Rate(block, tokens, block.claim(tokens, at)) for block in standing.tokens]
        money = [_Money(block, block.claim(micros) if block.hard else 0, block.drawn) for block in standing.money]
        return cls(micros, at, rates, money)._ordered()

    @classmethod
    def ahead_of(cls, rates: Iterable[RateBlock], money: Iterable[MoneyBlock], at: float) -> Draw:
        """Return a draw for no request: it refreshes blocks, and enlarges them."""
        drawn = [_Money(block, 0, block.drawn) for block in money]
        return cls(0, at, [_Rate(block, 0, block.claim(0, at)) for block in rates], drawn)._ordered()

    def carry_out(self, leases: Leases, execute: Execute, now: float, also: Also | None = None) -> None:
        """Draw, within a transaction.

        Args:
            leases: of the database.
            execute: of the transaction.
            now: Unix seconds.
            also: reserves in the same transaction.

        Raises:
            Refused: there is not enough left; then nothing may be committed.
        """
        levels = []
        for rate in self.rates:
            needed = (rate.needed, rate.claimed)
            rate.level, rate.ahead = leases.draw_rate(execute, rate.block, needed, (now, self.at))
            levels.append(rate.level)
        self._refuse_rates(levels)
        for money in self.money:
            need = (self.micros, money.claimed, money.drawn)
            short, money.ahead = leases.draw_money(execute, money.block, need, self.at)
            if short:
                refusal = refuse_money(short, self.micros, _back(levels))
                if refusal.code == "insufficient_quota":  # what was spent stays so: no need to ask for it again
                    money.block.spent_for, money.block.refusal = self.micros, refuse_money(short, self.micros, ())
                raise Refused(refusal)
        if also and (short := also(execute)):
            raise Refused(refuse_money(short, self.micros, _back(levels)))

    def take_in(self) -> None:
        """Hold what was drawn. What the request needs of money is free until it is reserved, that of rates is taken."""
        for rate in self.rates:
            assert rate.level
            rate.block.drew(rate.ahead, rate.level.left, self.at)
        for money in self.money:
            short = self.micros - money.claimed if money.block.hard else 0
            money.block.drew(money.claimed, short, money.ahead, self.at)
            money.block.written = money.drawn + short + money.ahead if money.block.hard else 0

    def put_back(self) -> None:
        """Hold what was held before."""
        for rate in self.rates:
            rate.block.unclaim(rate.claimed)
        for money in self.money:
            money.block.free += money.claimed

    def doubt(self) -> list[MoneyBlock]:
        """Give up what was claimed; return the blocks of which the database must be told what is held."""
        for rate in self.rates:
            rate.block.doubt()
        hard = [money for money in self.money if money.block.hard]
        for money in hard:
            money.block.drawn -= money.claimed
            money.block.written = -1
        return [money.block for money in hard]

    def _ordered(self) -> Draw:
        """Put everything in the one order in which all workers lock their rows."""
        self.rates.sort(key=lambda each: (each.block.limit.id, each.block.unit))
        self.money.sort(key=lambda each: (each.block.budget.id, each.block.span))
        return self

    def _refuse_rates(self, levels: Sequence[Level]) -> None:
        short = [rate for rate in self.rates if rate.needed > rate.claimed and rate.level and rate.level.left < 0]
        if not short:
            return
        worst = max(short, key=lambda rate: rate.level.wait_seconds if rate.level else 0)
        assert worst.level
        refusal = refuse_rate(worst.level, levels)
        worst.block.refuse(worst.needed, worst.level.wait_seconds, refusal, self.at)
        raise Refused(refusal)


def _back(levels: Iterable[Level]) -> list[Level]:
    """Return where buckets are when what was taken is put back, as it is when a budget refuses."""
    return [Level(at.rate_limit, at.unit, at.limit, 0, at.left + at.needed) for at in levels]
