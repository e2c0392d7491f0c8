"""The steps that fine-tuning jobs have of their own: learning from a client's conversations, and merging a checkpoint.

Owns what goes from the job's files to the trainer. The other steps are the language model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.core.config import Config
from bessemer.flow import StepContext
from bessemer.train import LoraTrainer, merge, read_talks
from bessemer.train.config import RowsConfig


class TuneConfig(Config):
    """How a job trains, and which of the job's files it reads, below the folder of jobs."""

    train: RowsConfig = RowsConfig()
    training: str = "training.jsonl"
    validation: str = ""


def tune(ctx: StepContext, config: TuneConfig) -> Mapping[str, Any]:
    """Fine-tune an adapter on a job's conversations; a restart goes on at the last checkpoint."""
    folder = Path(ctx.resources["jobs"])
    talks = list(read_talks(folder / config.training))
    if config.validation:
        talks += read_talks(folder / config.validation, "heldout")
    trainer = LoraTrainer(config.train, ctx.progress, ctx.measured)
    report = trainer.train(Path(ctx.inputs["base"].path) / "model", talks, ctx.out / "adapter", ctx.checkpoints)
    return report.model_dump(mode="json")


class MergeConfig(Config):
    """The folders of an adapter and of the model that it belongs to; both are results of earlier steps."""

    adapter: str = ""
    onto: str = ""


def merge_checkpoint(ctx: StepContext, config: MergeConfig) -> Mapping[str, Any]:
    """Merge the adapter of an earlier epoch into the model that the job started from."""
    merge(Path(config.onto), Path(config.adapter), ctx.out / "model")
    return {}
