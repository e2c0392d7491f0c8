"""How sure an answer is when its inputs are not: Monte Carlo over them, and which of them matters most.

Owns the drawing of inputs and the counting of swings. Knows not what a model computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.twin.interval import HIGH, LOW, Interval

Array = NDArray[np.float64]
Model = Callable[[Mapping[str, Array]], Array]
"""Takes an array for each input, all of one length; returns the outcomes."""

EIGHTY = 1.2815515655446004
"""Standard deviations of a normal within which 80 % lie on both sides together. Source: its quantile at 0.9."""


@dataclass(frozen=True, slots=True)
class Swing:
    """What an answer does when one input goes to its bounds and the others stay in the middle."""

    name: str
    at_low: float
    at_high: float

    @property
    def size(self) -> float:
        """How far apart the two answers are."""
        return abs(self.at_high - self.at_low)


def draw(given: Interval, count: int, rng: np.random.Generator) -> Array:
    """Return `count` outcomes of an input whose interval holds 80 %.

    A positive input is drawn from two halves of log-normals that meet in its middle, so that uneven bounds stay
    uneven; one that can be zero or negative likewise from normals.
    """
    standard = rng.standard_normal(count)
    if given.low == given.mid == given.high:
        return np.full(count, given.mid)
    if given.low > 0:
        below, above = np.log(given.mid / given.low) / EIGHTY, np.log(given.high / given.mid) / EIGHTY
        return np.asarray(given.mid * np.exp(standard * np.where(standard < 0, below, above)))
    below, above = (given.mid - given.low) / EIGHTY, (given.high - given.mid) / EIGHTY
    return np.asarray(given.mid + standard * np.where(standard < 0, below, above))


def propagate(model: Model, inputs: Mapping[str, Interval], draws: int = 2000, seed: int = 0) -> Interval:
    """Return what a model answers over the outcomes of its inputs, which are taken as independent.

    Args:
        model: of arrays, all of length `draws`.
        inputs: name -> interval.
        draws: how many outcomes.
        seed: of the random numbers; the same seed gives the same answer.
    """
    rng = np.random.default_rng(seed)
    outcomes = np.asarray(model({name: draw(given, draws, rng) for name, given in inputs.items()}), dtype=float)
    low, high = np.quantile(outcomes, [LOW, HIGH])
    middle = float(np.asarray(model({name: np.array([given.mid]) for name, given in inputs.items()}))[0])
    return Interval(middle, min(float(low), middle), max(float(high), middle))


def tornado(model: Model, inputs: Mapping[str, Interval]) -> list[Swing]:
    """Return how far each input alone moves the answer between its bounds, the largest swing first."""
    swings = []
    for name, given in inputs.items():
        values = {other: np.full(2, each.mid) for other, each in inputs.items()}
        values[name] = np.array([given.low, given.high])
        low, high = np.asarray(model(values), dtype=float)
        swings.append(Swing(name, float(low), float(high)))
    return sorted(swings, key=lambda swing: -swing.size)
