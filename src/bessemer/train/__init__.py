"""Training: questions and answers from documents, supervised LoRA fine-tuning with exact resume, merging.

Light to import: torch, Transformers and PEFT are loaded by the functions that need them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bessemer.core.errors import MissingDependency
from bessemer.core.nouns import Example
from bessemer.core.protocols import Checkpoints
from bessemer.models.card import ModelCard
from bessemer.train.config import RowsConfig, SftConfig
from bessemer.train.pairs import PairsConfig, build_examples
from bessemer.train.prompt import join_context, prompt_messages, titled
from bessemer.train.report import CurvePoint, Measured, Progress, TrainReport, Trial, ignore_figures, ignore_progress
from bessemer.train.talks import Talk, read_talks

__all__ = [
    "CurvePoint",
    "LoraTrainer",
    "PairsConfig",
    "RowsConfig",
    "SftConfig",
    "Talk",
    "TrainReport",
    "Trial",
    "build_examples",
    "fine_tune",
    "join_context",
    "merge",
    "prompt_messages",
    "read_talks",
    "titled",
]


def fine_tune(
    base: Path,
    examples: Iterable[Example | Talk],
    out: Path,
    config: SftConfig,
    checkpoints: Checkpoints,
    progress: Progress = ignore_progress,
    measured: Measured = ignore_figures,
) -> TrainReport:
    """Return the report of a training run; `out` holds the adapter. See `bessemer.train.sft.fine_tune`.

    Raises:
        MissingDependency: torch, Transformers or PEFT is not installed.
    """
    try:
        from bessemer.train import sft
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return sft.fine_tune(base, examples, out, config, checkpoints, progress, measured)


class LoraTrainer:
    """Supervised LoRA fine-tuning as a `Trainer`.

    Args:
        config: how it is trained.
        progress: takes how far it is.
        measured: takes figures of each step.
    """

    name = "lora"
    capabilities = frozenset({"resume", "cpu", "cuda"})

    def __init__(
        self, config: SftConfig, progress: Progress = ignore_progress, measured: Measured = ignore_figures
    ) -> None:
        self.config, self.progress, self.measured = config, progress, measured

    def train(
        self, base: Path, examples: Iterable[Example | Talk], out: Path, checkpoints: Checkpoints, /
    ) -> TrainReport:
        """Return the report; after a kill, go on exactly at the latest checkpoint. See `fine_tune`."""
        return fine_tune(base, examples, out, self.config, checkpoints, self.progress, self.measured)


def merge(base: Path, adapter: Path, out: Path, *, name: str = "") -> ModelCard:
    """Return the card of base and adapter as one model folder. See `bessemer.train.merge.merge`.

    Raises:
        MissingDependency: torch, Transformers or PEFT is not installed.
    """
    try:
        from bessemer.train import merging
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return merging.merge(base, adapter, out, name=name)


def _missing(error: ModuleNotFoundError) -> Exception:
    """Return what to raise: a package that is not installed has an extra; a module of our own is a mistake."""
    name = (error.name or "").partition(".")[0]
    return error if name in ("", "bessemer") else MissingDependency(name, extra="train")
