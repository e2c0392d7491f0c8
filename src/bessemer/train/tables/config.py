"""How table models are fitted and sampled. Light to import."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config


class PrivacyConfig(Config):
    """Differential privacy: what anybody can learn of one row is bounded, whatever else they know.

    Neighbouring tables differ in one row, added or removed. Bounds and categories must be declared for every column.

    Attributes:
        epsilon: the bound; smaller is more private.
        delta: the probability that the bound does not hold; well below one over the rows.
        marginal_ratio: share of the budget that the columns' own distributions get; the rest goes to the correlations.
        bins: of a numeric column's histogram.
        norm: rows whose scores have a greater Euclidean norm are scaled down to it; None is what hardly any is beyond.
    """

    epsilon: Annotated[float, Field(gt=0, le=100)] = 1.0
    delta: Annotated[float, Field(gt=0, lt=0.01)] = 1e-6
    marginal_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    bins: Annotated[int, Field(ge=2, le=1000)] = 32
    norm: Annotated[float, Field(gt=0)] | None = None


class CopulaConfig(Config):
    """How a Gaussian copula is fitted and sampled.

    Attributes:
        knots: of a numeric column's quantile function, at most.
        sweeps: how often the categories of a column are put in the order in which other columns rise.
        lags: of a sequence: how many earlier rows the next one depends on.
        copies: rows that equal a row of the data in all columns but ids are rejected (``reject``), only those that
            equal a row that stands once in it (``reject_unique``), or kept. Nothing is rejected under `privacy`, as
            rejecting would tell which rows there are.
        patience: batches without a single accepted row before sampling gives up.
        privacy: differential privacy; None is without.
    """

    knots: Annotated[int, Field(ge=16, le=100_000)] = 2048
    sweeps: Annotated[int, Field(ge=0, le=10)] = 2
    lags: Annotated[int, Field(ge=1, le=8)] = 1
    copies: Literal["reject", "reject_unique", "keep"] = "reject"
    patience: Annotated[int, Field(ge=1, le=1000)] = 20
    privacy: PrivacyConfig | None = None
