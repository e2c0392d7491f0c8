"""What the database knows of blocks: which process holds how much of what, and what became of it.

    blocks   of a budget's span, how much is set aside for a process; `spend` has it as reserved
    shares   of a rate limit's bucket, how much a process holds and until when
    slates   which processes hold money, when the machine was switched on, and the last round that was taken in

Amounts held are written as they are, not as changes: after an answer that never came from the database, the next
transaction puts right what the lost one may have done. Rows are locked in one order: buckets, slates, budgets.

Owns the SQL of blocks. Knows no memory and no thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bessemer.serve.accounts.blocks import LAPSE_SECONDS, Charged, MoneyBlock, RateBlock
from bessemer.serve.accounts.budgets import Budgets, Spending
from bessemer.serve.accounts.database import Database, Execute
from bessemer.serve.accounts.rates import Level
from bessemer.serve.accounts.slates import Left, boot, is_believed

Told = Mapping[MoneyBlock, Charged]

_CLOCKS_DIFFER_SECONDS = 60.0
"""At most, between machines that share limits; a clock further ahead was wrong."""


@dataclass(frozen=True, slots=True)
class Round:
    """What the database is told at once: it takes it in once, however often it is told."""

    number: int
    charged: Told
    places: Sequence[int]


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds money.

    Attributes:
        boot: names the time since its machine was switched on.
        round: the last that the database took in.
    """

    worker: str
    boot: str
    round: int


class Leases:
    """The blocks of all processes.

    Args:
        database: of the accounts.
        budgets: tells who is told of spending.
        books: names the books that this process writes.
        worker: id of this process.
    """

    def __init__(self, database: Database, budgets: Budgets, books: str, worker: str) -> None:
        self._database, self._budgets = database, budgets
        self._books, self._worker = books, worker

    def draw_rate(
        self, execute: Execute, block: RateBlock, need: tuple[int, int], clocks: tuple[float, float]
    ) -> tuple[Level, int]:
        """Take what a request needs out of a bucket, and some ahead; return where the bucket is, and how much ahead.

        Args:
            execute: of a transaction.
            block: what is held already; nothing in it is changed.
            need: of the request (0 only draws ahead), and how much of that was held.
            clocks: Unix seconds, and the monotonic clock's.
        """
        (needed, claimed), (now, at) = need, clocks
        id, unit = block.limit.id, block.unit
        level = self._level(execute, block, now)
        left = level - (needed - claimed)
        if left < 0 and needed > claimed:
            return Level(id, unit, block.most, needed, left), 0
        ahead = block.sizing.ahead(needed, left, at)
        self._fill(execute, block, left - ahead, now)
        execute(
            "INSERT INTO shares (rate_limit, unit, worker, amount, until) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (rate_limit, unit, worker) DO UPDATE SET amount = excluded.amount, until = excluded.until",
            id, unit, self._worker, block.drawn + ahead, now + LAPSE_SECONDS,
        )  # fmt: skip
        return Level(id, unit, block.most, needed, left + block.drawn), ahead

    def return_rate(self, execute: Execute, block: RateBlock, now: float) -> None:
        """Put back what is to go back to a bucket, of which nothing is held any more."""
        self._fill(execute, block, self._level(execute, block, now), now)
        execute(
            "DELETE FROM shares WHERE rate_limit = ? AND unit = ? AND worker = ?",
            block.limit.id, block.unit, self._worker,
        )  # fmt: skip

    def draw_money(
        self, execute: Execute, block: MoneyBlock, need: tuple[int, int, int], at: float
    ) -> tuple[Spending | None, int]:
        """Set aside what a request needs of a budget and something ahead; return how much ahead.

        Args:
            execute: of a transaction.
            block: what is held already, all of which the database was told; nothing in it is changed.
            need: micro-units: of the request (0 only draws ahead), how much of it was held, and all that was drawn.
            at: the monotonic clock's seconds.

        Returns:
            Where the budget stands if it has not enough left: then undo the transaction; else None. And the rest.
        """
        budget, spent, reserved = self._budgets.standing(execute, block.budget, block.span)
        if not block.hard:
            return None, 0
        needed, claimed, drawn = need
        short = needed - claimed
        left = budget.limit.micros - spent - reserved - short
        if budget.enforced and needed and left < 0:
            return Spending(budget=budget, span=block.span, spent_micros=spent, reserved_micros=reserved), 0
        ahead = block.sizing.ahead(needed, left, at) if budget.enforced else 0
        self._hold(execute, block, drawn + short + ahead)
        return None, ahead

    def register(self, execute: Execute) -> None:
        """Say that this process holds money from now on."""
        execute(
            "INSERT INTO slates (worker, books, boot, round) VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING",
            self._worker, self._books, boot(),
        )  # fmt: skip

    def tell(self, execute: Execute, rounds: Sequence[Round], held: Mapping[MoneyBlock, int]) -> None:
        """Take in what requests were charged, and how much is held of budgets from now on.

        Args:
            execute: of a transaction.
            rounds: in order; those that were taken in already are left out.
            held: micro-units by block.
        """
        rows = execute(f"SELECT round FROM slates WHERE worker = ?{self._database.lock_rows}", self._worker)
        last = rows[0][0] if rows else 0
        charged: dict[MoneyBlock, Charged] = {}
        for round in rounds:
            for block, amount in round.charged.items() if round.number > last else ():
                charged[block] = amount.and_(charged.get(block, Charged()))
        for block in sorted({*charged, *held}, key=lambda each: (each.budget.id, each.span, each.hard)):
            amount = charged.get(block, Charged())
            if amount.spent:
                overrun = amount.spent - amount.consumed if block.hard else 0
                self._budgets.spend(execute, (block.budget.id, block.span), amount.spent, overrun)
            if block in held:
                self._hold(execute, block, held[block])
        if rounds and rounds[-1].number > last:
            execute("UPDATE slates SET round = ? WHERE worker = ?", rounds[-1].number, self._worker)

    def unregister(self, execute: Execute) -> None:
        """Say that this process holds no money any more."""
        execute("DELETE FROM slates WHERE worker = ?", self._worker)

    def holders(self) -> tuple[Holder, ...]:
        """Return the processes that hold money and write the same books, but for this one."""
        sql = "SELECT worker, boot, round FROM slates WHERE books = ? AND worker <> ? ORDER BY worker"
        return tuple(Holder(*row) for row in self._database.read(sql, self._books, self._worker))

    def settle_dead(self, holder: Holder, left: Iterable[Left] | None, charged: Mapping[str, int]) -> None:
        """Put what the books say in the place of what a dead process held; again changes nothing.

        After a power loss what it held counts as spent: which requests there were is not known for certain.

        Args:
            holder: the dead process.
            left: on its slate; None if that is gone.
            charged: micro-units by request.
        """
        spent: dict[tuple[str, str], int] = defaultdict(int)
        for request in left or ():
            for name in request.spans:
                spent[name] += charged[request.id]
        believed = left is not None and is_believed(holder.boot)
        with self._database.writing() as execute:
            if not execute(f"SELECT 1 FROM slates WHERE worker = ?{self._database.lock_rows}", holder.worker):
                return  # another process did it meanwhile
            held = {
                (budget, span): micros
                for budget, span, micros in execute(
                    "SELECT budget, span, micros FROM blocks WHERE worker = ?", holder.worker
                )
            }
            for name in sorted({*spent, *held}):
                lost = 0 if believed else max(0, held.get(name, 0) - spent[name])
                overrun = max(0, spent[name] - held[name]) if name in held else 0
                self._budgets.reserve_less(execute, name, held.get(name, 0))
                self._budgets.spend(execute, name, spent[name] + lost, overrun, lost)
            execute("DELETE FROM blocks WHERE worker = ?", holder.worker)
            execute("DELETE FROM slates WHERE worker = ?", holder.worker)

    def _level(self, execute: Execute, block: RateBlock, now: float) -> float:
        """Return how full a bucket is, whose row is locked, with what this process gives back."""
        id, unit, most = block.limit.id, block.unit, block.most
        execute(
            "INSERT INTO buckets (rate_limit, unit, level, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            id, unit, float(most), now,
        )  # fmt: skip
        [(level, then)] = execute(
            f"SELECT level, at FROM buckets WHERE rate_limit = ? AND unit = ?{self._database.lock_rows}", id, unit
        )
        [(others,)] = execute(
            "SELECT COALESCE(SUM(amount), 0) FROM shares"
            " WHERE rate_limit = ? AND unit = ? AND worker <> ? AND until > ?",
            id, unit, self._worker, now,
        )  # fmt: skip
        full = most - int(others) - block.drawn  # what is held is not refilled: together there is never more than most
        return min(full, float(level) + block.sent + max(0.0, now - float(then)) * most / 60)

    def _fill(self, execute: Execute, block: RateBlock, level: float, now: float) -> None:
        """Write how full a bucket is; its time never goes back by what clocks may differ, or it would fill twice."""
        execute(
            "UPDATE buckets SET level = ?, at = CASE WHEN at > ? AND at < ? THEN at ELSE ? END"
            " WHERE rate_limit = ? AND unit = ?",
            level, now, now + _CLOCKS_DIFFER_SECONDS, now, block.limit.id, block.unit,
        )  # fmt: skip

    def _hold(self, execute: Execute, block: MoneyBlock, micros: int) -> None:
        name = (self._worker, block.budget.id, block.span)
        rows = execute("SELECT micros FROM blocks WHERE worker = ? AND budget = ? AND span = ?", *name)
        held = rows[0][0] if rows else 0
        if micros == held:
            return
        self._budgets.reserve_less(execute, (block.budget.id, block.span), held - micros)
        if micros:
            execute(
                "INSERT INTO blocks (worker, budget, span, micros) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (worker, budget, span) DO UPDATE SET micros = excluded.micros",
                *name, micros,
            )  # fmt: skip
        else:
            execute("DELETE FROM blocks WHERE worker = ? AND budget = ? AND span = ?", *name)
