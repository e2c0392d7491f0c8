"""Columns as a few bars of real and synthetic values side by side, for people.

Owns the bins. Knows not how bars are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bessemer.core.tabular import Column
from bessemer.evals.tables.quality import aligned


@dataclass(frozen=True, slots=True)
class Profile:
    """Shares of the values of a column in the same bins, or of its commonest categories."""

    real: tuple[float, ...]
    synthetic: tuple[float, ...]


def profile(real: Column, synthetic: Column, bars: int = 12) -> Profile:
    """Return the bars of a column; of numbers between the real first and last percent, of categories the commonest."""
    one, other = aligned(real, synthetic)
    one, other = one[~np.isnan(one)], other[~np.isnan(other)]
    if not len(one):
        return Profile((), ())
    if real.config.numeric:
        low, high = np.quantile(one, [0.01, 0.99])
        edges = np.linspace(low, high if high > low else low + 1, bars + 1)
        edges[0], edges[-1] = -np.inf, np.inf
        counts = [np.histogram(values, edges)[0] for values in (one, other)]
    else:
        counts = [np.bincount(values.astype(int), minlength=len(real.categories)) for values in (one, other)]
        order = np.argsort(-counts[0], kind="stable")[:bars]
        counts = [each[order] for each in counts]
    shares = [tuple(float(count) / max(1, len(values)) for count in each)
              for each, values in zip(counts, (one, other), strict=True)]  # fmt: skip
    return Profile(*shares)
