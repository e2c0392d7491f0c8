"""Where requests stand: the blocks that those of a key to a model are let in from, and what one of them holds.

Owns both shapes, and what a client is told of its limits. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from bessemer.serve.accounts.blocks import MoneyBlock, RateBlock
from bessemer.serve.accounts.rates import Level
from bessemer.serve.accounts.refusing import Headers, rate_headers, rate_lines


class Standing:
    """The blocks from which the requests of a key to a model are let in, for now.

    Attributes:
        requests, tokens: of rate limits.
        money: of budgets.
        number: of the set of budgets on the slate; -1 before the first request is entered.
        until: Unix seconds, when a budget's span ends.
    """

    __slots__ = ("_blocks", "money", "number", "requests", "tokens", "until")

    def __init__(self, rates: Sequence[RateBlock], money: Sequence[MoneyBlock], until: float) -> None:
        self.requests = tuple(block for block in rates if block.unit == "requests")
        self.tokens = tuple(block for block in rates if block.unit == "tokens")
        self.money, self.number, self.until = tuple(money), -1, until
        self._blocks = [blocks for blocks in (self.requests, self.tokens) if blocks]

    def headers(self) -> Headers:
        """Return what tells a client where its rate limits are."""
        return rate_headers([_level(block) for block in (*self.requests, *self.tokens)])

    def lines(self) -> bytes:
        """Return the same as it stands on the wire."""
        lines = b""
        for blocks in self._blocks:
            at = blocks[0] if len(blocks) == 1 else _nearest(blocks)
            lines += rate_lines(at.unit, at.most, at.remaining)
        return lines


class Permit:
    """What one request holds, from being let in until it is settled."""

    def __init__(self, standing: Standing, tokens: int, micros: int, place: int = -1) -> None:
        self.standing, self.tokens, self.micros, self.place = standing, tokens, micros, place


def _nearest(blocks: tuple[RateBlock, ...]) -> RateBlock:
    return min(blocks, key=lambda block: block.remaining)


def _level(block: RateBlock) -> Level:
    return Level(block.limit.id, block.unit, block.most, 0, block.remaining)
