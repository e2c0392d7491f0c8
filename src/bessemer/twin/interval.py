"""A predicted number and how sure it is.

Owns the interval that every prediction of the twin is. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

LOW, HIGH = 0.1, 0.9
"""The quantiles between which 80 % of the outcomes are expected."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A prediction: the middle, and the bounds between which 80 % of the outcomes are expected.

    >>> str(Interval(10.0, 8.0, 13.0))
    '10 [8, 13]'
    """

    mid: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mid:.4g} [{self.low:.3g}, {self.high:.3g}]"

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def scaled(self, factor: float) -> Interval:
        """Return the interval times a positive number.

        >>> Interval(10.0, 8.0, 13.0).scaled(2)
        Interval(mid=20.0, low=16.0, high=26.0)
        """
        return Interval(self.mid * factor, self.low * factor, self.high * factor)

    @classmethod
    def exactly(cls, value: float) -> Interval:
        """Return the interval of a number that is known."""
        return cls(value, value, value)

    @classmethod
    def of(cls, draws: ArrayLike) -> Interval:
        """Return median and quantiles of simulated outcomes.

        >>> Interval.of([1.0, 2.0, 3.0])
        Interval(mid=2.0, low=1.2, high=2.8)
        """
        low, mid, high = np.quantile(np.asarray(draws, dtype=float), [LOW, 0.5, HIGH])
        return cls(float(mid), float(low), float(high))
