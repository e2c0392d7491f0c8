"""What a factory declares about a recommender.

Owns the declaration. Imports configs only, so that it stays light.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bessemer.core.config import Config, refusal
from bessemer.core.experiments import ExperimentKind
from bessemer.evals import BetterThan, GateConfig
from bessemer.infer.ranking.config import ExploreConfig, RulesConfig
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


class RetrainConfig(Config):
    """When a running gateway makes the ranker anew of what it was told; with both, whichever comes first.

    Attributes:
        every_hours: once in each interval, counted from 1970 in UTC, if there is anything new; empty has no schedule.
        after_events: as soon as so many events came since the last time; empty does not count them.
    """

    every_hours: Annotated[float, Field(gt=0, le=24 * 366)] | None = None
    after_events: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.every_hours is None and self.after_events is None:
            raise refusal(("every_hours",), "say when to retrain: every_hours, after_events, or both")
        return self


class LearningConfig(Config):
    """What the served ranker learns.

    Attributes:
        online: events change the weights between items while it serves, where the model can (EASE).
        projects: whose served events are trained on at the next run; those of others never are.
        retrain: when that run comes by itself, beside the running gateway; empty leaves it to `bessemer run`.
        keep_days: rankings that were shown in experiments or with chance are kept so long.
    """

    online: bool = True
    projects: tuple[str, ...] = ()
    retrain: RetrainConfig | None = None
    keep_days: Annotated[float, Field(gt=0, le=3_650)] = 90.0

    @model_validator(mode="after")
    def _has_whom_to_learn_from(self) -> Self:
        if self.retrain and not self.projects:
            raise refusal(("retrain",), "there is nobody to learn from: name the projects in `projects`")
        return self


class ExperimentConfig(Config):
    """A challenger on live users, beside the ranker that the gate let through.

    In a list made of both, the rules hold for each ranker's own list: of two times `most_per_category` items of one
    category may stand in it.

    Attributes:
        name: another one divides the users anew; what is measured under one name is of one declaration.
        kind: ``interleave`` makes lists of both rankings and needs far fewer users; ``ab`` shows each user one arm's
            and tells by how much more is taken up.
        challenger: the family that is fitted beside it; empty: the same ranker, with other rules.
        rules: what holds for the challenger's rankings; empty: the same as for all.
        share_ratio: of the users who meet the challenger.
        counts: kinds of events and metrics of feedback that count; empty: any event that speaks for a shown item, and
            any feedback above 0.
        window_hours: after an answer in which an event with one of its items counts.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")] = "first"
    kind: ExperimentKind = "interleave"
    challenger: RankerConfig | None = None
    rules: RulesConfig | None = None
    share_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    counts: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    window_hours: Annotated[float, Field(gt=0, le=24 * 90)] = 24.0

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.challenger is None and self.rules is None:
            raise refusal(("challenger",), "the arms do not differ: give the challenger a model, or rules of its own")
        return self


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
        experiment: a challenger on live users; empty has none.
        explore: chance in the order of some rankings; empty has none.
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
    experiment: ExperimentConfig | None = None
    explore: ExploreConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.explore and self.experiment and self.experiment.kind == "interleave":
            raise refusal(("explore",), "a list made of two rankings has no known probabilities; use kind: ab, or none")
        return self


SIZES = {
    size: {"models": [{"kind": "ease", "regularisation": 100.0}, {"kind": "als", "width": width}, {"kind": "item_knn"}]}
    for size, width in (("tiny", 16), ("small", 64), ("medium", 128))
}
"""What each size of the one dial implies; what the declaration says wins."""
