"""The language model's line as a flow: which step needs which, with which part of the declaration.

Owns the shape of the line; steps that could run begin in the order in which they stand here. The base is compiled and
asked before anything is trained on it, so that one which cannot be served fails early. What a step does stands in
`steps.py`.
"""

from __future__ import annotations

from bessemer.core.config import Config
from bessemer.flow import Step
from bessemer.models import encoder_folder, resolve_base
from bessemer.products.llm import steps
from bessemer.products.llm.config import QUESTION_SCORERS, LlmConfig
from bessemer.products.product import CURATE, LakeState, Place

_CODE = {
    "pairs": (
        *(f"bessemer.train.{name}" for name in ("pairs", "drafts", "prompt", "python_rules", "text_rules")),
        "bessemer.products.rows",
    ),
    "models": ("bessemer.models",),
    "train": ("bessemer.train", "bessemer.models"),
    "compile": (
        *(f"bessemer.infer.{name}" for name in ("compile", "config", "llama", "network", "rendering", "runtime")),
        "bessemer.models",
    ),
    "evals": ("bessemer.evals", "bessemer.infer", "bessemer.models", "bessemer.train.prompt"),
    "infer": ("bessemer.infer", "bessemer.models"),
}
"""For each kind of step, the code whose change makes its results stale."""


def llm_steps(place: Place, product: LlmConfig, lake: LakeState) -> tuple[Step, ...]:
    """Return the steps of one language model, after those that read and curate its documents.

    Raises:
        NotFound: there is no such base model or encoder.
    """
    if product.embeddings:
        encoder_folder(product.embeddings.model, place.base)  # what is missing shows before the work
    weights = resolve_base(product.base, place.base).fingerprint  # other weights under the same name are another base
    examples = place.table("examples")
    paired = steps.PairsStepConfig(table=examples, pairs=product.pairs)
    made = (
        step("pairs", paired, (CURATE,), "pairs", "make_pairs", inputs={"table": lake.of(examples)}),
        step("base", steps.BaseConfig(base=product.base), (), "models", inputs={"weights": weights}),
        _compile("compile_base", product, "base"),
        _evaluate("evaluate_base", (place.table("answers_base"), lake.identity), product, "compile_base"),
        step("train", steps.TrainConfig(train=product.train), ("base", "pairs"), "train"),
        step("merge", None, ("base", "train"), "train"),
        _compile("compile", product, "merge"),
        _evaluate("evaluate", (place.table("answers"), lake.identity), product, "compile"),
        step("gate", steps.GateStepConfig(gate=product.gate), ("evaluate_base", "evaluate"), "evals"),
        step("speed", steps.SpeedStepConfig(speed=product.speed), ("compile",), "infer"),
    )
    return place.named(made)


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
