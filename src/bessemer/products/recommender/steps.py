"""The steps of a recommender's line: read events and items, try the models, judge the best, fit it on everything.

Owns what goes from room to room. Heavy rooms are imported where a step runs, because each runs in a process of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any

from bessemer.core.config import Config
from bessemer.core.errors import ConfigError
from bessemer.evals import BetterThan, GateConfig, Report, decide
from bessemer.flow import StepContext
from bessemer.infer.ranking.config import ServedRankerConfig
from bessemer.lake import open_lake
from bessemer.products.recommender.config import EventWeight, JudgingConfig
from bessemer.products.rows import Meta, find_rows, rows_tag, written
from bessemer.train.recommend.config import PopularityConfig, RankerConfig

RANKER, CHALLENGER = "ranker", "challenger"
"""Folders of what is served, and of what challenges it, in what the step `ranker` publishes."""
_SPEED_RANKINGS = 500
_EVENTS_AT_ONCE = 10_000


class ToldConfig(Config):
    """Which projects' events are read from which store, into which table."""

    store: str = "events.sqlite"
    projects: tuple[str, ...] = ()
    table: str = "told"


def told(ctx: StepContext, config: ToldConfig) -> Meta:
    """Read what the gateway was told, as far as the declaration names its projects, into a table of the lake."""
    from contextlib import closing

    from bessemer.serve import EventStore

    with closing(EventStore(Path(config.store))) as store:
        last = {project: store.state([project])[1] for project in config.projects}
        lake = open_lake(ctx.resources["lake"])
        # No further than is said to be known: what comes in while this reads would be learnt, and be told again.
        upto = max(last.values(), default=0)
        rows = (
            event.model_dump()
            for start in range(0, upto, _EVENTS_AT_ONCE)
            for project, end in last.items()
            for event in store.between(project, start, min(end, start + _EVENTS_AT_ONCE))
        )
        lake.put(config.table, rows, tag=rows_tag(ctx.key))
    return {**written(ctx, lake, config.table), "last": last}


class PrepareConfig(Config):
    """Which steps read the tables, and what kinds of events count for."""

    events: tuple[str, ...] = ("table_events",)
    items: str = ""
    weights: Mapping[str, EventWeight] = {}


def prepare(ctx: StepContext, config: PrepareConfig) -> Meta:
    """Order all events by user and time, and turn items into features."""
    from bessemer.models.ranking.content import content_features
    from bessemer.train.recommend.interactions import Interactions
    from bessemer.train.recommend.prepared import Prepared

    items = {str(row["item"]): row for row in _rows(ctx, config.items, "item")} if config.items else {}
    events = (_weighed(row, config.weights) for step in config.events for row in _rows(ctx, step, "item"))
    everything = Interactions.of_rows(events, list(items))
    attributes = tuple(_plain(items.get(name, {"item": name})) for name in everything.items)
    content = content_features(attributes if items else [], ("item", "title", "simulated"), len(attributes))
    Prepared(everything, attributes, content).save(ctx.out)
    return {
        "events": len(everything.times),
        "users": len(everything.users),
        "items": len(everything.items),
        "cold_items": int((everything.counts() == 0).sum()),
        "last": ctx.inputs["told"].meta["last"] if "told" in ctx.inputs else {},
    }


class FitConfig(Config):
    """Which models are tried, and how they are compared."""

    models: tuple[RankerConfig, ...] = ()
    judging: JudgingConfig = JudgingConfig()


def fit(ctx: StepContext, config: FitConfig) -> Meta:
    """Fit each model without what is held out, and keep the one that ranks the events for the choice best."""
    from bessemer.evals.ranking import evaluate_ranking
    from bessemer.train.recommend.fitting import fit_ranker

    prepared, new, split = _split(ctx, config.judging)
    known, held = new.only(split.fit).histories, _held(prepared, new, split, "valid")
    tried: list[dict[str, Any]] = []
    for number, model in enumerate((PopularityConfig(), *config.models)):
        began = time.perf_counter()
        scorer = fit_ranker(model, known, len(new.items), prepared.content)
        seconds = time.perf_counter() - began
        judged = evaluate_ranking(_scores_of(scorer, known), held, k=config.judging.k, resamples=1_000)
        ndcg = judged.report.metrics[0].value
        tried.append({"kind": model.kind, "ndcg": ndcg, "seconds": seconds})
        ctx.progress(number + 1, len(config.models) + 1, "models")
        # With what users did by now, as `last` says, what is held out too: judging takes the scorer alone.
        last = ctx.inputs["prepare"].meta["last"]
        _save_scorer(ctx.out / str(number), scorer, prepared, prepared.everything, last)
    best = max(range(1, len(tried)), key=lambda number: tried[number]["ndcg"])
    return {"tried": tried, "best": best, "model": config.models[best - 1].model_dump(mode="json")}


class JudgeConfig(Config):
    """How the chosen model is judged, and what must hold."""

    judging: JudgingConfig = JudgingConfig()
    gate: GateConfig = GateConfig(rules=(BetterThan(metric="ndcg"),))


def judge(ctx: StepContext, config: JudgeConfig) -> Meta:
    """Rank the events that neither the fit nor the choice saw, by popularity and by the chosen model; decide."""
    from bessemer.evals.ranking import RankingReport, evaluate_ranking
    from bessemer.models.ranking.folder import load_ranker

    prepared, new, split = _split(ctx, config.judging)
    # A user's history reaches up to the test, as when it is served; nothing was fitted on the part for the choice.
    known, held = new.only(split.fit | split.valid).histories, _held(prepared, new, split, "test")
    fitted = ctx.inputs["fit"]

    def judged(number: int) -> RankingReport:
        scorer = load_ranker(Path(fitted.path) / str(number)).scorer
        return evaluate_ranking(_scores_of(scorer, known), held, model=scorer.kind, k=config.judging.k)

    before, after = judged(0), judged(fitted.meta["best"])
    verdict = decide(_at_k(config.gate, config.judging.k), [before.report], [after.report])
    for name, told in (("before", before.report), ("after", after.report), ("verdict", verdict)):
        (ctx.out / f"{name}.json").write_text(told.model_dump_json(), encoding="utf-8")
    return {
        "passed": verdict.passed,
        "coverage_before_ratio": before.coverage_ratio,
        "coverage_after_ratio": after.coverage_ratio,
        "groups": after.report.breakdown(),
    }


class RankerStepConfig(Config):
    """What is fitted beside the chosen model, to challenge it on live users."""

    challenger: RankerConfig | None = None


def ranker(ctx: StepContext, config: RankerStepConfig) -> Meta:
    """Fit the chosen model on everything, as it is served, and beside it a challenger, if one is declared."""
    from pydantic import TypeAdapter

    from bessemer.train.recommend.fitting import fit_ranker
    from bessemer.train.recommend.prepared import Prepared

    prepared = Prepared.load(Path(ctx.inputs["prepare"].path))
    model: RankerConfig = TypeAdapter(RankerConfig).validate_python(ctx.inputs["fit"].meta["model"])
    everything = prepared.everything
    began = time.perf_counter()
    for name, declared in ((RANKER, model), (CHALLENGER, config.challenger)):
        if declared:
            scorer = fit_ranker(declared, everything.histories, len(everything.items), prepared.content)
            _save_scorer(ctx.out / name, scorer, prepared, everything, ctx.inputs["prepare"].meta["last"])
    seconds = time.perf_counter() - began
    return {"model": model.kind, "seconds": seconds, "events": len(everything.times)}


class SpeedStepConfig(Config):
    """How the ranker is served."""

    served: ServedRankerConfig = ServedRankerConfig()


def speed(ctx: StepContext, config: SpeedStepConfig) -> Meta:
    """Measure how long a ranking takes on one core of this machine."""
    from bessemer.core.ranking import RankRequest
    from bessemer.infer.ranking.engine import open_engine

    path = str(Path(ctx.inputs["ranker"].path) / RANKER)
    engine = open_engine(config.served.model_copy(update={"path": path}))
    users = json.loads((Path(path) / "ranker.json").read_text(encoding="utf-8"))["users"]
    chosen = Random(0).choices(users, k=_SPEED_RANKINGS)
    for user in chosen[:20]:
        engine.rank(RankRequest(user=user))
    seconds = [engine.rank(RankRequest(user=user, explain=True)).seconds or 0.0 for user in chosen]
    hundredths = quantiles(seconds, n=100)
    return {
        "rankings": len(seconds),
        "p50_seconds": hundredths[49],
        "p99_seconds": hundredths[98],
        "policy": engine.policy,
    }


def read_report(path: Path) -> Report:
    """Return a report that `judge` wrote."""
    return Report.model_validate_json(path.read_text(encoding="utf-8"))


def _rows(ctx: StepContext, step: str, needed: str) -> Iterator[dict[str, Any]]:
    lake, table, tag = find_rows(ctx, step)
    dataset = lake.open(table, version=tag)
    if needed not in dataset.schema.names:
        columns = ", ".join(dataset.schema.names)
        raise ConfigError(f"the table '{table}' has no column '{needed}'", hint=f"Its columns: {columns}.")
    for batch in dataset.to_batches():
        yield from batch.to_pylist()


def _weighed(row: dict[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    kind = str(row.get("kind"))
    return row | {"weight": weights[kind]} if kind in weights else row


def _scores_of(scorer: Any, known: Any) -> Any:
    """Return what scores all items for some of the users."""
    return lambda users: scorer.scores(known.take(users))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with JSON values only; what is none of them, such as a date, as text."""
    return {name: json.loads(json.dumps(value, default=str)) for name, value in row.items()}


def _split(ctx: StepContext, judging: JudgingConfig) -> tuple[Any, Any, Any]:
    from bessemer.evals.splits import last_split, random_split
    from bessemer.train.recommend.prepared import Prepared

    prepared = Prepared.load(Path(ctx.inputs["prepare"].path))
    new = prepared.first_times()
    users = new.histories.users()
    if judging.holdout == "last":
        split = last_split(users)
    else:
        split = random_split(users, valid_ratio=judging.share_ratio, test_ratio=judging.share_ratio, seed=judging.seed)
    if not split.test.any():
        raise ConfigError(
            "no user has three items or more: nothing can be held out to judge by", hint="Give more events."
        )
    return prepared, new, split


def _held(prepared: Any, new: Any, split: Any, part: str) -> Any:
    """Return what is held out for ``valid`` or ``test``."""
    from bessemer.evals.ranking import Heldout
    from bessemer.train.recommend.prepared import by_activity, category_numbers

    wanted = new.only(getattr(split, part)).histories
    seen = new.only(split.fit if part == "valid" else split.fit | split.valid).histories
    users = range(len(new.users))
    return Heldout(
        users=new.users,
        wanted=[wanted.of(user)[0] for user in users],
        seen=[seen.of(user)[0] for user in users],
        counts=new.only(split.fit).counts(),
        categories=category_numbers(prepared.attributes),
        groups=by_activity(new.only(split.fit)),
    )


def _save_scorer(folder: Path, scorer: Any, prepared: Any, known: Any, last: Mapping[str, int] | None = None) -> None:
    from bessemer.models.ranking.folder import SavedRanker, save_ranker

    saved = SavedRanker(
        scorer=scorer,
        items=known.items,
        users=known.users,
        histories=known.histories,
        counts=known.counts(),
        attributes=prepared.attributes,
        content=prepared.content,
        told=last or {},
    )
    save_ranker(saved, folder)


def _at_k(gate: GateConfig, k: int) -> GateConfig:
    """Return a gate whose metrics are named with their k where the declaration leaves it out."""
    rules = tuple(
        rule if "@" in rule.metric else rule.model_copy(update={"metric": f"{rule.metric}@{k}"}) for rule in gate.rules
    )
    return gate.model_copy(update={"rules": rules})
