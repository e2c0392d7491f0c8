"""What experiments say: what was shown, joined with what came of it, and judged.

Owns the join. An event counts for the newest ranking of its user that showed the item, within the declared time;
feedback counts for the answer that it names. Owns also how much of a gateway the answer may take: one is computed at a
time, seldom, from rankings and events up to a bound. Knows no HTTP; the statistics are those of `bessemer.evals`.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

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
from bessemer.serve.rankings import KEEP_DAYS, Glance, Shown

_SAME_SECONDS = 10.0
"""So long an answer is told again, instead of being computed again; and 20 times as long as it took."""
_SAME_TIMES = 20
_ENDED_SECONDS = 3_600.0
"""So long that of an experiment for whose rankings no event counts any more, unless some were added or deleted."""
MOST_RANKINGS = 200_000
"""An experiment is judged by its first so many; the last ones would be others at each look."""
MOST_EVENTS = 1_000_000
"""Of the events since its beginning so many are read."""
_EVENTS_AT_ONCE = 10_000
_MOST_KNOWN = 1_000


S = TypeVar("S", Shown, Glance)
"""A ranking that was shown, whole or in short."""


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
class Outcome(Generic[S]):
    """A ranking that was shown, and what came of it.

    Attributes:
        shown: the ranking.
        taken: its items that something came of.
        liked: whether the whole was spoken for.
    """

    shown: S
    taken: frozenset[str]
    liked: bool

    @property
    def reward(self) -> float:
        """How many items were taken up; 1 where the whole was spoken for, but no item."""
        return float(len(self.taken) or self.liked)


def outcomes(
    rankings: RankingStore,
    shown: Sequence[S],
    events: Iterable[tuple[str, list[Interaction]]],
    said: Iterable[Feedback],
    counting: Counting,
) -> list[Outcome[S]]:
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
    known = {name for each in shown for name in each.names}
    taken: dict[int, set[str]] = defaultdict(set)
    liked, numbers = set[int](), {each.id: number for number, each in enumerate(shown)}

    def find(event: Interaction, who: Sequence[str]) -> int | None:
        for mark in who:
            for number in reversed(of_whom.get(mark, ())):
                gone = event.time - shown[number].at
                if 0 <= gone <= counting.window_seconds and event.item in shown[number].names:
                    return number
        return None

    for project, told in events:
        for event in told:
            if event.item in known and counting.event(event):
                who = rankings.mark("user", project, event.user), rankings.mark("session", project, event.session)
                found = find(event, [mark for mark in who if mark])
                if found is not None:
                    taken[found].add(event.item)
    for word in said:
        about = numbers.get(word.target)
        if about is not None and counting.feedback(word):
            if word.item is None:
                liked.add(about)
            elif word.item in shown[about].names:
                taken[about].add(word.item)
    return [Outcome(each, frozenset(taken.get(number, ())), number in liked) for number, each in enumerate(shown)]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was found of rankings in a state; told again for some seconds, or longer if the experiment is over."""

    figures: ExperimentFigures
    state: tuple[int, int]
    at: float
    seconds: float
    over: bool

    def holds(self) -> bool:
        return time.monotonic() - self.at < self.seconds

    def still_holds(self, state: tuple[int, int]) -> bool:
        return self.over and self.state == state and time.monotonic() - self.at < _ENDED_SECONDS


class HomeExperiments:
    """What the experiments of a home say. One thread at a time computes; the others are told what was found last.

    Args:
        rankings: what was shown.
        events: what users did.
        feedback: what users said.
        clock: gives Unix seconds.
    """

    def __init__(
        self,
        rankings: RankingStore,
        events: EventStore,
        feedback: FeedbackStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rankings, self._events, self._feedback, self._clock = rankings, events, feedback, clock
        self._known: dict[tuple[str, str], _Answer] = {}
        self._turn = threading.Lock()

    def experiments(
        self, project: str, /, name: str = "", may: Callable[[str], bool] = lambda model: True
    ) -> list[ExperimentFigures]:
        """Return what experiments say; see `Experiments`."""
        wanted = [each for each in self._rankings.experiments() if name in ("", each.name) and may(each.model)]
        return [self._told(each, project) for each in wanted]

    def outcomes(self, shown: Sequence[S], project: str, counting: Counting) -> list[Outcome[S]]:
        """Return what came of rankings of a project, or of all."""
        return outcomes(self._rankings, shown, self._since(shown, project), self._feedback.ratings(project), counting)

    def _told(self, experiment: Experiment, project: str) -> ExperimentFigures:
        key = experiment.name, project
        known = self._known.get(key, None)
        if known and known.holds():
            return known.figures
        if known is None:
            self._turn.acquire()
        elif not self._turn.acquire(blocking=False):
            return known.figures
        try:
            known = self._known.get(key, None)  # another thread may have found it meanwhile
            state = self._rankings.state(experiment.name, project)
            if known is None or not (known.holds() or known.still_holds(state)):
                known = self._answer(experiment, project, state)
                while len(self._known) >= _MOST_KNOWN:
                    self._known.pop(next(iter(self._known)))
                self._known[key] = known
            return known.figures
        finally:
            self._turn.release()

    def _answer(self, experiment: Experiment, project: str, state: tuple[int, int]) -> _Answer:
        began = time.monotonic()
        shown = self._rankings.glances(experiment.name, project, MOST_RANKINGS)
        cut = [f"its first {MOST_RANKINGS:,} rankings"] if state[0] > MOST_RANKINGS else []

        def bounded() -> Iterator[tuple[str, list[Interaction]]]:
            read = 0
            for chunk in self._since(shown, project):
                read += len(chunk[1])
                if read > MOST_EVENTS:
                    cut.append(f"the first {MOST_EVENTS:,} events")
                    return
                yield chunk

        counting = Counting(experiment.counts, experiment.window_seconds)
        found = outcomes(self._rankings, shown, bounded(), self._feedback.ratings(project), counting)
        told = figures(experiment, found)
        if cut:
            told = told.model_copy(update={"sentence": f"{told.sentence}; judged by {' and '.join(cut)} alone"})
        now = time.monotonic()
        over = not shown or shown[-1].at + experiment.window_seconds < self._clock()
        return _Answer(told, state, now, max(_SAME_SECONDS, _SAME_TIMES * (now - began)), over)

    def _since(self, shown: Sequence[S], project: str) -> Iterator[tuple[str, list[Interaction]]]:
        """Yield the events that were taken in after the first of these rankings; none before came of any."""
        if not shown:
            return
        first = min(each.told for each in shown)
        if not project:
            whose = sorted({each.project for each in shown})
            yield from self._events.all(whose, dict.fromkeys(whose, first))
            return
        for start in range(first, self._events.last(), _EVENTS_AT_ONCE):
            if found := self._events.between(project, start, start + _EVENTS_AT_ONCE):
                yield project, found


def figures(experiment: Experiment, found: Sequence[Outcome[Glance]]) -> ExperimentFigures:
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
    told = HomeExperiments(rankings, parts.events, parts.feedback, parts.clock)
    return replace(parts, rankings=rankings, experiments=told)


def _means(found: Sequence[Outcome[Glance]]) -> list[float]:
    """Return for each who was shown something the mean of what came of an answer."""
    rewards: dict[str, list[float]] = defaultdict(list)
    for each in found:
        rewards[each.shown.who].append(each.reward)
    return [sum(values) / len(values) for values in rewards.values()]


def _draft(shown: Glance) -> Interleaved:
    return Interleaved(shown.names, shown.teams)


def _arm(name: str, found: Sequence[Outcome[Glance]], team: int | None = None) -> ArmFigures:
    policies = (each.shown.policy if team is None else each.shown.policy.split(" ")[team] for each in found)
    return ArmFigures(
        arm="challenger" if name == "challenger" else "incumbent",
        policies=tuple(dict.fromkeys(policies)),
        users=len({each.shown.who for each in found}),
        answers=len(found),
        taken_up=sum(_taken_up(each, team) for each in found),
    )


def _taken_up(outcome: Outcome[Glance], team: int | None) -> int:
    places = zip(outcome.shown.names, outcome.shown.teams, strict=True)
    return sum(item in outcome.taken and team in (None, whose) for item, whose in places)
