"""The recommender as a product: its steps, its part of the receipt, its deployment and its engine."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bessemer.core.config import Config
from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.experiments import Experiment
from bessemer.core.nouns import Artifact, Verdict
from bessemer.evals import Metric
from bessemer.flow import Step
from bessemer.infer.ranking.config import RulesConfig, ServedRankerConfig
from bessemer.products.home import Deployment, is_there
from bessemer.products.product import AnyEngine, Finished, LakeState, Opening, Place
from bessemer.products.receipt import FactsPart, MetricLine
from bessemer.products.recommender import steps
from bessemer.products.recommender.config import ExperimentConfig, RecommenderConfig
from bessemer.serve import EventStore, RankingStore

if TYPE_CHECKING:
    from bessemer.products.recommender.renewing import AnyRanker

logger = logging.getLogger(__name__)

_CODE = ("bessemer.train.recommend", "bessemer.models.ranking", "bessemer.evals", "bessemer.products.recommender")


class RecommenderProduct:
    """A recommender of a factory; see `bessemer.products.product.Product`.

    Raises:
        ConfigError: its tables are not declared.
    """

    kind = "recommender"

    def __init__(self, config: RecommenderConfig, place: Place) -> None:
        self.config, self.place = config, place
        self.served = place.step("ranker")
        for field, table in (("events", config.events), ("items", config.items)):
            if table and table not in place.tables:
                known = ", ".join(place.tables) or "none"
                raise ConfigError(
                    f"'{place.name}' is made of the table '{table}' ({field}), which is not declared",
                    hint=f"Declare it under `tables`; declared: {known}.",
                )

    def steps(self, lake: LakeState) -> tuple[Step, ...]:
        """Return the steps that make it from tables."""
        config, tables = self.config, self.place.tables
        events, items = tables[config.events], tables[config.items] if config.items else ""
        heard = self._heard(lake)
        read = (events, *(step.name for step in heard))
        prepared = steps.PrepareConfig(events=read, items=items, weights=config.weights)
        if config.experiment and self.place.rankings and is_there(self.place.rankings):
            with closing(RankingStore(self.place.rankings)) as rankings:
                rankings.check(self.experiment(config.experiment))  # before the work
        tried = steps.FitConfig(models=config.models, judging=config.judging)
        challenger = config.experiment.challenger if config.experiment else None
        judged = steps.JudgeConfig(judging=config.judging, gate=config.gate)
        made = (
            *heard,
            _step("prepare", prepared, (*read, items) if items else read),
            _step("fit", tried, ("prepare",)),
            _step("judge", judged, ("prepare", "fit")),
            _step("ranker", steps.RankerStepConfig(challenger=challenger), ("prepare", "fit")),
            _step("speed", steps.SpeedStepConfig(served=self.serving("")), ("ranker",), ("bessemer.infer.ranking",)),
        )
        return self.place.named(made)

    def _heard(self, lake: LakeState) -> tuple[Step, ...]:
        """Return the step that reads what the gateway was told, if the declaration wants that and there is any."""
        store, projects = self.place.events, self.config.learning.projects
        if not (store and projects and store.exists()):
            return ()
        with closing(EventStore(store)) as events:
            count, last = events.state(projects)
        if not count:
            return ()
        table = self.place.table("told")
        config = steps.ToldConfig(store=str(store), projects=projects, table=table)
        inputs = {"events": f"{count} to {last}", "table": lake.of(table)}
        return (replace(_step("told", config, ()), inputs=inputs),)

    def part(self, done: Finished) -> FactsPart:
        """Return its part of the receipt."""
        made = done.made(self.place)
        folder = Path(made["judge"].path)
        before, after = (steps.read_report(folder / f"{name}.json") for name in ("before", "after"))
        verdict = Verdict.model_validate_json((folder / "verdict.json").read_text(encoding="utf-8"))
        lines = tuple(_line(before.metric(metric.name), metric) for metric in after.metrics)
        return FactsPart(
            kind="recommender",
            name=self.place.name,
            deployed=verdict.passed,
            metrics=lines,
            verdict=verdict,
            compared="popularity",
            facts=(*_facts(made, after.metrics[0].name), *self._tried()),
        )

    def deployment(self, done: Finished) -> Deployment | None:
        """Return the ranker that was fitted on everything, if the gate let it through."""
        made = done.made(self.place)
        if not made["judge"].meta["passed"]:
            return None
        fitted = made["ranker"]
        path = str(Path(fitted.path) / steps.RANKER)
        return Deployment(name=self.place.name, run=done.run, key=fitted.key, path=path, deployed_at=done.ended)

    def what(self, step: str, artifact: Artifact) -> str:
        """Say what a step of it made."""
        meta = artifact.meta
        if step == "prepare":
            return f"{meta['events']:,} events of {meta['users']:,} users with {meta['items']:,} items"
        if step == "ranker":
            return f"{meta['model']} fitted on {meta['events']:,} events"
        return f"{step} of the recommender"

    def open(self, deployment: Deployment | None, opening: Opening) -> Mapping[str, AnyEngine]:
        """Return the engine of what is deployed."""
        from bessemer.products.recommender.renewing import RenewingRanker

        if deployment is None:
            raise NotFound(
                f"no model of '{self.place.name}' is deployed", hint="`bessemer run` says what the gate found and why."
            )
        if self.config.experiment and self.place.rankings:
            with closing(RankingStore(self.place.rankings)) as rankings:
                rankings.declare(self.experiment(self.config.experiment))
        file = opening.state.parents[1] / "deployments" / f"{self.place.name}.json"
        return {self.place.name: RenewingRanker(deployment, file, self._opened, self.place.events)}

    def experiment(self, declared: ExperimentConfig) -> Experiment:
        """Return an experiment of this product as it is kept."""
        model = _settings(declared.challenger.kind, declared.challenger) if declared.challenger else "the same model"
        rules = f", {_settings('rules', declared.rules)}" if declared.rules else ""
        return Experiment(
            name=declared.name,
            model=self.place.name,
            kind=declared.kind,
            challenger=f"{model}{rules}",
            share_ratio=declared.share_ratio,
            counts=declared.counts,
            window_seconds=declared.window_hours * 3_600,
        )

    def _opened(self, path: str) -> AnyRanker:
        """Return the engine of a deployed ranker, with what is tried beside it."""
        from bessemer.infer.ranking.engine import open_engine
        from bessemer.products.recommender.trying import TryingRanker

        config, tried, challenger = self.config, self.config.experiment, None
        incumbent = open_engine(self.serving(path))
        if tried:
            folder = Path(path).with_name(steps.CHALLENGER) if tried.challenger else Path(path)
            if folder.exists():
                challenger = open_engine(self.serving(str(folder), tried.rules or config.rules))
            else:  # what the gate let through is older than the experiment
                logger.warning("the experiment '%s' waits: what is deployed has no challenger yet", tried.name)
        if challenger is None and config.explore is None:
            return incumbent
        experiment = self.experiment(tried) if tried and challenger else None
        return TryingRanker(incumbent, challenger, experiment, config.explore)

    def serving(self, path: str, rules: RulesConfig | None = None) -> ServedRankerConfig:
        """Return how a ranker's folder is served; with the declared rules, or others."""
        config = self.config
        return ServedRankerConfig(
            path=path,
            name=self.place.name,
            retrieval=config.retrieval,
            learn=config.learning.online,
            rules=rules or config.rules,
        )

    def _tried(self) -> Iterator[tuple[str, str]]:
        """Yield what the receipt says of what is tried on users."""
        if tried := self.config.experiment:
            told = self.experiment(tried)
            share, how = (
                f"{tried.share_ratio:.0%} of the users",
                {"ab": "see", "interleave": "see lists made of what is deployed and"},
            )
            yield ("experiment", f"'{tried.name}': {share} {how[tried.kind]} {told.challenger}")
        if explore := self.config.explore:
            yield ("explore", f"the best {explore.depth} are shuffled in {explore.share_ratio:.0%} of the rankings")


def _settings(name: str, config: Config) -> str:
    """Return a declaration in words: its name, and what differs from the defaults."""
    given = config.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
    return " ".join([name, *(f"{key}={json.dumps(value)}" for key, value in given.items())])


def _step(name: str, config: Config | None, needs: tuple[str, ...], code: tuple[str, ...] = ()) -> Step:
    return Step(name, run=f"{steps.__name__}:{name}", config=config, needs=needs, code=(*_CODE, *code))


def _line(before: Metric, after: Metric) -> MetricLine:
    low_high = [
        (metric.interval.low, metric.interval.high) if metric.interval else (metric.value, metric.value)
        for metric in (before, after)
    ]
    return MetricLine(
        metric=after.name,
        samples=after.samples,
        higher_is_better=after.better == "higher",
        before=before.value,
        before_low=low_high[0][0],
        before_high=low_high[0][1],
        after=after.value,
        after_low=low_high[1][0],
        after_high=low_high[1][1],
    )


def _facts(made: Mapping[str, Artifact], metric: str) -> tuple[tuple[str, str], ...]:
    data, fitted, judged = made["prepare"].meta, made["fit"].meta, made["judge"].meta
    took = made["speed"].meta
    tried = ", ".join(f"{one['kind']} {one['ndcg']:.3f} in {one['seconds']:.1f} s" for one in fitted["tried"])
    groups = ", ".join(f"{name} {values[metric]:.3f}" for name, values in judged["groups"].items())
    cold = f"; {data['cold_items']:,} items that nobody met" if data["cold_items"] else ""
    return (
        ("events", f"{data['events']:,} of {data['users']:,} users with {data['items']:,} items{cold}"),
        (
            "model",
            f"{fitted['tried'][fitted['best']]['kind']}, the best of {tried} ({metric} on the events to choose by)",
        ),
        ("users", f"{metric} of users with {groups}"),
        (
            "coverage",
            f"{judged['coverage_after_ratio']:.0%} of the items are shown to somebody, "
            f"by popularity {judged['coverage_before_ratio']:.0%}",
        ),
        (
            "speed",
            f"{took['p50_seconds'] * 1e3:.2f} ms for a ranking with reasons in the middle, "
            f"{took['p99_seconds'] * 1e3:.2f} ms for the slowest of a hundred, measured here",
        ),
    )
