"""One column's own distribution: from values to normal scores, and from latent normal values back.

A value owns an interval of probability: a number that occurs once a short one, a category its share. Its score is the
mean of the standard normal within that interval, so numbers, ties and categories are all of one kind.

Owns the intervals. Knows no other column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from bessemer.core.tabular import Column, ColumnConfig

Floats = NDArray[np.float64]
HERMITE = 10
"""Terms of the expansion that corrects for intervals; the next one would change a correlation by less than 0.001."""
_NOTHING = 1e-12
_STEP_REPEATS = 20
"""A number that so many rows share on average is an atom: nothing is made up between it and the next."""


@dataclass(frozen=True, slots=True)
class Marginal:
    """A column's distribution.

    Attributes:
        config: of the column.
        edges: cumulative probabilities, rising from 0 to 1; (intervals + 1) where values are steps, (knots) else.
        values: what stands at them: (intervals) numbers or codes where values are steps, (knots) numbers else.
        steps: whether an interval is one value; else values lie between the knots.
        categories: what codes mean.
    """

    config: ColumnConfig
    edges: Floats
    values: Floats
    steps: bool
    categories: tuple[str, ...] = ()

    @property
    def constant(self) -> bool:
        """Whether there is one value only, or none."""
        return len(self.values) < 2 or bool(self.values[0] == self.values[-1])

    def decode(self, latent: NDArray[Any]) -> NDArray[Any]:
        """Return the values of standard normal numbers: float64, or int32 codes."""
        if not len(self.values):
            empty = np.full(len(latent), np.nan if self.config.numeric else -1)
            return empty if self.config.numeric else empty.astype(np.int32)
        chance = ndtr(latent)
        if self.steps:
            at = np.searchsorted(self.edges[1:-1], chance, "right")
            found = self.values[at]
            return np.asarray(found if self.config.numeric else found.astype(np.int32))
        return self.rounded(np.interp(chance, self.edges, self.values))

    def rounded(self, found: Floats) -> Floats:
        """Return numbers with the decimals that the column has, within its bounds."""
        decimals = 0 if self.config.kind == "integer" else self.config.decimals
        if decimals is not None:
            found = np.round(found, decimals)
        low, high = self.config.bounds
        return found if low is None and high is None else np.clip(found, low, high)

    def intervals(self, values: NDArray[Any]) -> tuple[Floats, Floats]:
        """Return the ends of the intervals of values that this was not fitted to; a number between knots has none."""
        if self.steps:
            order = np.argsort(self.values, kind="stable")
            at = order[np.clip(np.searchsorted(self.values[order], values), 0, len(order) - 1)]
            return self.edges[at], self.edges[at + 1]
        unique, first = np.unique(self.values, return_index=True)
        last = np.append(first[1:], len(self.values)) - 1
        low = np.interp(values, unique, self.edges[first])
        high = np.interp(values, unique, self.edges[last])
        between = ~np.isin(values, unique)
        middle = np.where(between, self._between(values, unique, (first, last)), 0.0)
        return np.where(between, middle, low), np.where(between, middle, high)

    def _between(self, values: Floats, unique: Floats, ends: tuple[NDArray[Any], NDArray[Any]]) -> Floats:
        """Return the chance of numbers between two knots: from the end of the lower one to the start of the upper."""
        first, last = ends
        at = np.clip(np.searchsorted(unique, values, "right") - 1, 0, max(len(unique) - 2, 0))
        if len(unique) < 2:
            return np.full(len(values), 0.5)
        share = np.clip((values - unique[at]) / (unique[at + 1] - unique[at]), 0, 1)
        left = self.edges[last[at]]
        return np.asarray(left + share * (self.edges[first[at + 1]] - left))

    def scores(self, values: NDArray[Any]) -> Floats:
        """Return the score of each value: the mean of the standard normal within its interval."""
        low, high = self.intervals(values)
        ends = _normal(low), _normal(high)
        density = [np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) for z in ends]
        width = high - low
        wide = width > _NOTHING
        return np.where(wide, (density[0] - density[1]) / np.where(wide, width, 1.0), ends[0])


@dataclass(frozen=True, slots=True)
class Scores:
    """A column's scores.

    Attributes:
        values: (rows) float64; 0 where missing.
        hermite: (HERMITE) coefficients of the score as a function of the latent normal value; see `copula`.
    """

    values: Floats
    hermite: Floats


def fit_marginal(column: Column, knots: int) -> Marginal:
    """Return the distribution of the values of a column that are not missing."""
    config = column.config
    if not config.numeric:
        counts = np.bincount(column.values[column.values >= 0], minlength=len(column.categories))
        return categorical(config, counts.astype(float), column.categories)
    found = np.sort(column.values[~np.isnan(column.values)])
    if not len(found):
        return Marginal(config, np.array([0.0, 1.0]), np.empty(0), steps=True)
    unique, counts = np.unique(found, return_counts=True)
    if len(unique) * _STEP_REPEATS <= len(found) or len(unique) == 1:
        return Marginal(config, _edges(counts.astype(float)), unique, steps=True)
    at = np.linspace(0, len(found) - 1, min(knots, len(found)))
    return Marginal(config, np.linspace(0, 1, len(at)), np.interp(at, np.arange(len(found)), found), steps=False)


def categorical(
    config: ColumnConfig, counts: Floats, categories: tuple[str, ...], order: NDArray[Any] | None = None
) -> Marginal:
    """Return the distribution of categories that were counted, in an order; categories that never occur are kept."""
    if not counts.sum():
        return Marginal(config, np.array([0.0, 1.0]), np.empty(0), steps=True, categories=categories)
    order = np.argsort(-counts, kind="stable") if order is None else order
    order = order[counts[order] > 0]
    return Marginal(config, _edges(counts[order]), order.astype(float), steps=True, categories=categories)


def score(column: Column, marginal: Marginal) -> Scores:
    """Return the scores of the values that a marginal was fitted to."""
    missing = np.isnan(column.values) if column.config.numeric else column.values < 0
    values = np.zeros(len(column.values))
    if marginal.constant:
        return Scores(values, np.zeros(HERMITE))
    if marginal.steps:
        means, hermite = interval_scores(marginal.edges)
        place = np.zeros(max(len(marginal.categories), 1), dtype=np.int64)
        if column.config.numeric:
            at = np.searchsorted(marginal.values, column.values[~missing])
        else:
            place[marginal.values.astype(np.int64)] = np.arange(len(marginal.values))
            at = place[column.values[~missing]]
        values[~missing] = means[at]
        return Scores(values, hermite)
    _, inverse, counts = np.unique(column.values[~missing], return_inverse=True, return_counts=True)
    means, hermite = interval_scores(_edges(counts.astype(float)))
    values[~missing] = means[inverse]
    return Scores(values, hermite)


def interval_scores(edges: Floats) -> tuple[Floats, Floats]:
    """Return the mean of the standard normal within each interval, and the Hermite coefficients of that step function.

    Source: for the mean, Johnson, Kotz & Balakrishnan 1994, "Continuous Univariate Distributions", vol. 1, section
    10.1; for the coefficients, the integral of He_k(z) phi(z) is -He_(k-1)(z) phi(z).
    """
    z = _normal(edges, ends=True)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    density[[0, -1]] = 0.0
    inner = np.where(np.isfinite(z), z, 0.0)
    widths = np.diff(edges)
    means = np.where(widths > _NOTHING, (density[:-1] - density[1:]) / np.maximum(widths, _NOTHING), inner[:-1])
    before, now = np.zeros_like(inner), np.ones_like(inner)  # He_(k-2), He_(k-1)
    hermite, norm = np.zeros(HERMITE), 1.0
    for k in range(1, HERMITE + 1):
        part = now * density
        norm *= k
        hermite[k - 1] = means @ (part[:-1] - part[1:]) / np.sqrt(norm)
        before, now = now, inner * now - (k - 1) * before
    return means, hermite


def _edges(counts: Floats) -> Floats:
    edges = np.concatenate(([0.0], np.cumsum(counts)))
    return np.asarray(edges / edges[-1])


def _normal(chance: Floats, ends: bool = False) -> Floats:
    """Return quantiles of the standard normal; those of 0 and 1 are infinite at the ends, and far out elsewhere."""
    if ends:
        return np.asarray(ndtri(np.clip(chance, 0, 1)))
    return np.asarray(ndtri(np.clip(chance, 1e-9, 1 - 1e-9)))
