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
_CACHED_CELLS = 400_000
"""The same for conjugate gradients, which go through them nine times: 1.6 MB stay in a core's own cache."""


def fit_popularity(histories: Histories, items: int) -> Popularity:
    """Return the ranker that counts users."""
    return Popularity(np.asarray(matrix(histories, items).sum(axis=0), np.float32).ravel())


def fit_neighbours(histories: Histories, items: int, config: NeighboursConfig) -> Neighbours:
    """Return the ranker by cosines of items' users, shrunk where few had both.

    Each item is recommended by its own nearest ones, not by all whose nearest it is: those of a popular item are many.
    """
    from scipy import sparse

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
    told = (np.concatenate(values), np.concatenate(numbers), np.asarray(starts))
    by_source = sparse.csr_matrix(told, shape=(items, items)).T.tocsr()
    return Neighbours(
        by_source.indptr.astype(np.int64), by_source.indices.astype(np.int32), by_source.data.astype(np.float32)
    )


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
        users = _solved(by_user, vectors, config, users)
        vectors = _solved(by_item, users, config, vectors)
    return Factors(vectors, config.alpha, config.regularisation, config.by_count)


def _solved(rows: Any, others: Floats, config: AlsConfig, start: Floats) -> Floats:
    """Return the vector of each row that explains it best, given those of the columns; shape (rows, width).

    Rows of about one length are solved together: their columns' vectors are stacked, padded by weight 0. `start` are
    the rows' vectors of the round before.
    """
    width = others.shape[1]
    padded = np.concatenate([others, np.zeros((1, width), np.float32)])  # the last is what pads
    cells = _CACHED_CELLS if config.steps else _CELLS
    made = np.zeros((rows.shape[0], width), np.float32)
    gram = others.T @ others
    alone = np.linalg.inv(gram.astype(np.float64) + config.regularisation * np.eye(width))
    through = others @ alone.astype(np.float32)
    lengths = np.diff(rows.indptr)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    while len(order):
        longest = int(lengths[order[-1]])
        many = max(1, int(cells // (width * max(longest, width))))
        batch = order[-many:]
        batch = batch[lengths[batch] * 1.25 >= longest - 2]
        order = order[: len(order) - len(batch)]
        there = np.arange(longest) < lengths[batch][:, None]
        flat = np.where(there, rows.indptr[batch][:, None] + np.arange(longest), 0)
        columns, extra = rows.indices[flat], config.alpha * rows.data[flat] * there
        ridge = config.regularisation * (lengths[batch] if config.by_count else np.ones(len(batch)))
        if config.steps:
            shared = (gram, ridge[:, None].astype(np.float32))
            mine = np.take(padded, np.where(there, columns, len(others)), axis=0)
            made[batch] = _stepped(mine, extra, shared, start[batch], config.steps)
        elif longest <= width and not config.by_count:
            made[batch] = _short(columns, extra, there, others, through)
        else:
            made[batch] = _long(columns, extra, there, others, gram, ridge)
    return made


def _stepped(mine: Floats, extra: Any, shared: tuple[Floats, Floats], start: Floats, steps: int) -> Floats:
    """Come nearer to each row's solution by some steps of conjugate gradients from where it was.

    Source: Takács, Pilászy & Tikk 2011, "Applications of the Conjugate Gradient Method for Implicit Feedback
    Collaborative Filtering", RecSys.
    """
    gram, ridge = shared
    extra = extra.astype(np.float32)

    def applied(x: Floats) -> Floats:
        seen = (mine @ x[..., None])[..., 0] * extra
        return np.asarray(x @ gram + ridge * x + (seen[:, None, :] @ mine)[:, 0], np.float32)

    x = start.copy()
    # What is padded has vectors of 0, so its 1 adds nothing to the right side.
    residual = ((1 + extra)[:, None, :] @ mine)[:, 0] - applied(x)
    direction, size = residual.copy(), (residual**2).sum(axis=1, keepdims=True)
    for _ in range(steps):
        moved = applied(direction)
        length = size / np.maximum((direction * moved).sum(axis=1, keepdims=True), 1e-30)
        x += length * direction
        residual -= length * moved
        left = (residual**2).sum(axis=1, keepdims=True)
        direction = residual + left / np.maximum(size, 1e-30) * direction
        size = left
    return x


def _short(columns: Any, extra: Any, there: Any, others: Floats, through: Floats) -> Floats:
    """Solve rows shorter than the vectors are wide: by a system of the row's length, not of the width.

    The columns' vectors V change the inverse that all rows share, M, by Woodbury's identity:
    x = Mb - MV'(C + VMV')^-1 VMb, with C the inverse of the extra confidences and b = V'(1 + extra).
    """
    mine, shifted = others[columns], through[columns]
    first = ((1 + extra) * there)[:, None, :] @ shifted  # Mb; shape (rows, 1, width)
    system = shifted @ mine.transpose(0, 2, 1)
    places = np.arange(columns.shape[1])
    system *= there[:, :, None] & there[:, None, :]
    system[:, places, places] += 1 / np.where(there, extra, 1)
    seen = (mine @ first.transpose(0, 2, 1)) * there[..., None]
    solved = np.linalg.solve(system, seen)
    return np.asarray((first - solved.transpose(0, 2, 1) @ shifted)[:, 0], np.float32)


def _long(columns: Any, extra: Any, there: Any, others: Floats, gram: Floats, ridge: Any) -> Floats:
    """Solve rows by a system of the vectors' width."""
    width = others.shape[1]
    mine = others[columns] * there[..., None]
    left = mine.transpose(0, 2, 1) @ (mine * extra[..., None])
    left += gram
    left[:, np.arange(width), np.arange(width)] += ridge[:, None].astype(np.float32)
    right = ((1 + extra)[:, None, :] @ mine)[:, 0]
    return np.asarray(np.linalg.solve(left, right[..., None])[..., 0], np.float32)
