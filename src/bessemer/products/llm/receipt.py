"""Fills the receipt of a language model from what its steps published and from the ledger.

Owns which figure stands where. Computes sums and shares, measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Artifact, Usage, Verdict
from bessemer.core.units import Money
from bessemer.evals import Metric, Report
from bessemer.infer import SpeedReport
from bessemer.lake import open_lake
from bessemer.products.llm.config import LlmConfig
from bessemer.products.llm.steps import read_reports
from bessemer.products.product import Finished, Place
from bessemer.products.receipt import (
    Answer,
    Bill,
    DocumentsPart,
    LlmPart,
    MetricLine,
    ServingPart,
    SpeedLine,
    SpeedPart,
    TrainingPart,
)
from bessemer.products.rows import rows_tag
from bessemer.train.report import TrainReport


def fill_part(done: Finished, place: Place, product: LlmConfig) -> LlmPart:
    """Return a language model's part of the receipt of a finished run."""
    made = done.made(place)
    verdict = read_verdict(made["gate"])
    before, after = read_reports(made["evaluate_base"].path), read_reports(made["evaluate"].path)
    return LlmPart(
        name=place.name,
        deployed=verdict.passed,
        documents=_documents(made),
        training=_training(made, product),
        metrics=tuple(_lines(before, after)),
        verdict=verdict,
        answers=_answers(made, done.lake),
        speed=_speed(made),
        serving=_serving(made["speed"], place, done),
    )


def read_verdict(gate: Artifact) -> Verdict:
    """Return what a gate decided."""
    return Verdict.model_validate_json((Path(gate.path) / "verdict.json").read_text(encoding="utf-8"))


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


def _serving(speed: Artifact, place: Place, done: Finished) -> ServingPart | None:
    """Return what 1,000 generated tokens take: the step's bill, by the share of its processor time in answering."""
    taken, step = speed.meta["taken"], done.steps[place.step("speed")]
    bill = done.bill(step.key)
    if bill is None:
        return None
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
    quote = done.prices.quote(usage, place.name)
    return ServingPart(
        input_tokens=usage.input_tokens,
        per_1000_tokens=per_1000,
        charge=quote.charge,
        price_version=quote.price_version,
    )


def what(step: str, artifact: Artifact) -> str:
    """Say what a step of a language model made."""
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
        case _:
            return step
