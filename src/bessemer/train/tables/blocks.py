"""Columns as latent normal values and back: every column's distribution, and which values are missing together.

Columns that are missing in the same rows share one latent value that says whether they are there, so that missing goes
with whatever it goes with in the data.

Owns the layout of latent values. Knows no correlation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bessemer.core.tabular import Column
from bessemer.train.tables.marginals import (
    HERMITE,
    Floats,
    Marginal,
    Scores,
    categorical,
    fit_marginal,
    interval_scores,
    score,
)


@dataclass(frozen=True, slots=True)
class Block:
    """Columns with their distributions.

    Attributes:
        marginals: by column.
        groups: column -> number of its pattern of missing values; columns that are always there are not in it.
        missing: share of rows in which each pattern is missing.
    """

    marginals: Mapping[str, Marginal]
    groups: Mapping[str, int]
    missing: tuple[float, ...]

    @property
    def moving(self) -> tuple[str, ...]:
        """The columns that have a latent value, in order; after them come those of the patterns."""
        return tuple(name for name, marginal in self.marginals.items() if not marginal.constant)

    @property
    def width(self) -> int:
        """How many latent values a row has."""
        return len(self.moving) + len(self.missing)

    def decode(self, latent: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the values of each column from (rows, width) latent values."""
        moving = self.moving
        gone = latent[:, len(moving) :] < ndtri(np.asarray(self.missing))
        found = {}
        for name, marginal in self.marginals.items():
            at = moving.index(name) if name in moving else None
            values = marginal.decode(np.zeros(len(latent)) if at is None else latent[:, at])
            if (group := self.groups.get(name)) is not None:
                values[gone[:, group]] = np.nan if marginal.config.numeric else -1
            found[name] = values
        return found

    def scores(self, columns: Mapping[str, Column]) -> NDArray[np.float32]:
        """Return the scores (rows, width) of columns that this was not fitted to; 0 where a value is missing."""
        rows = len(next(iter(columns.values())).values) if columns else 0
        found = np.zeros((rows, self.width), dtype=np.float32)
        for at, name in enumerate(self.moving):
            there = present(columns[name])
            found[there, at] = self.marginals[name].scores(columns[name].values[there])
        for name, group in self.groups.items():
            means, _ = interval_scores(np.array([0.0, self.missing[group], 1.0]))
            found[:, len(self.moving) + group] = means[present(columns[name]).astype(np.int64)]
        return found


@dataclass(frozen=True, slots=True)
class Fitted:
    """A block with the scores of the rows that it was fitted to, and which of them are there; None is all."""

    block: Block
    scores: list[Scores]
    present: NDArray[np.bool_] | None


def fit_block(columns: Mapping[str, Column], knots: int, sweeps: int) -> Fitted:
    """Return the distributions of columns, with categories in the order in which the other columns rise."""
    marginals = {name: fit_marginal(column, knots) for name, column in columns.items()}
    scores = {name: score(column, marginals[name]) for name, column in columns.items()}
    for _ in range(sweeps):
        _sweep(columns, marginals, scores)
    groups, missing, patterns = _patterns(columns)
    block = Block(marginals, groups, missing)
    there = np.ones((len(patterns[0]), block.width), bool) if patterns else None
    if there is not None:
        for at, name in enumerate(block.moving):
            there[:, at] = present(columns[name])
    return Fitted(block, [scores[name] for name in block.moving] + [pattern_scores(p) for p in patterns], there)


def _sweep(columns: Mapping[str, Column], marginals: dict[str, Marginal], scores: dict[str, Scores]) -> None:
    """Put the categories of each column in the order of what the other columns predict of them."""
    moving = [name for name, marginal in marginals.items() if not marginal.constant]
    nominal = [name for name in moving if not columns[name].config.numeric and len(marginals[name].values) > 2]
    if not nominal or len(moving) < 2:
        return
    matrix = np.column_stack([scores[name].values for name in moving])
    for name in nominal:
        at = moving.index(name)
        goes_with = matrix.T @ matrix[:, at] / len(matrix)
        goes_with[at] = 0.0
        pull = matrix @ goes_with
        column = columns[name]
        there = column.values >= 0
        counts = np.bincount(column.values[there], minlength=len(column.categories)).astype(float)
        means = np.bincount(column.values[there], pull[there], len(column.categories)) / np.maximum(counts, 1)
        marginals[name] = categorical(column.config, counts, column.categories, np.argsort(means, kind="stable"))
        scores[name] = score(column, marginals[name])
        matrix[:, at] = scores[name].values


def _patterns(columns: Mapping[str, Column]) -> tuple[dict[str, int], tuple[float, ...], list[NDArray[np.bool_]]]:
    """Return each column's pattern of missing values, the share of each, and which rows it is missing in."""
    groups: dict[str, int] = {}
    known: dict[bytes, int] = {}
    patterns: list[NDArray[np.bool_]] = []
    for name, column in columns.items():
        gone = ~present(column)
        if not gone.any() or gone.all():  # a column without any value has a marginal without any
            continue
        key = np.packbits(gone).tobytes()
        if key not in known:
            known[key] = len(patterns)
            patterns.append(gone)
        groups[name] = known[key]
    return groups, tuple(float(gone.mean()) for gone in patterns), patterns


def present(column: Column) -> NDArray[np.bool_]:
    """Return which values are there; (rows)."""
    return np.asarray(~np.isnan(column.values) if column.config.numeric else column.values >= 0)


def pattern_scores(gone: NDArray[np.bool_]) -> Scores:
    """Return the scores of whether values are there."""
    share = float(gone.mean())
    if not 0 < share < 1:
        return Scores(np.zeros(len(gone)), np.zeros(HERMITE))
    means, hermite = interval_scores(np.array([0.0, share, 1.0]))
    return Scores(means[(~gone).astype(np.int64)], hermite)


def joined(blocks: Sequence[Fitted]) -> tuple[list[Scores], NDArray[np.bool_] | None]:
    """Return the scores of several blocks over the same rows side by side, and which are there."""
    scores = [each for block in blocks for each in block.scores]
    if all(block.present is None for block in blocks):
        return scores, None
    rows = len(scores[0].values) if scores else 0
    there = [np.ones((rows, len(b.scores)), bool) if b.present is None else b.present for b in blocks]
    return scores, np.hstack(there)


def standing(made: Mapping[str, Floats], configs: Mapping[str, Marginal]) -> dict[str, Column]:
    """Return decoded values as columns."""
    return {name: Column(configs[name].config, values, configs[name].categories) for name, values in made.items()}
