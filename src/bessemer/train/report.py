"""What a training run says about itself. Imports nothing heavy."""

from __future__ import annotations

from typing import Protocol

from bessemer.core.nouns import Noun
from bessemer.train.config import Precision


class Trial(Noun):
    """Which precision was chosen, and tokens per second of each that was tried (0 where it was not)."""

    precision: Precision
    fp32_tokens_per_second: float = 0.0
    bf16_tokens_per_second: float = 0.0


class CurvePoint(Noun):
    """One optimiser step, counted from 1.

    Attributes:
        loss: of the step's batch, nats, as it is minimised (see `sft.BY_SPAN`).
        tokens: done so far, padding included.
        seconds: spent in steps so far, over all attempts.
    """

    step: int
    loss: float
    learning_rate: float
    tokens: int
    seconds: float


class EpochEnd(Noun):
    """What an adapter was at the end of an epoch; it is kept in the folder `epoch_folder` of the run's output.

    Attributes:
        step: optimiser steps done then.
        train_loss: mean over the last tenth of them.
        heldout_loss: nats per learnt token on a few held-out rows; None without held-out rows.
    """

    step: int
    train_loss: float
    heldout_loss: float | None


def epoch_folder(step: int) -> str:
    """Return the name of the folder, within that of the adapter, that the adapter of an earlier epoch is kept in."""
    return f"epoch-step-{step}"


class TrainReport(Noun):
    """A finished run of fine-tuning.

    Attributes:
        steps: optimiser steps.
        rows: examples that could be learnt from.
        rows_too_long: questions left out because they do not fit `max_length_tokens`.
        tokens: trained on, padding included.
        learnt_tokens: of them, those that counted in the loss.
        read_tokens: of them, those that are no padding.
        seconds: spent in steps, over all attempts.
        train_loss: mean over the last tenth of the steps.
        heldout_loss_before: nats per learnt token on a few held-out rows, before; None without held-out rows.
        heldout_loss: the same, after.
        trial: the precision and why.
        peak_memory_bytes: of this process, or of the accelerator where one was used.
        epochs: the last ends of epochs before the end of the run, oldest first, whose adapters are kept.
    """

    steps: int
    rows: int
    rows_too_long: int
    tokens: int
    learnt_tokens: int
    seconds: float
    train_loss: float
    heldout_loss_before: float | None
    heldout_loss: float | None
    trial: Trial
    device: str
    threads: int
    trainable_parameters: int
    peak_memory_bytes: int
    curve: tuple[CurvePoint, ...]
    read_tokens: int = 0
    epochs: tuple[EpochEnd, ...] = ()

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on per second of steps, padding included."""
        return self.tokens / self.seconds if self.seconds else 0.0


class Progress(Protocol):
    """Takes how much is done of how much."""

    def __call__(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Report `done` of `total` units; `note` is a few words for people."""


class Measured(Protocol):
    """Takes named figures."""

    def __call__(self, **figures: float) -> None:
        """Report figures by name."""


def ignore_progress(done: float, total: float, unit: str, note: str = "") -> None:
    """Take a progress report and do nothing with it."""


def ignore_figures(**figures: float) -> None:
    """Take figures and do nothing with them."""
