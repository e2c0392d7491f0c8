"""Fills the receipt of a language model from what its steps published and from the ledger.

Owns which figure stands where. Computes sums and shares, measures nothing.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.core.errors import NotFound
from bessemer.core.events import StepFinished
from bessemer.core.nouns import Artifact, Entry, Usage, Verdict
from bessemer.core.units import Money
from bessemer.evals import Metric, Report
from bessemer.infer import SpeedReport
from bessemer.lake import open_lake
from bessemer.meter import PriceBook
from bessemer.products.llm.config import LlmConfig
from bessemer.products.llm.steps import read_reports, rows_tag
from bessemer.products.receipt import (
    Answer,
    Bill,
    DocumentsPart,
    Link,
    MetricLine,
    Receipt,
    ServingPart,
    SpeedLine,
    SpeedPart,
    StageLine,
    TrainingPart,
    added,
)
from bessemer.train.report import TrainReport


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is through, as the factory hands it over.

    Attributes:
        artifacts: what each step published.
        steps: the event that ended each step.
        needs: for each step, the steps that it reads from.
        entries: the ledger's entries of steps, of any run, newest first.
        lake: where the models' answers are.
    """

    factory: str
    run: str
    began: float
    ended: float
    artifacts: Mapping[str, Artifact]
    steps: Mapping[str, StepFinished]
    needs: Mapping[str, tuple[str, ...]]
    entries: Sequence[Entry]
    lake: str


def fill_receipt(done: Finished, product: LlmConfig, prices: PriceBook) -> Receipt:
    """Return the receipt of a finished run."""
    made = done.artifacts
    verdict = Verdict.model_validate_json((Path(made["gate"].path) / "verdict.json").read_text(encoding="utf-8"))
    before, after = read_reports(made["evaluate_base"].path), read_reports(made["evaluate"].path)
    stages = stage_lines(done)
    return Receipt(
        factory=done.factory,
        run=done.run,
        created_at=done.ended,
        wall_seconds=done.ended - done.began,
        machine=f"{platform.system()} {platform.machine()}",
        deployed=verdict.passed,
        documents=_documents(made),
        training=_training(made, product),
        metrics=tuple(_lines(before, after)),
        verdict=verdict,
        answers=_answers(made, done.lake),
        speed=_speed(made),
        stages=stages,
        total=added([line.bill for line in stages if line.bill]),
        prices=prices.told,
        serving=_serving(made["speed"], prices, done),
        lineage=_lineage(done),
    )


def _documents(made: Mapping[str, Artifact]) -> DocumentsPart:
    state, pairs = made["curate"].meta["readiness"], made["pairs"].meta
    return DocumentsPart(
        sources=tuple(made["ingest"].meta["sources"]),
        documents=state["documents"],
        kept=state["kept"],
        dropped=state["dropped"],
        characters=state["characters"],
        examples_train=pairs["train"],
        examples_heldout=pairs["heldout"],
        groups_heldout=pairs["heldout_groups"],
        fitness=" ".join(state["sentences"]),
    )


def _training(made: Mapping[str, Artifact], product: LlmConfig) -> TrainingPart:
    report = TrainReport.model_validate(made["train"].meta)
    return TrainingPart(
        base=made["base"].meta["name"],
        method=f"LoRA rank {product.train.rank}",
        tokens=report.tokens,
        steps=report.steps,
        seconds=report.seconds,
        tokens_per_second=report.tokens_per_second,
        precision=report.trial.precision,
        device=report.device,
        curve=tuple((point.step, point.loss) for point in report.curve),
    )


def _lines(before: list[Report], after: list[Report]) -> Iterable[MetricLine]:
    for base, new in zip(before, after, strict=True):
        for metric in new.metrics:
            old = base.metric(metric.name)
            yield MetricLine(
                metric=metric.name,
                samples=metric.samples,
                higher_is_better=metric.better == "higher",
                before=old.value,
                before_low=_low(old),
                before_high=_high(old),
                after=metric.value,
                after_low=_low(metric),
                after_high=_high(metric),
            )


def _low(metric: Metric) -> float:
    return metric.interval.low if metric.interval else metric.value


def _high(metric: Metric) -> float:
    return metric.interval.high if metric.interval else metric.value


def _answers(made: Mapping[str, Artifact], lake: str) -> tuple[Answer, ...]:
    """Return the first answers of each kind of question, both models side by side; none of what was erased since."""
    before, after = (_shown(made[step], lake) for step in ("evaluate_base", "evaluate"))
    return tuple(
        Answer(
            document_ids=row["document_ids"],
            question=row["question"],
            reference=row["reference"],
            before=before[name]["answer"],
            after=row["answer"],
        )
        for name, row in after.items()
        if name in before
    )


def _shown(evaluated: Artifact, lake: str) -> dict[str, dict[str, Any]]:
    meta = evaluated.meta
    try:
        rows = {row["id"]: row for row in open_lake(lake).get(meta["table"], version=rows_tag(evaluated.key))}
    except NotFound:  # an erasure took this version
        return {}
    return {name: rows[name] for name in meta["shown"] if name in rows}


def _speed(made: Mapping[str, Artifact]) -> SpeedPart:
    report, compiled = SpeedReport.model_validate(made["speed"].meta["speed"]), made["compile"].meta
    return SpeedPart(
        engine=compiled["kind"],
        weights=compiled["weights"],
        model_bytes=compiled["bytes"],
        prompt_tokens=round(report.levels[0].input_tokens),
        lines=tuple(
            SpeedLine(
                streams=line.streams,
                time_to_first_token_seconds=line.time_to_first_token_p50_seconds,
                time_per_output_token_seconds=line.time_per_output_token_p50_seconds,
                output_tokens_per_second=line.output_tokens_per_second,
            )
            for line in report.levels
        ),
    )


def stage_lines(done: Finished) -> tuple[StageLine, ...]:
    """Return a line for each step; the bill is of the newest attempt that made it and of those lost before it."""
    lost: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in done.entries:
        if entry.status != "ok":
            lost[entry.subject.run, entry.subject.name].append(entry)
    lines = []
    for name, event in done.steps.items():
        made = _made(event.key, done)
        others = lost[made.subject.run if made else done.run, name]
        bill = added([_bill(entry) for entry in (*([made] if made else []), *others)])
        line = StageLine(
            step=name, cached=event.cached, wall_seconds=event.wall_seconds, bill=bill, lost_attempts=len(others)
        )
        lines.append(line)
    return tuple(lines)


def _made(key: str, done: Finished) -> Entry | None:
    """Return what the newest attempt took that published a key; None if it was not metered."""
    found = (entry for entry in done.entries if entry.status == "ok" and entry.subject.id.split("/")[0] == key)
    return next(found, None)


def _bill(entry: Entry) -> Bill:
    return Bill(measurement=entry.measurement, carbon=entry.carbon, energy_cost=entry.energy_cost)


def _serving(speed: Artifact, prices: PriceBook, done: Finished) -> ServingPart | None:
    """Return what 1,000 generated tokens take: the step's bill, by the share of its processor time in answering."""
    taken, step = speed.meta["taken"], done.steps["speed"]
    entry = _made(step.key, done)
    if entry is None:
        return None
    bill = _bill(entry)
    share = min(1.0, taken["cpu_seconds"] / step.cpu_seconds) if step.cpu_seconds else 1.0
    factor = share * 1000 / taken["output_tokens"]
    measured, carbon = bill.measurement, bill.carbon
    joules = measured.joules * factor
    per_1000 = Bill(
        measurement=measured.model_copy(
            update={
                "seconds": taken["seconds"] * 1000 / taken["output_tokens"],
                "joules": joules,
                "joules_low": measured.joules_low * factor,
                "joules_high": measured.joules_high * factor,
            }
        ),
        carbon=carbon.model_copy(
            update={name: getattr(carbon, name) * factor for name in ("grams", "grams_low", "grams_high")}
        ),
        energy_cost=Money(micros=round(bill.energy_cost.micros * factor), currency=bill.energy_cost.currency),
    )
    usage = Usage(
        input_tokens=round(taken["input_tokens"] * 1000 / taken["output_tokens"]),
        output_tokens=1000,
    )
    quote = prices.quote(usage, done.factory)
    return ServingPart(
        input_tokens=usage.input_tokens,
        per_1000_tokens=per_1000,
        charge=quote.charge,
        price_version=quote.price_version,
    )


def _lineage(done: Finished) -> tuple[Link, ...]:
    """Return the artefacts from the served model back to the sources, each with what it was made from."""
    order: list[str] = []
    waiting = ["compile"]
    while waiting:
        step = waiting.pop(0)
        if step not in order:
            order.append(step)
            waiting += done.needs[step]
    return tuple(
        Link(
            step=step,
            key=done.artifacts[step].key,
            what=_what(step, done.artifacts[step]),
            made_from=tuple(done.artifacts[need].key for need in done.needs[step]),
        )
        for step in order
    )


def _what(step: str, artifact: Artifact) -> str:
    meta = artifact.meta
    match step:
        case "compile":
            return f"{meta['weights']} weights for {meta['kind']}"
        case "merge":
            return "the fine-tuned model as a Hugging Face folder"
        case "train":
            return f"adapter, {meta['tokens']:,} tokens"
        case "base":
            return f"{meta['name']} from {meta['source']} ({meta['licence']})"
        case "ingest":
            return f"{meta['table']} tagged {rows_tag(artifact.key)}, read from {'; '.join(meta['sources'])}"
        case _:
            return f"{meta['table']} tagged {rows_tag(artifact.key)}"
