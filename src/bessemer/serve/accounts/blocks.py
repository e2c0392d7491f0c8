"""What a process holds of limits and budgets: drawn from the database ahead, handed out in memory.

    money   drawn = free + reserved by open requests + consumed by ended ones that the database does not know yet
    rates   left <= drawn, which the database keeps out of the bucket's refilling until the block has lapsed

Blocks grow while they run out quickly and are never more than an eighth of what the database has left: near the end of
a limit or a budget a request takes what it needs and no more, so that several processes share it to the last unit.

Owns the arithmetic of one process, none of which waits. Knows no database and no clock: what was drawn and what time it
is are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from bessemer.serve.accounts.budgets import Budget
from bessemer.serve.accounts.rates import RateLimit, Unit
from bessemer.serve.refusals import Refusal

SHARE = 8
"""A block is at most one part in so many of what is left."""
LOW = 4
"""When less than one part in so many is left of a block, more is drawn."""
AHEAD = 16
"""Requests like the one that draws, for which a block is drawn at first."""
SOON_SECONDS = 1.0
"""A block that runs out within this time is drawn twice as large the next time."""
IDLE_SECONDS = 1.0
"""After so long without a request what is free is given back."""
LAPSE_SECONDS = 10.0
"""After so long the database counts on what was drawn of a rate limit no more."""
KEPT_SECONDS = LAPSE_SECONDS / 2
"""So long a block of a rate limit may be used: half, so that clocks of two machines may differ by the other half."""
_REFUSED_SECONDS = 0.1
"""So long a rate limit that was short is not asked again for as much."""


@dataclass(frozen=True, slots=True)
class Charged:
    """What ended requests took out of a block: all micro-units, those of what was reserved, those beyond it."""

    spent: int = 0
    consumed: int = 0

    def and_(self, other: Charged) -> Charged:
        """Return both together."""
        return Charged(self.spent + other.spent, self.consumed + other.consumed)


class Sizing:
    """How much to draw ahead.

    Attributes:
        size: of the last block, in the block's unit.
    """

    __slots__ = ("drawn_at", "size")

    def __init__(self) -> None:
        self.size, self.drawn_at = 0, float("-inf")

    def ahead(self, needed: int, left: float, at: float) -> int:
        """Return how much to draw beyond what is needed now, of what is left after that."""
        soon = at - self.drawn_at < SOON_SECONDS
        wanted = max(AHEAD * needed, self.size * 2 if soon else self.size // 2)
        return max(0, min(wanted, int(left // SHARE)))

    def drew(self, ahead: int, at: float) -> None:
        """Note what was drawn, and when."""
        self.size, self.drawn_at = ahead, at


class MoneyBlock:
    """What this process holds of one span of a budget, in micro-units.

    Attributes:
        budget: whose money it is, as it was known last.
        span: of the budget's period.
        hard: the budget is enforced; else nothing is held, and only what was charged is told.
        drawn: what the database has set aside for this process.
        free: what may be reserved.
        open: requests that hold a part of it.
        spent, consumed: what was charged since it was last taken, see `Charged`.
        known: the database knows that this process spends of the budget.
        low: with less than this free it is time to draw more.
        touched: there is something to be told or given back.
        written: what the database says was drawn; -1 when that is not certain.
        spent_for: requests that may cost so much or more are refused from memory: more than that was not unspent.
    """

    __slots__ = (
        "budget", "consumed", "drawn", "free", "hard", "known", "low", "lowest", "open", "refusal", "sizing", "span",
        "spent", "spent_for", "touched", "used_at", "written",
    )  # fmt: skip

    def __init__(self, budget: Budget, span: str) -> None:
        self.budget, self.span, self.hard = budget, span, budget.enforced
        self.drawn = self.written = self.free = self.open = self.lowest = 0
        self.spent = self.consumed = self.low = 0
        self.known = self.touched = False
        self.sizing, self.used_at = Sizing(), float("-inf")
        self.spent_for = 0
        self.refusal: Refusal | None = None

    def has(self, micros: int) -> bool:
        """Whether so much can be reserved at once."""
        return self.known and (self.free >= micros or not self.hard)

    def reserve(self, micros: int, at: float) -> bool:
        """Hold so much for a request; return whether it is time to draw more."""
        self.open += 1
        self.used_at = at
        if not self.hard:
            return False
        self.free = free = self.free - micros
        self.lowest = min(self.lowest, free)
        return free < self.low

    def settle(self, reserved: int, micros: int) -> None:
        """Put what a request was charged in the place of what it held."""
        self.open -= 1
        self.spent += micros
        if self.hard:
            consumed = micros if micros < reserved else reserved
            self.free += reserved - consumed
            self.consumed += consumed

    def drew(self, claimed: int, short: int, ahead: int, at: float) -> None:
        """Take in what was drawn: what a claim lacked, and something ahead; the claim is free again."""
        self.known = True
        self.drawn += short + ahead
        self.free += claimed + short + ahead
        if self.hard:
            self.sizing.drew(ahead, at)
            self.low = ahead // LOW

    def take_charged(self) -> Charged:
        """Return what was charged since the last time."""
        charged = Charged(self.spent, self.consumed)
        self.spent = self.consumed = 0
        return charged

    def claim(self, micros: int) -> int:
        """Take what there is of an amount, and return it."""
        claimed = max(0, min(self.free, micros))
        self.free -= claimed
        return claimed

    def give_back(self, at: float) -> int:
        """Hold less, and return by how much: all that is free when idle, else what was to spare since the last time."""
        if at - self.used_at >= IDLE_SECONDS:
            return self.empty()
        spare = max(0, self.lowest - self.sizing.size)
        self.lowest = self.free
        if spare:
            self.sizing.size //= 2
            self.low = self.sizing.size // LOW
        return self.let_go(min(spare, self.free))

    def empty(self) -> int:
        """Hold nothing that is free, and return how much that was; nothing is drawn ahead until a request comes."""
        self.sizing.size = self.low = 0
        return self.let_go(max(0, self.free))

    def let_go(self, micros: int) -> int:
        """Hold so much less of what is free, whatever the database still believes, and return it."""
        self.free -= micros
        self.drawn -= micros
        return micros

    def renew(self, budget: Budget) -> None:
        """Ask the database before anything more is reserved: an administrator changed the budget."""
        self.budget, self.known, self.refusal = budget, False, None
        self.empty()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held any more, and nothing is left to be told."""
        return not (self.drawn or self.written or self.open or self.spent)


class RateBlock:
    """What this process holds of a rate limit's bucket.

    Attributes:
        limit: as it was known when the block was made.
        unit: what is counted.
        most: a minute's worth.
        left: what may be taken.
        drawn: `left` is never more than this: what the database knows to be held here.
        back: what the bucket gets back (or is still owed, below zero) at the next draw.
        sent: how much of that the draw under way tells.
        level: what was in the bucket after the last draw.
        low: with less than this left it is time to draw more.
        touched: there is something to be refreshed or given back.
        until: by the monotonic clock, when the block lapses.
    """

    __slots__ = (
        "back", "drawn", "left", "level", "limit", "low", "most", "refusal", "refused_for", "refused_until", "sent",
        "sizing", "touched", "unit", "until", "used_at",
    )  # fmt: skip

    def __init__(self, limit: RateLimit, unit: Unit, most: int) -> None:
        self.limit, self.unit, self.most = limit, unit, most
        self.left = self.drawn = 0
        self.back, self.sent, self.level = 0, 0, 0.0
        self.until = self.used_at = float("-inf")
        self.low, self.touched = 0, False
        self.sizing = Sizing()
        self.refused_for, self.refused_until = 0, float("-inf")
        self.refusal: Refusal | None = None

    def has(self, amount: int, at: float) -> bool:
        """Whether so much can be taken at once."""
        return self.left >= amount and at < self.until

    def take(self, amount: int, at: float) -> bool:
        """Take so much; return whether it is time to draw more."""
        self.left = left = self.left - amount
        self.used_at = at
        return left < self.low

    def correct(self, amount: int) -> None:
        """Give back what was not needed, or take more (below zero); what does not fit in the block is the bucket's."""
        total = self.left + amount
        self.left = max(0, min(self.drawn, total))
        self.back += total - self.left

    def claim(self, amount: int, at: float) -> int:
        """Take what there is of an amount, and return it. Until the next draw no more is held than what is left."""
        if at >= self.until:
            self.left = 0
        claimed = min(self.left, amount)
        self.left -= claimed
        self.drawn, self.sent = self.left, self.back
        return claimed

    def unclaim(self, claimed: int) -> None:
        """Put back what was claimed: nothing was drawn."""
        self.left += claimed
        self.drawn += claimed
        self.sent = 0

    def doubt(self) -> None:
        """Give up what a draw may have told: its end is not known, and nothing may be counted twice."""
        self.back -= max(0, self.sent)
        self.sent = 0

    def drew(self, ahead: int, left: float, at: float) -> None:
        """Take in what was drawn ahead; left is what was in the bucket and here before that."""
        self.level = left - self.drawn - ahead
        self.left += ahead
        self.drawn += ahead
        self.until, self.low = at + KEPT_SECONDS, ahead // LOW
        self.sizing.drew(ahead, at)
        self.gave_back()

    def give_back(self) -> None:
        """Hold nothing any more; the bucket is to have it."""
        self.back += self.left
        self.left = self.drawn = self.low = 0
        self.sent = self.back

    def gave_back(self) -> None:
        """The bucket has what it was to have."""
        self.back -= self.sent
        self.sent = 0

    def renew(self, limit: RateLimit, most: int) -> None:
        """Ask the database before anything more is taken: an administrator changed the limit."""
        self.limit, self.most, self.refusal = limit, most, None
        self.back += self.left
        self.left = self.drawn = self.low = 0

    def refuse(self, needed: int, wait_seconds: float, refusal: Refusal, at: float) -> None:
        """Remember that the bucket had not enough."""
        self.refused_for, self.refusal = needed, refusal
        self.refused_until = at + min(_REFUSED_SECONDS, wait_seconds)

    @property
    def remaining(self) -> int:
        """What was left of the limit, here and in the bucket, when it was last asked."""
        return max(0, self.left + int(self.level))
