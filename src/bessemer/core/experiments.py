"""Experiments on live users: what was declared, and what it says now.

Owns the shapes, in which serve asks and products answer. Knows no ranker, no log and no statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Protocol

from pydantic import Field

from bessemer.core.nouns import Interval, Noun

ExperimentKind = Literal["ab", "interleave"]


class Experiment(Noun):
    """Two rankers on live users, as declared; none of it changes while it runs.

    Attributes:
        name: another one divides the users anew.
        model: the served recommender whose incumbent is challenged.
        kind: ``ab`` shows each user one arm's rankings, ``interleave`` lists made of both.
        challenger: what it is, in words.
        share_ratio: of the users who meet the challenger.
        counts: kinds of events and metrics of feedback that count; empty: any event that speaks for a shown item.
        window_seconds: after an answer in which an event counts.
    """

    name: str
    model: str
    kind: ExperimentKind
    challenger: str
    share_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    counts: tuple[str, ...] = ()
    window_seconds: float = 86_400.0


class ArmFigures(Noun):
    """One arm: its rankers, whom they met, and what came of it. Interleaved, answers are those of both arms.

    Attributes:
        arm: ``incumbent`` or ``challenger``.
        policies: which models and rules ranked; retraining makes another one.
        users: who were shown a ranking; sessions, where no user was named.
        answers: rankings that were shown.
        taken_up: shown items that something came of.
    """

    arm: Literal["incumbent", "challenger"]
    policies: tuple[str, ...]
    users: int
    answers: int
    taken_up: int


class ExperimentFigures(Noun):
    """What an experiment says now.

    Attributes:
        experiment: as declared.
        began_at: the first ranking, in Unix seconds; None: there is none yet.
        arms: the incumbent's and the challenger's.
        metric: what the intervals are of: the challenger less the incumbent.
        anytime: holds for all looks together; it decides. None: too early.
        fixed: for one look at a time set beforehand. None: too early.
        chance: of arms as uneven as these.
        winner: ``mismatch`` where the arms' sizes do not fit, which lets nothing be said.
        sentence: the same in words.
    """

    experiment: Experiment
    began_at: float | None
    arms: tuple[ArmFigures, ...]
    metric: str
    anytime: Interval | None
    fixed: Interval | None
    chance: float
    winner: Literal["challenger", "incumbent", "undecided", "mismatch"]
    sentence: str


class Experiments(Protocol):
    """What experiments say."""

    def experiments(self, project: str, /, name: str = "", may: Callable[[str], bool] = ...) -> list[ExperimentFigures]:
        """Return what experiments say, the newest first.

        Args:
            project: by its users alone; empty is all projects'.
            name: only of this one; empty is all.
            may: only where this says yes to the recommender's name.
        """
        ...
