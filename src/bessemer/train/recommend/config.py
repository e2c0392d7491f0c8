"""What is fitted and how: one declaration for each family of rankers.

Owns the declarations; light to import.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config

Seed = Annotated[int, Field(ge=0)]


class PopularityConfig(Config):
    """What most users had, for everybody alike."""

    kind: Literal["popularity"] = "popularity"


class NeighboursConfig(Config):
    """Items that the same users had.

    Attributes:
        neighbours: kept for each item.
        shrink_users: added to the number of users who had both: few say little.
        rows: items that are compared with all others at a time.
    """

    kind: Literal["item_knn"] = "item_knn"
    neighbours: Annotated[int, Field(ge=1, le=10_000)] = 200
    shrink_users: Annotated[float, Field(ge=0)] = 20.0
    rows: Annotated[int, Field(ge=1)] = 1_000


class EaseConfig(Config):
    """A linear autoencoder in closed form; takes memory for the square of the items.

    Attributes:
        regularisation: the one setting; grows with the data.
        most_items: refuse more, which would take most_items^2 x 8 bytes.
    """

    kind: Literal["ease"] = "ease"
    regularisation: Annotated[float, Field(gt=0)] = 300.0
    most_items: Annotated[int, Field(ge=1)] = 20_000


class AlsConfig(Config):
    """Implicit matrix factorisation by alternating least squares.

    Attributes:
        width: of the vectors.
        alpha: how much more an interaction counts than none.
        regularisation: of the vectors.
        by_count: whether regularisation grows with the interactions of a user or an item.
        rounds: how often both sides are solved.
        steps: of conjugate gradients in each round, from where the round before ended; 0 solves exactly.
        seed: of the first vectors.
    """

    kind: Literal["als"] = "als"
    width: Annotated[int, Field(ge=1, le=1_024)] = 64
    alpha: Annotated[float, Field(gt=0)] = 4.0
    regularisation: Annotated[float, Field(gt=0)] = 10.0
    by_count: bool = False
    rounds: Annotated[int, Field(ge=1, le=1_000)] = 15
    steps: Annotated[int, Field(ge=0, le=100)] = 3
    seed: Seed = 0


class SasrecConfig(Config):
    """A causal transformer over each history.

    Attributes:
        width: of the states.
        length: newest events that are read.
        layers: of the network.
        heads: of each attention.
        dropout_ratio: in training.
        negatives: items that each next one is told from; 0 takes all, which learns best and costs most.
        rate: of learning.
        batch: histories in a step.
        epochs: times that all histories are read, at most.
        patience_epochs: end when the held-out loss has not fallen for so many.
        seed: of weights, order and dropout.
    """

    kind: Literal["sasrec"] = "sasrec"
    width: Annotated[int, Field(ge=2, le=1_024)] = 64
    length: Annotated[int, Field(ge=2, le=1_024)] = 50
    layers: Annotated[int, Field(ge=1, le=24)] = 2
    heads: Annotated[int, Field(ge=1, le=32)] = 1
    dropout_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.2
    negatives: Annotated[int, Field(ge=0)] = 0
    rate: Annotated[float, Field(gt=0)] = 1e-3
    batch: Annotated[int, Field(ge=1)] = 128
    epochs: Annotated[int, Field(ge=1)] = 100
    patience_epochs: Annotated[int, Field(ge=1)] = 5
    seed: Seed = 0


class TowersConfig(Config):
    """Two towers with content features; what nobody met yet is placed by its content.

    Attributes:
        width: of the vectors.
        inner: width of the content's hidden layer.
        half_life: events after which an event of a history counts half.
        temperature: divides the cosines in the softmax.
        cold_ratio: of the items in a step whose own vector is left out, so that content must do.
        rate: of learning.
        batch: pairs of a history and its next item in a step; the items of a step are each other's negatives.
        epochs: times that all pairs are read.
        seed: of weights and order.
    """

    kind: Literal["two_tower"] = "two_tower"
    width: Annotated[int, Field(ge=2, le=1_024)] = 64
    inner: Annotated[int, Field(ge=2, le=4_096)] = 128
    half_life: Annotated[float, Field(gt=0)] = 20.0
    temperature: Annotated[float, Field(gt=0)] = 0.1
    cold_ratio: Annotated[float, Field(ge=0, le=1)] = 0.3
    rate: Annotated[float, Field(gt=0)] = 3e-3
    batch: Annotated[int, Field(ge=2)] = 512
    epochs: Annotated[int, Field(ge=1)] = 8
    seed: Seed = 0


RankerConfig = Annotated[
    PopularityConfig | NeighboursConfig | EaseConfig | AlsConfig | SasrecConfig | TowersConfig,
    Field(discriminator="kind"),
]
