"""An amount of energy as the meter counts it: whole microjoules with bounds, so that sums and shares are exact.

Owns the arithmetic. Knows no sensor, no span and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

MICRO = 1_000_000
"""Microjoules in a joule."""


@dataclass(frozen=True, slots=True)
class Energy:
    """An amount of energy in microjoules.

    Attributes:
        measured: from hardware counters.
        modelled: from a power model.
        low: lower bound of the two together.
        high: upper bound of the two together.
    """

    measured: int = 0
    modelled: int = 0
    low: int = 0
    high: int = 0

    @property
    def total(self) -> int:
        """Measured and modelled together, in microjoules."""
        return self.measured + self.modelled

    def joules(self) -> dict[str, float]:
        """Return the value and the bounds in joules, by the names that a Measurement has for them.

        Shares round by up to a microjoule, each part for itself; the bounds still bound the value.
        """
        low, high = min(self.low, self.total), max(self.high, self.total)
        return {"joules": self.total / MICRO, "joules_low": low / MICRO, "joules_high": high / MICRO}

    def __add__(self, other: Energy) -> Energy:
        return Energy(
            self.measured + other.measured,
            self.modelled + other.modelled,
            self.low + other.low,
            self.high + other.high,
        )

    def __sub__(self, other: Energy) -> Energy:
        return Energy(
            self.measured - other.measured,
            self.modelled - other.modelled,
            self.low - other.low,
            self.high - other.high,
        )

    def share(self, numerator: int, denominator: int) -> Energy:
        """Return this energy x numerator / denominator, each part rounded down, so that shares never exceed the whole.

        >>> Energy(measured=10, low=9, high=11).share(1, 3)
        Energy(measured=3, modelled=0, low=3, high=3)
        """
        return Energy(
            self.measured * numerator // denominator,
            self.modelled * numerator // denominator,
            self.low * numerator // denominator,
            self.high * numerator // denominator,
        )
