"""How much a synthetic table tells of single rows of the data, held against rows that the model never saw.

A model that learnt the population and not its rows makes rows as near to rows held out as to those that it learnt from.
So each figure is told with what the rows held out come to: a distance alone says nothing.

Owns the figures. Knows no model. None of them is a guarantee; differential privacy is one.
Source: distance to the closest record and its ratio to the next: Platzer & Reutterer 2021, "Holdout-based empirical
assessment of mixed-type synthetic data"; the attack: Chen et al. 2020, "GAN-Leaks", the distance to what was generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.core.nouns import Interval
from bessemer.core.tabular import Column, Table
from bessemer.evals.tables.quality import Floats, aligned

CONFIDENCE = 0.95
_Z = 1.959963984540054
_CELLS = 4_000_000
_SAME = 1e-12


@dataclass(frozen=True, slots=True)
class Privacy:
    """Figures of single rows.

    Attributes:
        exact_copies: synthetic rows that equal a row of the data in all columns but ids.
        holdout_copies: rows held out that do: what equal rows are there by themselves.
        closest: median distance of a synthetic row to the closest row of the data, 0 to 1; ``closest_holdout`` is that
            of a row held out.
        ratio: fifth percentile of the ratio of that distance to the next closest one; near 0 is a copy with noise.
        nearer: share of synthetic rows that are nearer to the data than to as many rows held out; 0.5 is ideal.
        membership: how well the distance to the closest synthetic row tells rows of the data from rows held out, as the
            area under the curve; 0.5 is chance, 1 tells all.
    """

    rows: int
    exact_copies: int
    holdout_copies: int
    closest: float
    closest_holdout: float
    ratio: float
    ratio_holdout: float
    nearer: Interval
    membership: Interval


def privacy(train: Table, holdout: Table, synthetic: Table, most_rows: int = 2000, seed: int = 0) -> Privacy:
    """Return how much a synthetic table tells of single rows.

    Args:
        train: what the model learnt from.
        holdout: rows of the same kind that it never saw.
        synthetic: what it made.
        most_rows: distances are taken of so many rows of each at most, drawn.
        seed: of that draw.
    """
    random = np.random.default_rng(seed)
    names = [name for name, column in train.columns.items() if column.config.kind != "id"]
    copies = exact_copies(train, synthetic), exact_copies(train, holdout)
    even = min(train.rows, holdout.rows, most_rows)
    members, others = (table.take(random.permutation(table.rows)[:even]) for table in (train, holdout))
    made = synthetic.take(random.permutation(synthetic.rows)[:most_rows])
    space = Space(train, names)
    to_train, to_holdout = space.closest(made, members, 2), space.closest(made, others, 2)
    nearest = np.where(
        to_train[:, 0] <= to_holdout[:, 0], space.nearest(made, members), members.rows + space.nearest(made, others)
    )
    from_members, from_others = space.closest(members, made, 1)[:, 0], space.closest(others, made, 1)[:, 0]
    between = space.closest(others, members, 2)
    return Privacy(
        rows=made.rows, exact_copies=copies[0], holdout_copies=copies[1],
        closest=float(np.median(to_train[:, 0])), closest_holdout=float(np.median(between[:, 0])),
        ratio=_ratio(to_train), ratio_holdout=_ratio(between),
        nearer=nearer_share(to_train[:, 0], to_holdout[:, 0], nearest), membership=area(-from_members, -from_others),
    )  # fmt: skip


class Space:
    """Gower's distance: over columns, the mean of the difference in shares of the range, or of being another category.

    Missing is as far as can be from any value and no distance from missing.
    Source: Gower 1971, "A general coefficient of similarity", Biometrics 27; SDMetrics' distances are the same.

    Args:
        reference: whose ranges are meant.
        names: of the columns.
    """

    def __init__(self, reference: Table, names: list[str]) -> None:
        self._reference, self._names = reference, names

    def closest(self, rows: Table, among: Table, count: int) -> Floats:
        """Return the distances of each row to the `count` closest ones, rising; (rows, count). 1 where there are not
        so many."""
        found = np.ones((rows.rows, count))
        for start, total in self._distances(rows, among):
            some = min(count, among.rows)
            found[start : start + len(total), :some] = np.sort(np.partition(total, some - 1, axis=1)[:, :some], axis=1)
        return found

    def nearest(self, rows: Table, among: Table) -> NDArray[np.int64]:
        """Return the number of the closest row for each row."""
        found = [total.argmin(axis=1) for _, total in self._distances(rows, among)]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _distances(self, rows: Table, among: Table) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the number of a first row, and the distances of it and some after it to all of `among`."""
        pairs = [self._scaled(rows.columns[name], among.columns[name], name) for name in self._names]
        step = max(1, _CELLS // max(among.rows, 1))
        for start in range(0, rows.rows, step):
            total = np.zeros((min(step, rows.rows - start), among.rows), dtype=np.float32)
            for (one, other), name in zip(pairs, self._names, strict=True):
                total += self._apart(one[start : start + step, None], other[None], name)
            total /= max(len(self._names), 1)
            yield start, total

    def _scaled(self, one: Column, other: Column, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return numbers in shares of the reference's range, or codes that mean the same in both; NaN missing."""
        reference = self._reference.columns[name]
        if reference.config.numeric:
            there = reference.values[~np.isnan(reference.values)]
            low, span = (float(there.min()), float(np.ptp(there))) if len(there) else (0.0, 0.0)
            scaled = [((each.values - low) / (span or 1.0)).astype(np.float32) for each in (one, other)]
            return scaled[0], scaled[1]
        found = aligned(one, other)
        return found[0].astype(np.float32), found[1].astype(np.float32)

    def _apart(self, one: NDArray[np.float32], other: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        if self._reference.columns[name].config.numeric:
            apart = np.minimum(np.abs(one - other), np.float32(1))
        else:
            apart = (one != other).astype(np.float32)
        gone = np.isnan(one), np.isnan(other)
        if gone[0].any() or gone[1].any():
            apart = np.where(gone[0] | gone[1], (gone[0] != gone[1]).astype(np.float32), apart)
        return np.asarray(apart)


def exact_copies(train: Table, other: Table) -> int:
    """Return how many rows of a table equal a row of the data in all columns but ids; missing equals missing."""
    keys: list[NDArray[np.int64]] = [np.zeros(train.rows, np.int64), np.zeros(other.rows, np.int64)]
    for name, column in train.columns.items():
        if column.config.kind == "id":
            continue
        one, two = aligned(column, other.columns[name])
        both = np.concatenate((one, two))
        _, codes = np.unique(np.where(np.isnan(both), np.inf, both), return_inverse=True)
        joined = np.concatenate(keys) * (int(codes.max()) + 1) + codes
        _, joined = np.unique(joined, return_inverse=True)
        keys = [joined[: train.rows], joined[train.rows :]]
    return int(np.isin(keys[1], keys[0]).sum())


def nearer_share(to_train: Floats, to_holdout: Floats, nearest: NDArray[np.int64]) -> Interval:
    """Return the share of rows that are nearer to the data than to as many rows held out; ties count half.

    Rows that have the same neighbour are not independent: which side that neighbour was drawn to decides for all of
    them. If sides were drawn anew, the share would vary by p (1 - p) times the sum of the squared shares of rows that
    each neighbour has; the interval is that of the normal distribution.

    Args:
        to_train: distance of each row to the closest row of the data.
        to_holdout: to the closest row held out.
        nearest: which neighbour is the closest of both sides, by any number.
    """
    share = float(np.mean((to_train < to_holdout - _SAME) + 0.5 * (np.abs(to_train - to_holdout) <= _SAME)))
    weights = np.unique(nearest, return_counts=True)[1] / len(nearest)
    half = _Z * float(np.sqrt(max(share * (1 - share), 1 / (4 * len(nearest))) * (weights**2).sum()))
    return Interval(value=share, low=max(0.0, share - half), high=min(1.0, share + half), confidence=CONFIDENCE)


def area(members: Floats, others: Floats) -> Interval:
    """Return the area under the curve of a score that should be higher for members, with DeLong's interval.

    Source: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, in the form by ranks of Sun & Xu 2014.
    """
    m, n = len(members), len(others)
    if not m or not n:
        return Interval(value=0.5, low=0.0, high=1.0, confidence=CONFIDENCE)
    both = _ranks(np.concatenate((members, others)))
    value = (both[:m].sum() - m * (m + 1) / 2) / (m * n)
    of_members = (both[:m] - _ranks(members)) / n
    of_others = 1 - (both[m:] - _ranks(others)) / m
    variance = (np.var(of_members, ddof=1) / m if m > 1 else 0.25) + (np.var(of_others, ddof=1) / n if n > 1 else 0.25)
    half = _Z * float(np.sqrt(variance))
    return Interval(
        value=float(value), low=max(0.0, float(value) - half), high=min(1.0, float(value) + half), confidence=CONFIDENCE
    )


def _ranks(values: Floats) -> Floats:
    """Return ranks from 1; ties share the middle one."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def _ratio(distances: Floats) -> float:
    near, next_ = distances[:, 0], distances[:, 1]
    return float(np.quantile(np.where(next_ > 0, near / np.maximum(next_, _SAME), 1.0), 0.05))
