"""What can be declared about a served ranker: how it finds candidates, and which rules rank them anew.

Owns the declarations; light to import.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config


class Boost(Config):
    """Items with an attribute rank higher or lower than the model says.

    Attributes:
        field: name of the attribute.
        value: which it must have, as text.
        factor: multiplies the item's score, which is first brought between 0 and 1.
        when: facts of a request's context that must hold for it; empty always holds.
    """

    field: Annotated[str, Field(min_length=1)] = "category"
    value: str = ""
    factor: Annotated[float, Field(gt=0, le=100)] = 1.0
    when: dict[str, str] = Field(default_factory=dict)


class RulesConfig(Config):
    """What holds for every ranking, whatever the model says.

    Attributes:
        available: a column of flags; what is false there is never recommended. Ignored where items lack it.
        category: the column that `most_per_category` and the diversity of items without content go by.
        most_per_category: items of one category in a ranking at most; 0 has no such bound.
        diversity_ratio: 0 ranks by score alone, 1 by difference to the items before it alone; requests may say so, too.
        exclude: items that are never recommended.
        boosts: business weights.
    """

    available: str = "available"
    category: str = "category"
    most_per_category: Annotated[int, Field(ge=0)] = 0
    diversity_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    exclude: tuple[str, ...] = ()
    boosts: Annotated[tuple[Boost, ...], Field(max_length=100)] = ()


class ExploreConfig(Config):
    """Chance in the order of some rankings, so that logs tell what other rankers would have earned.

    In a share of the rankings the best items are shuffled, each order being as likely as another. The probability with
    which an item came to its place is then known exactly, and goes into the log.

    Attributes:
        share_ratio: of the rankings that are shuffled.
        depth: items that are shuffled, the best ones; what is below never moves up.
    """

    share_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    depth: Annotated[int, Field(ge=2, le=1_000)] = 20


class ServedRankerConfig(Config):
    """A ranker that was saved by `bessemer.models.ranking.folder`, served.

    Attributes:
        path: its folder.
        name: of the engine.
        retrieval: ``exact`` scores all items, ``ann`` searches a graph of their vectors, ``auto`` does that from
            `ann_items` on where the family has vectors.
        ann_items: see there.
        candidates: items that are retrieved for the rules to rank anew, at least.
        learn: whether events change the weights between items, too, where the family can (EASE); histories always
            count at once.
        learn_items: up to how many items; such a change takes time with their square.
        projects: whose own changed weights are kept in memory at most; the least recently used go back to the
            trained ones.
        users: histories of all projects that are kept in memory at most.
        history: newest events of a user that are kept.
        rules: what holds for every ranking.
    """

    kind: Literal["ranker"] = "ranker"
    path: str = ""
    name: str = "ranker"
    retrieval: Literal["auto", "exact", "ann"] = "auto"
    ann_items: Annotated[int, Field(ge=1)] = 20_000
    candidates: Annotated[int, Field(ge=1, le=10_000)] = 200
    learn: bool = True
    learn_items: Annotated[int, Field(ge=0)] = 5_000
    projects: Annotated[int, Field(ge=1)] = 8
    users: Annotated[int, Field(ge=1)] = 1_000_000
    history: Annotated[int, Field(ge=1, le=10_000)] = 200
    rules: RulesConfig = RulesConfig()
