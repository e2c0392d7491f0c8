"""A Gaussian copula's correlations: estimated from scores, made a correlation matrix, conditioned on some columns.

Scores of ties and categories vary less than the normal values behind them, so their plain correlations are too small.
The covariance of two such step functions g and h of normal values with correlation r is the sum over k of
r^k g_k h_k, with their Hermite coefficients (Mehler); it rises with r, so r is found by bisection, for all pairs.
Source: Lancaster 1957, "Some properties of the bivariate normal distribution", Biometrika 44; the estimate is a
polychoric correlation by moments.

Owns the estimate. Knows no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.train.tables.marginals import HERMITE, Floats, Scores

_LIMIT = 0.9999
_BISECTIONS = 40
_LEAST_EIGENVALUE = 1e-6
_LEAST_SPREAD = 1e-3


def correlations(scores: Sequence[Scores], present: NDArray[np.bool_] | None = None, given: int = 0) -> Floats:
    """Return the correlation matrix of the normal values behind scores, (columns, columns).

    Args:
        scores: of each column, over the same rows.
        present: (rows, columns) where values are not missing; None if none is. A pair uses the rows that have both.
        given: of so many first columns the scores themselves are meant, as they will be what is known: the matrix has
            their covariances, with each other and with the normal values of the rest.
    """
    if not scores:
        return np.empty((0, 0))
    values = np.column_stack([each.values for each in scores])
    if present is None:
        together: Floats = np.full((len(scores),) * 2, float(len(values)))
    else:
        seen = present.astype(np.float32)
        together = np.maximum((seen.T @ seen).astype(float), 1.0)
    covariance = (values.T @ values) / together
    hermite = np.stack([each.hermite for each in scores])
    found = nearest(unattenuated(covariance, hermite))
    if given:  # the covariance of a score with a normal value of correlation r is r times its first coefficient
        found[:given] *= hermite[:given, :1]
        found[:, :given] *= hermite[:given, 0]
        found[:given, :given] = covariance[:given, :given]
    return np.asarray(found)


def unattenuated(covariance: Floats, hermite: Floats) -> Floats:
    """Return the correlations at which step functions with these coefficients, (columns, terms), have a covariance."""
    low, high = np.full(covariance.shape, -_LIMIT), np.full(covariance.shape, _LIMIT)
    products = [np.outer(hermite[:, k], hermite[:, k]) for k in range(HERMITE)]
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        reached = np.zeros_like(middle)
        for product in reversed(products):  # Horner
            reached = (reached + product) * middle
        low, high = np.where(reached < covariance, middle, low), np.where(reached < covariance, high, middle)
    found = (low + high) / 2
    found[hermite[:, 0] == 0] = 0.0  # a constant goes with nothing
    found[:, hermite[:, 0] == 0] = 0.0
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def nearest(matrix: Floats) -> Floats:
    """Return a correlation matrix near a symmetric one: negative eigenvalues are cut off, the diagonal is 1 again."""
    symmetric = (matrix + matrix.T) / 2
    eigenvalues, vectors = np.linalg.eigh(symmetric)
    if eigenvalues[0] >= _LEAST_EIGENVALUE:
        return np.asarray(symmetric)
    fixed = (vectors * np.maximum(eigenvalues, _LEAST_EIGENVALUE)) @ vectors.T
    scale = np.sqrt(np.diag(fixed))
    return np.asarray(fixed / np.outer(scale, scale))


@dataclass(frozen=True, slots=True)
class Normal:
    """A multivariate normal given some of its columns: mean is ``given @ weights``, noise has a Cholesky factor.

    Attributes:
        weights: (given, columns) float32.
        factor: (columns, columns) float32, lower triangle.
    """

    weights: NDArray[np.float32]
    factor: NDArray[np.float32]

    def draw(
        self, rows: int, random: np.random.Generator, given: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return (rows, columns) drawn."""
        noise = random.standard_normal((rows, len(self.factor)), dtype=np.float32) @ self.factor.T
        return noise if given is None or not len(self.weights) else noise + given @ self.weights


def conditioned(matrix: Floats, given: int) -> Normal:
    """Return the distribution of the columns after the first `given` ones, given those; each has variance 1 again.

    What is given may be linearly dependent, such as a city with its country: directions without spread are left out.
    Source: Anderson 2003, "An Introduction to Multivariate Statistical Analysis", section 2.5.1.
    """
    cross = matrix[:given, given:]
    weights = np.linalg.pinv(matrix[:given, :given], rcond=_LEAST_SPREAD, hermitian=True) @ cross if given else cross
    explained = weights.T @ cross
    rest = matrix[given:, given:] - explained
    eigenvalues, vectors = np.linalg.eigh((rest + rest.T) / 2)
    factor: Floats = np.transpose(np.linalg.qr((vectors * np.sqrt(np.maximum(eigenvalues, 0.0))).T, mode="r"))
    spread = np.sqrt(np.maximum((factor**2).sum(axis=1) + np.diag(explained), _LEAST_EIGENVALUE))
    return Normal((weights / spread).astype(np.float32), (factor / spread[:, None]).astype(np.float32))
