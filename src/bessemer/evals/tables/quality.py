"""How much a synthetic table looks like the data: the shape of each column, the trend of each pair.

The formulas are those that SDMetrics publishes, so that figures can be compared: KSComplement and TVComplement for
columns; CorrelationSimilarity and ContingencySimilarity for pairs. Source: docs.sdv.dev/sdmetrics, quality metrics.

Owns the figures. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bessemer.core.tabular import Column, Table

BINS = 10
_HEAPED = 4_000_000
"""Cells of a table of two columns, above which combinations are sorted instead of counted in place."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures from 0 to 1, higher is better.

    Attributes:
        shapes: by column.
        missing: 1 - the difference of the shares that are missing, by column.
        trends: by pair of columns.
    """

    shapes: Mapping[str, float]
    missing: Mapping[str, float]
    trends: Mapping[tuple[str, str], float]

    @property
    def column_shapes(self) -> float:
        """Mean over columns; 0 where there is none."""
        return float(np.mean(list(self.shapes.values()))) if self.shapes else 0.0

    @property
    def pair_trends(self) -> float:
        """Mean over pairs; that of the shapes where there is no pair."""
        return float(np.mean(list(self.trends.values()))) if self.trends else self.column_shapes

    @property
    def overall(self) -> float:
        """Mean of both."""
        return (self.column_shapes + self.pair_trends) / 2


def quality(real: Table, synthetic: Table) -> Quality:
    """Return how much a synthetic table looks like the data; ids are left out.

    A column without any value, and a pair in which a number is constant, has no figure.
    """
    names = [name for name, column in real.columns.items() if column.config.kind != "id"]
    pairs = {name: aligned(real.columns[name], synthetic.columns[name]) for name in names}
    numeric = {name: real.columns[name].config.numeric for name in names}
    shapes = {name: found for name, pair in pairs.items() if (found := shape(*pair, numeric[name])) is not None}
    gone = {name: 1 - abs(float(np.isnan(a).mean() - np.isnan(b).mean())) for name, (a, b) in pairs.items()}
    binned = {name: discretised(*pair) if numeric[name] else _codes(*pair) for name, pair in pairs.items()}
    trends = {}
    for one, other in combinations(names, 2):
        if numeric[one] and numeric[other]:
            found = correlation_similarity((pairs[one][0], pairs[other][0]), (pairs[one][1], pairs[other][1]))
        else:
            found = contingency_similarity((binned[one][0], binned[other][0]), (binned[one][1], binned[other][1]))
        if found is not None:
            trends[one, other] = found
    return Quality(shapes, gone, trends)


def aligned(real: Column, synthetic: Column) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values of both as floats that mean the same: numbers, or codes of the same categories; NaN missing."""
    if real.config.numeric:
        return np.asarray(real.values, float), np.asarray(synthetic.values, float)
    place = {text: float(code) for code, text in enumerate(real.categories)}
    for text in synthetic.categories:
        place.setdefault(text, float(len(place)))
    found = []
    for column in (real, synthetic):
        codes = np.array([place[text] for text in column.categories] + [np.nan])
        found.append(codes[column.values])
    return found[0], found[1]


def shape(real: Floats, synthetic: Floats, numeric: bool) -> float | None:
    """Return one minus the greatest difference of the distribution functions (Kolmogorov-Smirnov) of two columns.

    Of codes (`numeric` false) one minus the total variation distance of their shares. None where one has no value.
    """
    real, synthetic = real[~np.isnan(real)], synthetic[~np.isnan(synthetic)]
    if not len(real) or not len(synthetic):
        return None
    if not numeric:
        return total_variation_complement(real, synthetic)
    real, synthetic = np.sort(real), np.sort(synthetic)
    at = np.concatenate((real, synthetic))
    below = np.searchsorted(real, at, "right") / len(real), np.searchsorted(synthetic, at, "right") / len(synthetic)
    return 1 - float(np.abs(below[0] - below[1]).max())


def total_variation_complement(real: Floats, synthetic: Floats) -> float:
    """Return one minus half the sum of the differences of the shares of each code."""
    most = int(max(real.max(), synthetic.max())) + 1
    shares = [np.bincount(codes.astype(np.int64), minlength=most) / len(codes) for codes in (real, synthetic)]
    return 1 - float(np.abs(shares[0] - shares[1]).sum()) / 2


def correlation_similarity(real: tuple[Floats, Floats], synthetic: tuple[Floats, Floats]) -> float | None:
    """Return one minus half the difference of Pearson's correlations, over rows where both numbers are there."""
    found = [_pearson(*pair) for pair in (real, synthetic)]
    if found[0] is None or found[1] is None:
        return None
    return 1 - abs(found[0] - found[1]) / 2


def _pearson(one: Floats, other: Floats) -> float | None:
    there = ~(np.isnan(one) | np.isnan(other))
    a, b = one[there], other[there]
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return None
    return float(np.corrcoef(a, b)[0, 1])


def contingency_similarity(
    real: tuple[NDArray[np.int64], NDArray[np.int64]], synthetic: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> float:
    """Return one minus half the sum of the differences of the shares of each pair of codes; codes are from 0."""
    wide = int(max(real[1].max(), synthetic[1].max())) + 1
    codes = [one * wide + other for one, other in (real, synthetic)]
    most = int(max(codes[0].max(), codes[1].max())) + 1
    if most > _HEAPED:
        _, both = np.unique(np.concatenate(codes), return_inverse=True)
        codes = [both[: len(codes[0])], both[len(codes[0]) :]]
        most = int(both.max()) + 1
    shares = [np.bincount(each, minlength=most) / len(each) for each in codes]
    return 1 - float(np.abs(shares[0] - shares[1]).sum()) / 2


def discretised(real: Floats, synthetic: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the bins of the real range, ten of equal width, open at both ends; missing is the last."""
    there = real[~np.isnan(real)]
    if not len(there):
        edges = np.array([-np.inf, np.inf])
    else:
        edges = np.histogram_bin_edges(there, bins=BINS)
        edges[0], edges[-1] = -np.inf, np.inf
    return np.digitize(real, edges), np.digitize(synthetic, edges)


def _codes(real: Floats, synthetic: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return codes from 1; missing is 0."""
    return np.nan_to_num(real + 1).astype(np.int64), np.nan_to_num(synthetic + 1).astype(np.int64)
