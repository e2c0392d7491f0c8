"""Fitting what needs no gradient: popularity, neighbours of items, EASE, and factors by alternating least squares."""

from __future__ import annotations

from typing import Any

import numpy as np

from bessemer.core.errors import ConfigError
from bessemer.models.ranking.base import Floats, Histories
from bessemer.models.ranking.factors import Factors
from bessemer.models.ranking.linear import Ease, Neighbours, Popularity
from bessemer.train.recommend.config import AlsConfig, EaseConfig, NeighboursConfig
from bessemer.train.recommend.interactions import matrix

_CELLS = 40_000_000
"""Numbers in the stacked systems of ALS at a time: 160 MB."""


def fit_popularity(histories: Histories, items: int) -> Popularity:
    """Return the ranker that counts users."""
    return Popularity(np.asarray(matrix(histories, items).sum(axis=0), np.float32).ravel())


def fit_neighbours(histories: Histories, items: int, config: NeighboursConfig) -> Neighbours:
    """Return the ranker by cosines of items' users, shrunk where few had both."""
    seen = matrix(histories, items)
    columns = seen.T.tocsr()
    counts = np.asarray(seen.sum(axis=0), np.float64).ravel()
    starts, numbers, values = [0], [], []
    for first in range(0, items, config.rows):
        both = (columns[first : first + config.rows] @ seen).tocsr()
        for row in range(both.shape[0]):
            part = slice(both.indptr[row], both.indptr[row + 1])
            item, others, together = first + row, both.indices[part], both.data[part]
            others, together = others[others != item], together[others != item]
            alike = together / (np.sqrt(counts[item] * counts[others]) + config.shrink_users)
            if len(alike) > config.neighbours:
                best = np.argpartition(-alike, config.neighbours)[: config.neighbours]
                others, alike = others[best], alike[best]
            starts.append(starts[-1] + len(others))
            numbers.append(others.astype(np.int32))
            values.append(alike.astype(np.float32))
    return Neighbours(np.asarray(starts, np.int64), np.concatenate(numbers), np.concatenate(values))


def fit_ease(histories: Histories, items: int, config: EaseConfig) -> Ease:
    """Return the autoencoder, by one inverse of (X'X + regularisation) from its Cholesky factor.

    Raises:
        ConfigError: there are more items than the declaration allows.
    """
    from scipy.linalg import lapack

    if items > config.most_items:
        raise ConfigError(
            f"EASE of {items:,} items would take {items**2 * 8 / 2**30:.0f} GiB, more than {config.most_items:,} items",
            hint="Choose item_knn or als, or raise most_items.",
        )
    seen = matrix(histories, items)
    gram = (seen.T @ seen).toarray().astype(np.float64, order="F")
    gram[np.diag_indices(items)] += config.regularisation
    factor, wrong = lapack.dpotrf(gram, lower=1, overwrite_a=1)
    inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if wrong or failed:
        raise ConfigError("the items' matrix has no inverse", hint="Raise the regularisation.")
    inverse = np.tril(inverse)
    return Ease(inverse + np.tril(inverse, -1).T)


def fit_als(histories: Histories, items: int, config: AlsConfig) -> Factors:
    """Return items' vectors, after users' and items' were solved in turn."""
    random = np.random.default_rng(config.seed)
    by_user = matrix(histories, items, weighted=True)
    by_item = by_user.T.tocsr()
    by_item.sort_indices()
    vectors = (random.standard_normal((items, config.width)) * 0.1 / np.sqrt(config.width)).astype(np.float32)
    users = np.zeros((len(histories), config.width), np.float32)
    for _ in range(config.rounds):
        users = _solved(by_user, vectors, config)
        vectors = _solved(by_item, users, config)
    return Factors(vectors, config.alpha, config.regularisation, config.by_count)


def _solved(rows: Any, others: Floats, config: AlsConfig) -> Floats:
    """Return the vector of each row that explains it best, given those of the columns; shape (rows, width).

    Rows of about one length are solved together: their columns' vectors are stacked, padded by weight 0.
    """
    width = others.shape[1]
    made = np.zeros((rows.shape[0], width), np.float32)
    gram = others.T @ others
    lengths = np.diff(rows.indptr)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    while len(order):
        longest = lengths[order[-1]]
        many = max(1, int(_CELLS // (width * max(longest, width))))
        batch = order[-many:]
        batch = batch[lengths[batch] * 2 >= longest]
        order = order[: len(order) - len(batch)]
        made[batch] = _solve_batch(rows, batch, int(longest), others, gram, config)
    return made


def _solve_batch(rows: Any, batch: Any, longest: int, others: Floats, gram: Floats, config: AlsConfig) -> Floats:
    width = others.shape[1]
    lengths = np.diff(rows.indptr)[batch]
    there = np.arange(longest) < lengths[:, None]
    flat = np.where(there, rows.indptr[batch][:, None] + np.arange(longest), 0)
    mine = others[rows.indices[flat]] * there[..., None]
    extra = config.alpha * rows.data[flat] * there
    left = mine.transpose(0, 2, 1) @ (mine * extra[..., None])
    left += gram
    ridge = config.regularisation * (lengths if config.by_count else np.ones(len(batch)))
    left[:, np.arange(width), np.arange(width)] += ridge[:, None].astype(np.float32)
    right = ((1 + extra)[:, None, :] @ mine)[:, 0]
    return np.asarray(np.linalg.solve(left, right[..., None])[..., 0], np.float32)
