"""What experiments say: what was shown, joined with what came of it, and judged.

Owns the join. An event counts for the newest ranking of its user that showed the item, within the declared time;
feedback counts for the answer that it names. Knows no HTTP; the statistics are those of `bessemer.evals`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from bessemer.core.experiments import ArmFigures, Experiment, ExperimentFigures
from bessemer.core.ranking import Interaction
from bessemer.evals.interleaving import Interleaved
from bessemer.evals.online import read_arms, read_drafts
from bessemer.products.home import Home
from bessemer.products.line import ProductConfig
from bessemer.products.recommender.config import RecommenderConfig
from bessemer.serve import EventStore, FeedbackStore, GatewayParts, RankingStore
from bessemer.serve.feedback import Feedback
from bessemer.serve.privacy import keep_all
from bessemer.serve.rankings import KEEP_DAYS, Shown

_SAME_SECONDS = 10.0
"""So long an answer is told again, instead of being computed again."""


@dataclass(frozen=True, slots=True)
class Counting:
    """What counts, and for how long after an answer; see `Experiment`."""

    counts: tuple[str, ...] = ()
    window_seconds: float = 86_400.0

    def event(self, event: Interaction) -> bool:
        """Return whether an event speaks for its item."""
        return event.kind in self.counts if self.counts else event.weight > 0

    def feedback(self, said: Feedback) -> bool:
        """Return whether feedback speaks for what it is about."""
        return bool(said.value and said.value > 0) and (not self.counts or said.metric in self.counts)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A ranking that was shown, and what came of it.

    Attributes:
        shown: the ranking.
        taken: its items that something came of.
        liked: whether the whole was spoken for.
    """

    shown: Shown
    taken: frozenset[str]
    liked: bool

    @property
    def reward(self) -> float:
        """How many items were taken up; 1 where the whole was spoken for, but no item."""
        return float(len(self.taken) or self.liked)


def outcomes(
    rankings: RankingStore,
    shown: Sequence[Shown],
    events: Iterable[tuple[str, list[Interaction]]],
    said: Iterable[Feedback],
    counting: Counting,
) -> list[Outcome]:
    """Return what came of rankings, in their order.

    Args:
        rankings: makes the marks by which users are recognised.
        shown: the first first.
        events: of each project.
        said: of answers.
        counting: what counts.
    """
    of_whom: dict[str, list[int]] = defaultdict(list)
    for number, each in enumerate(shown):
        of_whom[each.who].append(number)
    items = [{ranked.item for ranked in each.items} for each in shown]
    taken: list[set[str]] = [set() for _ in shown]
    liked, numbers = set[int](), {each.id: number for number, each in enumerate(shown)}

    def find(event: Interaction, who: Sequence[str]) -> int | None:
        for mark in who:
            for number in reversed(of_whom.get(mark, ())):
                gone = event.time - shown[number].at
                if 0 <= gone <= counting.window_seconds and event.item in items[number]:
                    return number
        return None

    for project, told in events:
        for event in told:
            if counting.event(event):
                who = rankings.mark("user", project, event.user), rankings.mark("session", project, event.session)
                found = find(event, [mark for mark in who if mark])
                if found is not None:
                    taken[found].add(event.item)
    for word in said:
        about = numbers.get(word.target)
        if about is not None and counting.feedback(word):
            if word.item is None:
                liked.add(about)
            elif word.item in items[about]:
                taken[about].add(word.item)
    return [Outcome(each, frozenset(taken[number]), number in liked) for number, each in enumerate(shown)]


class HomeExperiments:
    """What the experiments of a home say.

    Args:
        rankings: what was shown.
        events: what users did.
        feedback: what users said.
    """

    def __init__(self, rankings: RankingStore, events: EventStore, feedback: FeedbackStore) -> None:
        self._rankings, self._events, self._feedback = rankings, events, feedback
        self._known: dict[str, tuple[float, list[ExperimentFigures]]] = {}

    def experiments(self, project: str, /) -> list[ExperimentFigures]:
        """Return what each experiment says by a project's users alone, the newest first; "" is all projects."""
        at, found = self._known.get(project, (float("-inf"), []))
        if time.monotonic() - at > _SAME_SECONDS:
            found = [self._figures(each, project) for each in self._rankings.experiments()]
            self._known[project] = time.monotonic(), found
        return found

    def outcomes(self, shown: Sequence[Shown], project: str, counting: Counting) -> list[Outcome]:
        """Return what came of rankings of a project, or of all."""
        events = self._events.all((project,) if project else ())
        return outcomes(self._rankings, shown, events, self._feedback.ratings(project), counting)

    def _figures(self, experiment: Experiment, project: str) -> ExperimentFigures:
        shown = list(self._rankings.shown(experiment=experiment.name, project=project))
        counting = Counting(experiment.counts, experiment.window_seconds)
        return figures(experiment, self.outcomes(shown, project, counting))


def figures(experiment: Experiment, found: Sequence[Outcome]) -> ExperimentFigures:
    """Return what an experiment says, of what was shown in it and what came of that."""
    if experiment.kind == "ab":
        arms = [[each for each in found if each.shown.arm == arm] for arm in ("incumbent", "challenger")]
        means = [_means(arm) for arm in arms]
        metric = "items taken up of an answer"
        reading = read_arms(means[0], means[1], challenger_ratio=experiment.share_ratio, metric=metric)
        counted = tuple(_arm(name, arm) for name, arm in zip(("incumbent", "challenger"), arms, strict=True))
    else:
        drafts = [(each.shown.who, _draft(each.shown), sorted(each.taken)) for each in found]
        reading, metric = read_drafts(drafts), "preference"
        counted = tuple(_arm(name, found, team) for team, name in enumerate(("incumbent", "challenger")))
    return ExperimentFigures(
        experiment=experiment,
        began_at=found[0].shown.at if found else None,
        arms=counted,
        metric=metric,
        anytime=reading.anytime,
        fixed=reading.fixed,
        chance=reading.chance,
        winner=reading.winner,
        sentence=reading.sentence,
    )


def keep_days(products: Mapping[str, ProductConfig]) -> float:
    """Return how long shown rankings are kept: as long as any recommender of a factory wants."""
    found = (each for each in products.values() if isinstance(each, RecommenderConfig))
    return max((each.learning.keep_days for each in found), default=KEEP_DAYS)


def with_rankings(parts: GatewayParts, home: Home, days: float, stack: ExitStack) -> GatewayParts:
    """Return a gateway's parts with what keeps rankings and says what experiments found.

    Args:
        parts: with events and feedback.
        home: its state.
        days: rankings are kept so long.
        stack: closes them.
    """
    if not (parts.events and parts.feedback):
        return parts
    capture = parts.accounts.capture.of if parts.accounts else keep_all
    rankings = RankingStore(home.rankings, parts.clock, capture, parts.events.last, days)
    stack.callback(rankings.close)
    return replace(parts, rankings=rankings, experiments=HomeExperiments(rankings, parts.events, parts.feedback))


def _means(found: Sequence[Outcome]) -> list[float]:
    """Return for each who was shown something the mean of what came of an answer."""
    rewards: dict[str, list[float]] = defaultdict(list)
    for each in found:
        rewards[each.shown.who].append(each.reward)
    return [sum(values) / len(values) for values in rewards.values()]


def _draft(shown: Shown) -> Interleaved:
    return Interleaved(tuple(each.item for each in shown.items), tuple(each.team or 0 for each in shown.items))


def _arm(name: str, found: Sequence[Outcome], team: int | None = None) -> ArmFigures:
    policies = (each.shown.policy if team is None else each.shown.policy.split(" ")[team] for each in found)
    items = ((each.taken, ranked) for each in found for ranked in each.shown.items)
    return ArmFigures(
        arm="challenger" if name == "challenger" else "incumbent",
        policies=tuple(dict.fromkeys(policies)),
        users=len({each.shown.who for each in found}),
        answers=len(found),
        taken_up=sum(ranked.item in taken and team in (None, ranked.team) for taken, ranked in items),
    )
