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
    value = payoff_usd
    for stage in reversed(stages):
        worth = float((1 + discount_ratio) ** -stage.years)
        later = stage.success_ratio * value + (1 - stage.success_ratio) * stage.estimated_salvage_usd
        value = max(0.0, worth * later - stage.estimated_usd)
    return value


def option_usd(stages: Sequence[Stage], payoff_usd: float, discount_ratio: float) -> float:
    """Return what the right to stop is worth: the staged value less the committed one, in USD."""
    return staged_usd(stages, payoff_usd, discount_ratio) - committed_usd(stages, payoff_usd, discount_ratio)
