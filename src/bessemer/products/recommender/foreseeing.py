"""What another ranker would have earned of this factory's users, before anybody sees it.

Owns the replay: what was shown with chance in the order is gone through as it came, the candidate hears the events that
were there by then, and is asked the same. Rankings of a time that it was trained on are left out: it would know what
came of them. Needs `explore` in the declaration for as long as the log is to tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Interval, Noun
from bessemer.core.ranking import RankRequest
from bessemer.evals.foreseeing import Foresight, Place, foresee_places
from bessemer.flow import open_store
from bessemer.infer.ranking.engine import RankerEngine, open_engine
from bessemer.products.home import Deployment, Home, is_there
from bessemer.products.recommender import steps
from bessemer.products.recommender.experiments import Counting, Outcome
from bessemer.products.recommender.looking import looked_at
from bessemer.products.recommender.product import RecommenderProduct
from bessemer.serve import EventStore, RankingStore
from bessemer.serve.rankings import Shown

if TYPE_CHECKING:
    from bessemer.products.factory import Factory

LEAST_SUPPORTED_RATIO = 0.8
"""Where the log could have shown less of what the candidate shows, the sentence warns."""


class Foreseen(Noun):
    """What a candidate would have earned: items taken up of a place that was shown.

    Attributes:
        candidate: its policy.
        rankings: that were replayed.
        users: they are of.
        left_out: rankings of a time that the candidate was trained on.
        ips: of the candidate: unbiased where what it shows could have been shown; varies most.
        snips: likewise: a little biased, varies less.
        dr: likewise: doubly robust.
        incumbent: what ranked then, without chance; doubly robust.
        difference: the candidate less that, paired by user.
        effective: decisions of the candidate that the log is worth.
        supported_ratio: of what the candidate shows, what could have been shown.
        sentence: the same in words.
    """

    candidate: str
    rankings: int
    users: int
    left_out: int
    ips: Interval
    snips: Interval
    dr: Interval
    incumbent: Interval
    difference: Interval
    effective: float
    supported_ratio: float
    sentence: str


def foresee(
    home: Home, engine: RankerEngine, model: str, project: str = "", counting: Counting | None = None
) -> Foreseen:
    """Return what an engine would have earned where a model was shown with chance in the order.

    Args:
        home: with what was shown and told.
        engine: the candidate; it hears events, so open one for this alone.
        model: the served recommender whose log is read.
        project: only its users; empty is all.
        counting: what counts; left out, whatever speaks for a shown item within a day.

    Raises:
        ConfigError: nothing was shown that tells anything of the candidate.
    """
    if not (is_there(home.rankings) and home.events.exists()):
        raise _nothing(model)
    with looked_at(home) as (rankings, events, experiments):
        logged = rankings.shown(project=project, explored=True)
        # What an experiment's challenger ordered says what the challenger earned, not the incumbent.
        shown = [each for each in logged if each.model == model and each.arm != "challenger"]
        fresh = [each for each in shown if each.told >= engine.told.get(each.project, 0)]
        if not fresh:
            raise _nothing(model, len(shown))
        fresh.sort(key=lambda each: each.told)  # so that nothing is replayed after what came of it
        found = experiments.outcomes(fresh, project, counting or Counting())
        places = list(_Replay(rankings, events, engine).places(found))
    told = foresee_places(places)
    return _foreseen(engine.policy, found, len(shown) - len(fresh), told)


def foresee_candidate(factory: Factory, candidate: str, product: str = "", project: str = "") -> Foreseen:
    """Return what a candidate would have earned, named as on the command line.

    Args:
        factory: whose recommender is served.
        candidate: ``challenger`` of the declared experiment, a family that the last run tried such as ``als``, or the
            folder of a saved ranker. A family that was tried twice has the second ``als-2``; a folder of the name of
            a family is ``./als``. A family is as it was tried: fitted without what was held out, though it knows what
            users did by then as the served ranker does.
        product: the recommender's name; the first one, if it is empty.
        project: only its users; empty is all.

    Raises:
        ConfigError: the factory has no recommender, or the log tells nothing of the candidate.
        NotFound: nothing is deployed, or there is no such candidate.
    """
    made: dict[str, RecommenderProduct] = {
        name: each for name, each in factory.products().items() if isinstance(each, RecommenderProduct)
    }
    name = product or next(iter(made), "")
    if name not in made:
        known = ", ".join(made) or "none"
        raise ConfigError(f"the factory has no recommender '{name}'", hint=f"Its recommenders: {known}.")
    deployed = factory.deployed().get(name)
    if deployed is None:
        raise NotFound(f"no model of '{name}' is deployed", hint="`bessemer run` makes one.")
    tried = made[name].config.experiment
    folder = _folder(factory.home, deployed, made[name].place.step("fit"), candidate)
    rules = tried.rules if tried and candidate == steps.CHALLENGER else None
    # Weights between items stay as they were trained: to change them with each event takes as long as serving did.
    engine = open_engine(made[name].serving(str(folder), rules).model_copy(update={"learn": False}))
    counting = Counting(tried.counts, tried.window_hours * 3_600) if tried else Counting()
    return foresee(factory.home, engine, name, project, counting)


class _Replay:
    """Goes through a log as it came."""

    def __init__(self, rankings: RankingStore, events: EventStore, engine: RankerEngine) -> None:
        self._rankings, self._events, self._engine = rankings, events, engine
        self._heard = dict(engine.told)
        self._names: dict[str, str] = {}
        self._known: set[str] = set()

    def places(self, found: Iterable[Outcome[Shown]]) -> Iterable[Place]:
        """Yield the places of all rankings, with what the candidate puts there."""
        for outcome in found:
            shown = outcome.shown
            self._hear(shown.project, shown.told)
            names = {"user": self._names.get(shown.user, shown.user), "session": self._names.get(shown.session, "")}
            wanted: RankRequest = shown.request.model_copy(update={"project": shown.project, **names})
            ranked = [each.item for each in self._engine.rank(wanted).items]
            depth = (
                len(shown.pool)
                if len(shown.pool) > len(shown.items)
                else sum(each.propensity is not None and each.propensity < 1 for each in shown.items)
            )
            for place, each in enumerate(shown.items):
                candidate = ranked[place] if place < len(ranked) else None
                may = shown.pool[:depth] if place < depth else (each.item,)
                yield Place(
                    user=shown.who,
                    place=place,
                    item=each.item,
                    reward=float(each.item in outcome.taken),
                    propensity=each.propensity or 1.0,
                    incumbent=shown.pool[place],
                    candidate=candidate,
                    supported=candidate in may,
                )

    def _hear(self, project: str, upto: int) -> None:
        """Let the candidate hear what a project told up to an event, and learn whose marks are whose."""
        if project not in self._known:
            self._known.add(project)
            self._names |= {self._rankings.mark("user", project, name): name for name in self._engine.users(project)}
        told = self._events.between(project, self._heard.get(project, 0), upto)
        for event in told:
            self._names[self._rankings.mark("user", project, event.user)] = event.user
            self._names[self._rankings.mark("session", project, event.session)] = event.session
        self._engine.learn(project, told)
        self._heard[project] = max(upto, self._heard.get(project, 0))


def _folder(home: Home, deployed: Deployment, step: str, candidate: str) -> Path:
    """Return the folder of a candidate."""
    if candidate == steps.CHALLENGER:
        folder = Path(deployed.path).with_name(steps.CHALLENGER)
        return folder if folder.exists() else Path(deployed.path)  # the same model, with other rules
    with open_store(home.database_url) as store:
        key = next((each.key for each in store.steps(deployed.run) if each.name == step), "")
        result = store.result(key)
    tried = _names([each["kind"] for each in result.outcome.meta["tried"]]) if result else []
    if result and candidate in tried:
        return home.artifacts / "published" / result.folder / str(tried.index(candidate))
    if Path(candidate).is_dir():
        return Path(candidate)
    known = ", ".join([steps.CHALLENGER, *tried])
    raise NotFound(f"there is no candidate '{candidate}'", hint=f"Known: {known}; or the folder of a ranker.")


def _names(kinds: list[str]) -> list[str]:
    """Return what each family that was tried is called: one that was tried again gets a number.

    >>> _names(["popularity", "ease", "als", "ease"])
    ['popularity', 'ease', 'als', 'ease-2']
    """
    counts = [kinds[: at + 1].count(kind) for at, kind in enumerate(kinds)]
    return [f"{kind}-{count}" if count > 1 else kind for kind, count in zip(kinds, counts, strict=True)]


def _nothing(model: str, left_out: int = 0) -> ConfigError:
    told = f"all {left_out} rankings are of a time that the candidate was trained on" if left_out else "nothing was"
    what = told if left_out else f"{told} shown of '{model}' with chance in the order"
    return ConfigError(f"the log tells nothing: {what}", hint="Declare `explore`, serve, and wait for users.")


def _foreseen(policy: str, found: list[Outcome[Shown]], left_out: int, told: Foresight) -> Foreseen:
    difference, of = told.difference, told.candidate
    said = "earns more" if difference.low > 0 else "earns less" if difference.high < 0 else "is not told apart"
    span = f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
    sentence = (
        f"the candidate {said}: {span} items taken up of a place, at {difference.confidence * 100:g} %, at one look"
    )
    if told.supported_ratio < LEAST_SUPPORTED_RATIO:
        sentence += (
            f"; only {told.supported_ratio:.0%} of what it shows could have been shown, for the rest a model speaks"
            " alone: explore deeper, or let users decide"
        )
    return Foreseen(
        candidate=policy,
        rankings=len(found),
        users=len({each.shown.who for each in found}),
        left_out=left_out,
        ips=of.ips,
        snips=of.snips,
        dr=of.dr,
        incumbent=told.incumbent.dr,
        difference=difference,
        effective=of.effective,
        supported_ratio=told.supported_ratio,
        sentence=sentence,
    )
