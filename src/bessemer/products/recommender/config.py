"""What a factory declares about a recommender.

Owns the declaration. Imports configs only, so that it stays light.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.evals import BetterThan, GateConfig
from bessemer.infer.ranking.config import RulesConfig
from bessemer.train.recommend.config import AlsConfig, EaseConfig, NeighboursConfig, RankerConfig

EventWeight = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class JudgingConfig(Config):
    """How the candidates are compared, and the chosen one judged.

    Attributes:
        holdout: ``last`` holds out each user's last new item for the test and the one before it for the choice;
            ``random`` a share of each user's items.
        share_ratio: of a user's items for each of choice and test, where they are drawn.
        k: items that a user is shown.
        seed: of what is drawn.
    """

    holdout: Literal["last", "random"] = "last"
    share_ratio: Annotated[float, Field(gt=0, le=0.4)] = 0.1
    k: Annotated[int, Field(ge=1, le=100)] = 10
    seed: Annotated[int, Field(ge=0)] = 0


class LearningConfig(Config):
    """What the served ranker learns.

    Attributes:
        online: events change the weights between items while it serves, where the model can (EASE).
        projects: whose served events are trained on at the next run; those of others never are.
    """

    online: bool = True
    projects: tuple[str, ...] = ()


class RecommenderConfig(Config):
    """A recommender made of a table of events.

    Attributes:
        events: the declared table of events: ``user`` (or ``session``), ``item``, ``time``, and perhaps ``kind`` and
            ``weight``.
        items: the declared table of items: ``item``, and whatever is known of it; empty has none.
        models: families that are tried; the best on held-out events is served.
        weights: what an event of a kind counts for, instead of its own weight; below zero: against the item.
        judging: how they are compared.
        gate: what must hold before the best replaces popularity.
        rules: what holds for every ranking.
        retrieval: as of the served ranker.
        learning: what it learns while it is served.
    """

    kind: Literal["recommender"] = "recommender"
    events: Annotated[str, Field(min_length=1)] = "events"
    items: str = ""
    models: Annotated[tuple[RankerConfig, ...], Field(min_length=1)] = (
        EaseConfig(regularisation=100.0),
        AlsConfig(),
        NeighboursConfig(),
    )
    weights: dict[str, EventWeight] = Field(default_factory=dict)
    judging: JudgingConfig = JudgingConfig()
    gate: GateConfig = GateConfig(rules=(BetterThan(metric="ndcg"),))
    rules: RulesConfig = RulesConfig()
    retrieval: Literal["auto", "exact", "ann"] = "auto"
    learning: LearningConfig = LearningConfig()


SIZES = {
    size: {"models": [{"kind": "ease", "regularisation": 100.0}, {"kind": "als", "width": width}, {"kind": "item_knn"}]}
    for size, width in (("tiny", 16), ("small", 64), ("medium", 128))
}
"""What each size of the one dial implies; what the declaration says wins."""
