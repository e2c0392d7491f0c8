"""A fine-tuning job as a flow: base, train, merge, compile; and what came of it. A checkpoint is merged and compiled.

Owns the shape of that line and what a job's hyperparameters mean to the trainer. Knows neither HTTP nor the runner's
inside.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bessemer.core.digest import digest_bytes
from bessemer.core.errors import Unsupported
from bessemer.core.model_names import tuned_model
from bessemer.core.nouns import Artifact
from bessemer.flow import Flow, Step
from bessemer.infer import CompileConfig
from bessemer.models.base import resolve_base
from bessemer.products.llm import flow as llm
from bessemer.products.llm import steps
from bessemer.products.tuning.steps import MergeConfig, TuneConfig
from bessemer.serve.work.jobs import Job, Kept, Result
from bessemer.serve.work.models import TunedModel
from bessemer.serve.work.tuning import JobStore
from bessemer.train.config import RowsConfig
from bessemer.train.report import epoch_folder

QUEUE = "fine_tuning"
"""The limit that training runs under: one job at a time, over all gateways on the database."""

CHECKPOINTS = "checkpoints"
"""The limit that checkpoints are made under, likewise: somebody waits for them, so they wait for no training."""

MAX_LENGTH_TOKENS = 2048
"""Longer conversations are left out, and the job's events say how many."""

CHECKPOINT_STEPS = 5


@dataclass(frozen=True, slots=True)
class TuningLine:
    """What makes a flow of a job.

    Attributes:
        base: folder that relative paths of base models start from.
        sources: from a model's name to the base that `import_base` reads: a name, or a folder's path.
        compile: the weights that are served.
    """

    base: Path
    sources: Callable[[str, str], str]
    compile: CompileConfig

    def flow(self, project: str, job: Job, jobs: JobStore) -> Flow:
        """Return the flow of a job; what one project's job made is never another's.

        Raises:
            NotFound: the model that it starts from is gone.
        """
        name = self.sources(project, job.model)
        weights = resolve_base(name, self.base).fingerprint
        chosen = job.hyperparameters
        train = RowsConfig(
            batch_rows=int(chosen.batch_size),
            epochs=int(chosen.n_epochs),
            learning_rate=min(1.0, RowsConfig().learning_rate * float(chosen.learning_rate_multiplier)),
            max_length_tokens=MAX_LENGTH_TOKENS,
            checkpoint_steps=CHECKPOINT_STEPS,
            seed=job.seed,
        )
        given = {what: jobs.data(job.id, what) for what in ("training", "validation")}
        there = {what: path for what, path in given.items() if path.exists()}
        config = TuneConfig(train=train, **{what: path.name for what, path in there.items()})
        inputs = {what: digest_bytes(path.read_bytes()) for what, path in there.items()} | {"project": project}
        return Flow(
            flow_name(job.id),
            (
                llm.step("base", steps.BaseConfig(base=name), (), "models", inputs={"weights": weights}),
                Step(
                    "train",
                    run=f"{tune_module}:tune",
                    config=config,
                    needs=("base",),
                    inputs=inputs,
                    code=("bessemer.train",),
                    queue=QUEUE,
                ),
                llm.step("merge", None, ("base", "train"), "train"),
                self._compile(),
            ),
        )

    def checkpoint(self, model: TunedModel) -> Flow:
        """Return the flow that makes what is served of a checkpoint.

        Raises:
            Unsupported: its adapter is not there; gateways over one database may have folders of their own.
        """
        config = MergeConfig(adapter=str(here(model.adapter)), onto=str(here(model.onto)))
        code = ("bessemer.train", "bessemer.models")
        merge = Step("merge", run=f"{tune_module}:merge_checkpoint", config=config, code=code, queue=CHECKPOINTS)
        return Flow(flow_name(model.job, model.id), (merge, replace(self._compile(), queue=CHECKPOINTS)))

    def places(self, artifacts: Mapping[str, Artifact]) -> dict[str, str]:
        """Return where what came of a flow that finished is served from, and where another job may start."""
        return {
            "path": str(Path(artifacts["compile"].path) / "engine"),
            "source": str(Path(artifacts["merge"].path) / "model"),
        }

    def _compile(self) -> Step:
        config = steps.CompileStepConfig(compile=self.compile, source="merge")
        return llm.step("compile", config, ("merge",), "compile", "compile_weights")

    def result(self, artifacts: Mapping[str, Artifact]) -> Result:
        """Return what came of a flow that finished."""
        report: dict[str, Any] = artifacts["train"].meta
        adapter, onto = Path(artifacts["train"].path) / "adapter", str(Path(artifacts["base"].path) / "model")
        return Result(
            **self.places(artifacts),
            trained_tokens=report["read_tokens"],
            step_number=report["steps"],
            metrics=_metrics(report["steps"], report),
            curve=curve_csv(report["curve"], report["heldout_loss"]),
            kept=tuple(
                Kept(str(adapter / epoch_folder(end["step"])), onto, end["step"], _metrics(end["step"], end))
                for end in report["epochs"]
            ),
        )


tune_module = TuneConfig.__module__


def flow_name(job: str, model: str = "") -> str:
    """Return what the flow of a job is called, or that of a checkpoint that came of it.

    >>> flow_name("ftjob-1"), flow_name("ftjob-1", "ft:base:shop::1:ckpt-step-8")
    ('tune-ftjob-1', 'tune-ftjob-1:ckpt-step-8')
    """
    return f"tune-{job}{model.removeprefix(tuned_model(model))}"


def here(folder: str) -> Path:
    """Return the folder of a model's weights or of an adapter.

    Raises:
        Unsupported: it is not there; gateways over one database may have folders of their own.
    """
    if not (path := Path(folder)).is_dir():
        told = "the weights of this fine-tuned model are in another state folder than this gateway's"
        raise Unsupported(told, hint="Ask the gateway that made it.")
    return path


def _metrics(step: int, losses: Mapping[str, Any]) -> dict[str, float]:
    metrics = {"step": float(step), "train_loss": losses["train_loss"]}
    return metrics if losses["heldout_loss"] is None else metrics | {"full_valid_loss": losses["heldout_loss"]}


def curve_csv(curve: list[dict[str, Any]], valid_loss: float | None) -> bytes:
    """Return the steps of a training run as CSV; the loss on the validation file stands at the last step.

    >>> curve_csv([{"step": 1, "loss": 2.0, "learning_rate": 0.1, "tokens": 9, "seconds": 1.5}], 1.75).decode()
    'step,train_loss,valid_loss,learning_rate,padded_tokens,seconds\\n1,2.0,1.75,0.1,9,1.5\\n'
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("step", "train_loss", "valid_loss", "learning_rate", "padded_tokens", "seconds"))
    for point in curve:
        last = point["step"] == len(curve) and valid_loss is not None
        figures = (point["learning_rate"], point["tokens"], point["seconds"])
        writer.writerow((point["step"], point["loss"], valid_loss if last else "", *figures))
    return out.getvalue().encode()
