"""The language model's line as a flow: which step needs which, with which part of the declaration.

Owns the shape of the line; steps that could run begin in the order in which they stand here. The base is compiled and
asked before anything is trained on it, so that one which cannot be served fails early. What a step does stands in
`steps.py`.
"""

from __future__ import annotations

from pathlib import Path

from bessemer.core.config import Config
from bessemer.flow import Flow, Step
from bessemer.lake import CurateConfig, SourceConfig, fingerprint, open_lake
from bessemer.models import encoder_folder, resolve_base
from bessemer.products.llm import steps
from bessemer.products.llm.config import QUESTION_SCORERS, LlmConfig

_CODE = {
    "lake": ("bessemer.lake",),
    "pairs": tuple(f"bessemer.train.{name}" for name in ("pairs", "drafts", "prompt", "python_rules", "text_rules")),
    "models": ("bessemer.models",),
    "train": ("bessemer.train", "bessemer.models"),
    "compile": (
        *(f"bessemer.infer.{name}" for name in ("compile", "config", "llama", "network", "runtime")),
        "bessemer.models",
    ),
    "evals": ("bessemer.evals", "bessemer.infer", "bessemer.train.prompt"),
    "infer": ("bessemer.infer",),
}
"""For each kind of step, the code whose change makes its results stale."""

_TABLES = ("documents", "curated", "examples")


def build_flow(
    name: str,
    sources: tuple[SourceConfig, ...],
    curate: CurateConfig,
    product: LlmConfig,
    base: Path,
    lake_url: str,
    erased: tuple[str, ...] = (),
) -> Flow:
    """Return the line of one language model.

    Args:
        name: of the factory; its tables and its model are called so.
        sources: where the documents come from.
        curate: which documents are dropped.
        product: the rest of the line.
        base: the folder that relative paths, of sources and of the base model, start from.
        lake_url: where the tables are.
        erased: ids of documents that must not be read again.
    """
    raw = {f"source {index}": fingerprint(source, base) for index, source in enumerate(sources)}
    lake = open_lake(lake_url)
    # What a step wrote is in this lake alone, and an erasure ends the versions of a table, also those without the row.
    place = f"{lake_url} {lake.identity()}"
    tables = {part: {"table": f"{place} {lake.erasures(f'{name}.{part}')}"} for part in _TABLES}
    if product.embeddings:
        encoder_folder(product.embeddings.model, base)  # what is missing shows before the work
    weights = resolve_base(product.base, base).fingerprint  # other weights under the same name are another base
    read = steps.IngestConfig(name=name, sources=sources, erased=erased)
    chosen = steps.CurateStepConfig(name=name, curate=curate)
    paired = steps.PairsStepConfig(name=name, pairs=product.pairs)
    return Flow(
        name,
        (
            step("ingest", read, (), "lake", inputs={**raw, **tables["documents"]}),
            step("curate", chosen, ("ingest",), "lake", "curate_documents", inputs=tables["curated"]),
            step("pairs", paired, ("curate",), "pairs", "make_pairs", inputs=tables["examples"]),
            step("base", steps.BaseConfig(base=product.base), (), "models", inputs={"weights": weights}),
            _compile("compile_base", product, "base"),
            _evaluate("evaluate_base", (f"{name}.answers_base", place), product, "compile_base"),
            step("train", steps.TrainConfig(train=product.train), ("base", "pairs"), "train"),
            step("merge", None, ("base", "train"), "train"),
            _compile("compile", product, "merge"),
            _evaluate("evaluate", (f"{name}.answers", place), product, "compile"),
            step("gate", steps.GateStepConfig(gate=product.gate), ("evaluate_base", "evaluate"), "evals"),
            step("speed", steps.SpeedStepConfig(speed=product.speed), ("compile",), "infer"),
        ),
    )


def step(
    name: str,
    config: Config | None,
    needs: tuple[str, ...],
    code: str,
    function: str = "",
    *,
    inputs: dict[str, str] | None = None,
) -> Step:
    """Return a step of this product.

    Args:
        name: of the step.
        config: of its function.
        needs: the steps before it.
        code: which kind of step it is; says whose source it depends on.
        function: of `steps`; the step's name if empty.
        inputs: digests of what it reads besides.
    """
    run = f"{steps.__name__}:{function or name}"
    return Step(name, run=run, config=config, needs=needs, code=_CODE[code], inputs=inputs or {})


def _compile(name: str, product: LlmConfig, source: str) -> Step:
    config = steps.CompileStepConfig(compile=product.compile, source=source)
    return step(name, config, (source,), "compile", "compile_weights")


def _evaluate(name: str, answers: tuple[str, str], product: LlmConfig, source: str) -> Step:
    table, place = answers
    config = steps.EvaluateConfig(evaluation=product.evaluation, source=source, table=table, scorers=QUESTION_SCORERS)
    return step(name, config, (config.source, "pairs"), "evals", "evaluate", inputs={"lake": place})
