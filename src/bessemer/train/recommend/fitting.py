"""One verb for all families: fit what a configuration declares."""

from __future__ import annotations

from collections.abc import Callable

from bessemer.core.errors import ConfigError, MissingDependency
from bessemer.models.ranking.base import Floats, Histories, Scorer
from bessemer.train.recommend.config import (
    AlsConfig,
    EaseConfig,
    NeighboursConfig,
    PopularityConfig,
    RankerConfig,
    SasrecConfig,
)

Told = Callable[[int, int, float], None]


def fit_ranker(
    config: RankerConfig,
    histories: Histories,
    items: int,
    content: Floats | None = None,
    told: Told = lambda done, most, loss: None,
) -> Scorer:
    """Return the ranker of a configuration, fitted.

    Args:
        config: which family and how.
        histories: of the users to learn from.
        items: how many there are.
        content: features of each item, which `TowersConfig` needs; shape (items, features).
        told: is told of epochs, where there are any.

    Raises:
        ConfigError: the family does not fit the data.
        MissingDependency: scipy or torch is not installed.
    """
    from bessemer.train.recommend import linear

    if isinstance(config, PopularityConfig):
        return linear.fit_popularity(histories, items)
    if isinstance(config, NeighboursConfig):
        return linear.fit_neighbours(histories, items, config)
    if isinstance(config, EaseConfig):
        return linear.fit_ease(histories, items, config)
    if isinstance(config, AlsConfig):
        return linear.fit_als(histories, items, config)
    try:
        from bessemer.train.recommend.sasrec import fit_sasrec
        from bessemer.train.recommend.two_tower import fit_two_tower

        if isinstance(config, SasrecConfig):
            return fit_sasrec(histories, items, config, told)
        if content is None or not content.size:
            raise ConfigError("two towers need what items are", hint="Give the product a table of items.")
        return fit_two_tower(histories, content, config)
    except ModuleNotFoundError as error:
        raise MissingDependency("torch", extra="train") from error
