"""Chance in the order of a ranking, with the probability of each place known exactly.

Owns the shuffle and its arithmetic. An item of the best `depth` stands in place r of them with probability
(1 - share) [it would stand there anyway] + share / depth; items below never move.
"""

from __future__ import annotations

from random import Random

from bessemer.core.nouns import Usage
from bessemer.core.ranking import Ranking
from bessemer.infer.ranking.config import ExploreConfig


def explored(ranking: Ranking, n: int, config: ExploreConfig, seed: str) -> Ranking:
    """Return a ranking of n items that perhaps is shuffled, with propensities; the same for the same seed.

    Args:
        ranking: at least the best `depth` items, or all there are.
        n: items that are shown.
        config: how often and how deep.
        seed: the id of the answer, so that the order can be made again.
    """
    items, random = ranking.items, Random(seed)
    depth = min(config.depth, len(items))
    order = list(range(depth))
    if random.random() < config.share_ratio:
        random.shuffle(order)
    order = [*order, *range(depth, len(items))][:n]

    def chance(place: int, number: int) -> float:
        if number >= depth:
            return 1.0
        return (1 - config.share_ratio) * (place == number) + config.share_ratio / depth

    shown = [
        items[number].model_copy(update={"propensity": chance(place, number)}) for place, number in enumerate(order)
    ]
    return ranking.model_copy(
        update={
            "items": tuple(shown),
            "pool": tuple(each.item for each in items[: max(depth, n)]),
            "policy": f"{ranking.policy}+{config.share_ratio:g}/{config.depth}",
            "usage": Usage(units=len(shown)),
        }
    )
