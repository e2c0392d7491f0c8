"""The steps of the language model's line: each adapts one room's function to the runner.

Owns what goes from room to room: which table, which folder, which figures. Knows no model, no tokeniser, no SQL.
Heavy rooms are imported where a step runs, because each step runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import psutil

from bessemer.core.config import StepConfig
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Example, ScoreRequest, ScoreResult
from bessemer.core.protocols import Engine, Trainer
from bessemer.evals import GateConfig, Report, Sample, Task, decide
from bessemer.flow import StepContext
from bessemer.infer import CompileConfig, OpenVinoConfig, SpeedConfig, open_engine
from bessemer.lake import open_lake
from bessemer.products.llm.config import EvaluationConfig
from bessemer.products.rows import Meta, find_rows, rows_tag, written
from bessemer.train import LoraTrainer, TrainReport
from bessemer.train.config import SftConfig
from bessemer.train.pairs import PASSAGE, PairsConfig
from bessemer.train.prompt import prompt_messages


class PairsStepConfig(StepConfig):
    """How examples are made, and for which table."""

    table: str
    pairs: PairsConfig


def make_pairs(ctx: StepContext, config: PairsStepConfig) -> Meta:
    """Make question-answer pairs and passages by rules, split by group."""
    from bessemer.train.pairs import build_examples

    lake, curated, tag = find_rows(ctx, "curate")
    kept = (d for d in lake.get_documents(curated, version=tag) if not d.dropped)
    examples = list(build_examples(kept, config.pairs))
    train = [e for e in examples if e.split == "train"]
    heldout = [e for e in examples if e.split == "heldout"]
    if not train or not heldout:
        raise ConfigError(
            f"{len(train)} examples to train on and {len(heldout)} held out: both are needed",
            hint="Add documents (several files, so that some can be held out) or change `product.pairs`.",
        )
    lake.put(config.table, (e.model_dump() for e in examples), tag=rows_tag(ctx.key))
    return {
        **written(ctx, lake, config.table),
        "train": len(train),
        "heldout": len(heldout),
        "heldout_groups": len({e.group for e in heldout}),
    }


class BaseConfig(StepConfig):
    """Which base model is imported."""

    base: str


def base(ctx: StepContext, config: BaseConfig) -> Meta:
    """Import the base model into the model store as safetensors."""
    from bessemer.models.base import import_base

    return import_base(config.base, ctx.out / "model", Path(ctx.resources["base"])).model_dump(mode="json")


class TrainConfig(StepConfig):
    """How the base is fine-tuned."""

    train: SftConfig


def train(ctx: StepContext, config: TrainConfig) -> Meta:
    """Fine-tune an adapter; a restart goes on at the last checkpoint."""
    trainer: Trainer = LoraTrainer(config.train, ctx.progress, ctx.measured)
    base = Path(ctx.inputs["base"].path) / "model"
    report: TrainReport = trainer.train(base, _examples(ctx), ctx.out / "adapter", ctx.checkpoints)
    return report.model_dump(mode="json")


def merge(ctx: StepContext, config: None) -> Meta:
    """Merge the adapter into the base: a plain Hugging Face folder, served by anything."""
    from bessemer.train.merging import merge as merge_adapter

    merge_adapter(
        Path(ctx.inputs["base"].path) / "model", Path(ctx.inputs["train"].path) / "adapter", ctx.out / "model"
    )
    return {}


class CompileStepConfig(StepConfig):
    """What the served weights are, and which step's model is compiled."""

    compile: CompileConfig
    source: str


def compile_weights(ctx: StepContext, config: CompileStepConfig) -> Meta:
    """Compile a model for the embedded engine."""
    from bessemer.infer.compile import compile_model

    model = Path(ctx.inputs[config.source].path) / "model"
    return compile_model(model, ctx.out / "engine", config.compile).model_dump(mode="json")


class EvaluateConfig(StepConfig):
    """How much held-out data a compiled model is asked, which step compiled it, who scores its answers, their table."""

    evaluation: EvaluationConfig
    source: str
    table: str
    scorers: tuple[str, ...]


def evaluate(ctx: StepContext, config: EvaluateConfig) -> Meta:
    """Ask the held-out questions and measure bits per byte on held-out passages, on the weights that are served."""
    from bessemer.evals import bits_per_byte, run_task

    heldout = [e for e in _examples(ctx) if e.split == "heldout"]
    questions = [e for e in heldout if e.question]
    task = _task(questions, config)
    texts = [(e.id, e.answer) for e in heldout if e.rule == PASSAGE]
    total = len(questions) + len(texts)

    async def both() -> tuple[Report, Report]:
        engine = open_engine(OpenVinoConfig(path=str(Path(ctx.inputs[config.source].path) / "engine")))
        try:
            asked = await run_task(
                engine,
                task,
                progress=lambda done, _: ctx.progress(done, total, "samples", "questions"),
                concurrency=config.evaluation.concurrency,
            )
            scored = await bits_per_byte(
                cast(Engine[ScoreRequest, ScoreResult, Any], engine),
                texts,
                progress=lambda done, _: ctx.progress(len(questions) + done, total, "samples", "bits per byte"),
                groups={e.id: e.group for e in heldout},
            )
        finally:
            await engine.close()
        return asked, scored

    reports = asyncio.run(both())
    for report, name in zip(reports, ("questions", "bits"), strict=True):
        (ctx.out / f"{name}.json").write_text(_without_text(report).model_dump_json(), encoding="utf-8")
    lake = open_lake(ctx.resources["lake"])
    lake.put(config.table, _answer_rows(questions, reports[0]), tag=rows_tag(ctx.key))
    return {
        "questions": len(questions),
        "passages": len(texts),
        **written(ctx, lake, config.table),
        "shown": [e.id for e in _one_per_rule(questions)[: config.evaluation.shown_answers]],
    }


class GateStepConfig(StepConfig):
    """What must hold before the model is served."""

    gate: GateConfig


def gate(ctx: StepContext, config: GateStepConfig) -> Meta:
    """Decide whether the new model may replace the base."""
    verdict = decide(
        config.gate, read_reports(ctx.inputs["evaluate_base"].path), read_reports(ctx.inputs["evaluate"].path)
    )
    (ctx.out / "verdict.json").write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
    return {"passed": verdict.passed}


class SpeedStepConfig(StepConfig):
    """How the speed is measured."""

    speed: SpeedConfig


def speed(ctx: StepContext, config: SpeedStepConfig) -> Meta:
    """Measure how fast the new model answers here, and the processor time that answering takes."""
    from bessemer.infer import measure_speed

    async def measure() -> Meta:
        engine = open_engine(OpenVinoConfig(path=str(Path(ctx.inputs["compile"].path) / "engine")))
        try:
            began, processor = engine.counters.total, _processor_seconds()
            clock = time.perf_counter()
            report = await measure_speed(
                engine, config.speed, lambda done, total: ctx.progress(done, total, "requests")
            )
            ended = engine.counters.total
            taken = {
                "seconds": time.perf_counter() - clock,
                "cpu_seconds": _processor_seconds() - processor,
                "input_tokens": ended.input_tokens - began.input_tokens,
                "output_tokens": ended.output_tokens - began.output_tokens,
            }
        finally:
            await engine.close()
        return {"speed": report.model_dump(mode="json"), "taken": taken}

    return asyncio.run(measure())


def _processor_seconds() -> float:
    """Return the processor time of this process and its living children so far."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return float(sum(t.user + t.system for t in times))


def read_reports(folder: str) -> list[Report]:
    """Return the reports that an evaluation wrote."""
    return [
        Report.model_validate_json((Path(folder) / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("questions", "bits")
    ]


def _examples(ctx: StepContext) -> list[Example]:
    lake, table, tag = find_rows(ctx, "pairs")
    return [Example.model_validate(row) for row in lake.get(table, version=tag)]


def _task(questions: Sequence[Example], config: EvaluateConfig) -> Task:
    return Task(
        name="questions",
        samples=tuple(
            Sample(
                id=e.id, messages=prompt_messages(e.question, e.context), target=e.answer, group=e.group, rule=e.rule
            )
            for e in questions
        ),
        scorers=config.scorers,
        max_output_tokens=config.evaluation.max_output_tokens,
    )


def _answer_rows(questions: Sequence[Example], report: Report) -> Iterator[Meta]:
    """Yield a row for each question; answers may quote documents, so they are kept where documents can be erased."""
    outputs = {score.sample_id: score.output for score in report.scores}
    for e in questions:
        row = {"id": e.id, "document_ids": e.document_ids, "rule": e.rule, "question": e.question}
        yield {**row, "reference": e.answer, "answer": outputs[e.id]}


def _without_text(report: Report) -> Report:
    return report.model_copy(
        update={"scores": tuple(score.model_copy(update={"output": ""}) for score in report.scores)}
    )


def _one_per_rule(questions: Sequence[Example]) -> list[Example]:
    """Return the first question of each kind: what a person is shown."""
    return list({e.rule: e for e in reversed(questions)}.values())[::-1]
