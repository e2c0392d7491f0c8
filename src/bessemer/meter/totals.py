"""Sums over entries of the ledger, exact, and what they mean for a thousand tokens.

Owns the shape of a sum. Knows no database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bessemer.core.errors import Unsupported
from bessemer.core.nouns import Boundary, EnergyClass, Usage
from bessemer.core.units import Money


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum with its bounds, in the unit that the field's name says."""

    value: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Total:
    """What some entries sum up to.

    Attributes:
        group: the values that the entries have in common, by the names that were grouped by.
        seconds: sum over entries; more than the time that passed where they overlapped.
        microjoules: all classes together, exactly.
        joules: all classes together. By class in `joules_by_class`.
        energy_costs: what the energy cost the operator, one amount for each currency.
        charges: what customers are charged, one amount for each currency.
        boundaries: what the joules include.
        grids: whose electricity the grams come from, each with its intensity and where that is from.
        price_versions: of the price books in force.
    """

    group: Mapping[str, str]
    entries: int
    usage: Usage
    seconds: float
    microjoules: int
    joules: Amount
    joules_by_class: Mapping[EnergyClass, Amount]
    grams: Amount
    energy_costs: tuple[Money, ...]
    charges: tuple[Money, ...]
    boundaries: tuple[Boundary, ...]
    grids: tuple[str, ...]
    price_versions: tuple[str, ...]

    @property
    def charge(self) -> Money:
        """The charge, where there is one currency."""
        return _only(self.charges)

    @property
    def energy_cost(self) -> Money:
        """The cost of the energy, where there is one currency."""
        return _only(self.energy_costs)


@dataclass(frozen=True, slots=True)
class PerThousandTokens:
    """Averages over a total; money in micro-units of `currency`, not rounded, because it is an average and no bill."""

    tokens: int
    joules: Amount
    grams: Amount
    energy_cost_micros: float
    charge_micros: float
    currency: str
    energy_classes: tuple[EnergyClass, ...]


def per_thousand_tokens(total: Total, tokens: Literal["all", "output"] = "all") -> PerThousandTokens | None:
    """Return the total's figures for 1,000 tokens, or None if there were none.

    Args:
        total: what to divide.
        tokens: ``all`` divides by input and output tokens, ``output`` by output tokens only.
    """
    count = total.usage.total_tokens if tokens == "all" else total.usage.output_tokens
    if not count:
        return None
    factor = 1000 / count

    def scaled(amount: Amount) -> Amount:
        return Amount(amount.value * factor, amount.low * factor, amount.high * factor)

    return PerThousandTokens(
        tokens=count,
        joules=scaled(total.joules),
        grams=scaled(total.grams),
        energy_cost_micros=total.energy_cost.micros * factor,
        charge_micros=total.charge.micros * factor,
        currency=total.charge.currency,
        energy_classes=tuple(total.joules_by_class),
    )


def _only(amounts: tuple[Money, ...]) -> Money:
    if len(amounts) > 1:
        raise Unsupported(
            f"{len(amounts)} currencies do not add up to one amount", hint="Use the field with one amount for each."
        )
    return amounts[0] if amounts else Money()
