"""The most that a request may be charged, worked out in a microsecond: prices that are never exceeded.

Owns the arithmetic. Knows no price book: what makes tariffs is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bessemer.core.nouns import Subject
from bessemer.core.units import MICROS_PER_UNIT


@dataclass(frozen=True, slots=True)
class Tariff:
    """The most that tokens are charged.

    Attributes:
        input: micro-units for a million tokens that are read, fresh or from a cache, whatever costs more.
        output: micro-units for a million tokens that are written.
        unit: micro-units for a million of what is delivered and is no token.
        own_tokens: that are read besides the client's words, at most.
        currency: of the micro-units.
        until: Unix seconds; from then on another tariff may hold.
    """

    input: int
    output: int
    unit: int = 0
    own_tokens: int = 0
    currency: str = "USD"
    until: float = float("inf")

    def worst(self, input_tokens: int, output_tokens: int, units: int = 0) -> int:
        """Return the most that a request may be charged, in micro-units, rounded up.

        >>> Tariff(150_000, 600_000, own_tokens=1000).worst(9_000, 100)
        1560
        """
        exact = (input_tokens + self.own_tokens) * self.input + output_tokens * self.output + units * self.unit
        return -(-exact // MICROS_PER_UNIT)


Pricing = Callable[[Subject], Tariff]
"""From whose request it is to what it may be charged at most; the subject's id is of no account."""
