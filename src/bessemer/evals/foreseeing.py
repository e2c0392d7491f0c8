"""What another ranker would have earned, from a log of rankings in which chance had a part.

Owns the step from rankings to decisions: one for each place, as if what comes of an item depended on the item and its
place alone, not on what stands around it. Whole rankings would need no such assumption, and hardly one of the log would
be what the other ranker shows. The estimators are those of `offpolicy`; the doubly robust one gets a model here, how
often items are taken up in each place, fitted on the other half of the users than it is used for.

Source: Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay & Wen 2018, "Offline Evaluation of Ranking Policies with Click
Models", KDD, arXiv:1804.10488 (the item-position model); Chernozhukov et al. 2018, "Double/debiased machine learning",
The Econometrics Journal 21(1) (a model from other users than it is used for).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bessemer.core.nouns import Interval
from bessemer.evals.bootstrap import Column, difference_interval
from bessemer.evals.offpolicy import Estimate, Logged, estimate

_PRIOR = 5.0
"""So many expected clicks of an average item are added to each item's: few say little."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a ranking that was shown.

    Attributes:
        user: whose ranking.
        place: from 0.
        item: that stood there.
        reward: what came of it, such as 1 for a click.
        propensity: probability with which it stood there.
        incumbent: the item that stands there without chance.
        candidate: the item that the other ranker puts there; None: it has nothing for it.
        supported: whether that could have stood there by chance.
    """

    user: str
    place: int
    item: str
    reward: float
    propensity: float
    incumbent: str
    candidate: str | None
    supported: bool


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a candidate would have earned in each place, beside the incumbent without chance.

    Attributes:
        candidate: by three estimators.
        incumbent: likewise.
        difference: the candidate less the incumbent, doubly robust, paired by user.
        supported_ratio: of the candidate's places; for the others the log has nothing, and the model alone speaks.
    """

    candidate: Estimate
    incumbent: Estimate
    difference: Interval
    supported_ratio: float


def foresee_places(places: Sequence[Place], *, confidence: float = 0.95, resamples: int = 2_000) -> Foresight:
    """Return what the candidate would have earned.

    Args:
        places: of the rankings of at least two users.
        confidence: of the intervals.
        resamples: draws of the bootstrap, over users.

    Raises:
        ConfigError: there are fewer than two users, or the log has nothing that the candidate would show.
    """
    halves = [_half(each.user) for each in places]
    rates = [_rates([each for each, half in zip(places, halves, strict=True) if half != mine]) for mine in (0, 1)]

    def log(shows: Callable[[Place], str | None]) -> list[Logged]:
        found = []
        for each, half in zip(places, halves, strict=True):
            item, rate = shows(each), rates[half]
            found.append(
                Logged(
                    user=each.user,
                    reward=each.reward,
                    logged=each.propensity,
                    target=float(item == each.item),
                    predicted=rate(each.item, each.place),
                    expected=rate(item, each.place) if item is not None else 0.0,
                )
            )
        return found

    logs = log(lambda each: each.incumbent), log(lambda each: each.candidate)
    ones = [1.0] * len(places)
    before, after = (Column([_robust(each) for each in one], ones) for one in logs)
    users = [each.user for each in places]
    found = [estimate(one, confidence=confidence, resamples=resamples) for one in logs]
    difference = difference_interval(before, after, users, confidence=confidence, resamples=resamples)
    assert difference is not None, "`estimate` refuses a log of fewer than two users"
    supported = sum(each.supported for each in places) / len(places)
    return Foresight(candidate=found[1], incumbent=found[0], difference=difference, supported_ratio=supported)


def _robust(each: Logged) -> float:
    return each.expected + each.target / each.logged * (each.reward - each.predicted)


def _half(user: str) -> int:
    return hashlib.sha256(user.encode()).digest()[0] % 2


def _rates(places: Iterable[Place]) -> Callable[[str, int], float]:
    """Return how often an item is taken up in a place: the place's rate times what is the item's own."""
    shown, taken = Counter[int](), defaultdict[int, float](float)
    at: dict[str, list[tuple[int, float]]] = {}
    for each in places:
        shown[each.place] += 1
        taken[each.place] += each.reward
        at.setdefault(each.item, []).append((each.place, each.reward))
    rate = {place: taken[place] / count for place, count in shown.items()}
    own = {
        item: (sum(reward for _, reward in seen) + _PRIOR) / (sum(rate[place] for place, _ in seen) + _PRIOR)
        for item, seen in at.items()
    }
    return lambda item, place: min(1.0, rate.get(place, 0.0) * own.get(item, 1.0))
