"""Growing in stages, with the option to stop: proof of concept, pilot, production.

Owns the decision tree over stages. Knows not what a stage buys; its dollars are estimates, handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of growth, paid when it begins.

    Attributes:
        name: such as ``pilot``.
        estimated_usd: what it costs.
        years: until its outcome is known.
        success_ratio: how likely it goes well, given that those before did.
        estimated_salvage_usd: what comes back when one stops after a failure.
    """

    name: str
    estimated_usd: float
    years: float
    success_ratio: float
    estimated_salvage_usd: float = 0.0


def committed_usd(stages: Sequence[Stage], payoff_usd: float, discount_ratio: float) -> float:
    """Return the expected value today, in USD, when all stages are paid for whatever happens.

    Source: expected net present value: each cost at its time, the payoff times the chance that all go well.

    >>> committed_usd([Stage("pilot", 10.0, 1.0, 0.5), Stage("production", 100.0, 1.0, 1.0)], 200.0, 0.0)
    -10.0
    """
    value, worth, chance = 0.0, 1.0, 1.0
    for stage in stages:
        value -= worth * stage.estimated_usd
        worth *= float((1 + discount_ratio) ** -stage.years)
        chance *= stage.success_ratio
    return value + worth * chance * payoff_usd


def staged_usd(stages: Sequence[Stage], payoff_usd: float, discount_ratio: float) -> float:
    """Return the expected value today, in USD, when one may stop before any stage; never below zero.

    Source: backward induction over a decision tree, V_k = max(0, -cost + d (p V_k+1 + (1 - p) salvage)).

    >>> staged_usd([Stage("pilot", 10.0, 1.0, 0.5), Stage("production", 100.0, 1.0, 1.0)], 200.0, 0.0)
    40.0
    """
    return values_usd(stages, payoff_usd, discount_ratio)[0]


def values_usd(stages: Sequence[Stage], payoff_usd: float, discount_ratio: float) -> list[float]:
    """Return what it is worth to stand before each stage, in USD of that day, and last before the payoff.

    Zero before a stage means: stop there.

    >>> values_usd([Stage("pilot", 10.0, 1.0, 0.5), Stage("production", 100.0, 1.0, 1.0)], 200.0, 0.0)
    [40.0, 100.0, 200.0]
    """
    values = [payoff_usd]
    for stage in reversed(stages):
        worth = float((1 + discount_ratio) ** -stage.years)
        later = stage.success_ratio * values[0] + (1 - stage.success_ratio) * stage.estimated_salvage_usd
        values.insert(0, max(0.0, worth * later - stage.estimated_usd))
    return values


def cash_flow(stages: Sequence[Stage], yearly_usd: Sequence[float]) -> list[tuple[float, float]]:
    """Return (years from today, USD) when all goes well: each stage's cost as it begins, then the years' ends after.

    >>> cash_flow([Stage("pilot", 10.0, 0.5, 0.5)], [7.0, 8.0])
    [(0.0, -10.0), (1.5, 7.0), (2.5, 8.0)]
    """
    flows, at = [], 0.0
    for stage in stages:
        flows.append((at, -stage.estimated_usd))
        at += stage.years
    return flows + [(at + year, usd) for year, usd in enumerate(yearly_usd, 1)]


def option_usd(stages: Sequence[Stage], payoff_usd: float, discount_ratio: float) -> float:
    """Return what the right to stop is worth: the staged value less the committed one, in USD."""
    return staged_usd(stages, payoff_usd, discount_ratio) - committed_usd(stages, payoff_usd, discount_ratio)
