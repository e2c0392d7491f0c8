"""Supervised fine-tuning with LoRA: a short loop that can be killed at any moment and goes on exactly where it was.

Owns the loop, the schedule and the report. Tokens and batches come from `rows`, the loss from `network`, the
checkpoint's layout from `state`. Knows no flow, no lake, no gate.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from bessemer.core.digest import digest
from bessemer.core.errors import BackendError, ConfigError
from bessemer.core.nouns import Example
from bessemer.core.protocols import Checkpoints
from bessemer.train.config import SftConfig
from bessemer.train.network import Network
from bessemer.train.precision import choose_precision
from bessemer.train.report import CurvePoint, EpochEnd, Measured, Progress, TrainReport, Trial, epoch_folder
from bessemer.train.rows import Batch, Row, epoch_ends, make_rows, padded, plan_batches
from bessemer.train.state import State, load_state, save_state
from bessemer.train.talks import Talk

BY_SPAN = 0.5
"""Between the mean over tokens, in which passages drown the answers, and that over spans, which does the reverse."""
CLIP_NORM = 1.0
HELDOUT_ROWS = 24
KEPT_EPOCHS = 3
"""Ends of epochs that are kept, the end of the run included. Source: what OpenAI keeps of a fine-tuning job."""


def fine_tune(
    base: Path,
    examples: Iterable[Example | Talk],
    out: Path,
    config: SftConfig,
    checkpoints: Checkpoints,
    progress: Progress,
    measured: Measured,
) -> TrainReport:
    """Return the report of a training run; `out` holds the adapter as PEFT reads it, and those of the last epochs.

    Killed and called again with the same arguments and checkpoints, it gives bitwise the same adapter on a processor
    as a run that was never interrupted.

    Args:
        base: a Hugging Face folder.
        examples: those of the split ``train`` are learnt; a few of ``heldout`` only measure the loss.
        out: folder of the adapter.
        config: what to do.
        checkpoints: where the state is kept.
        progress: called after each step with tokens done and planned; what it raises ends the run.
        measured: called after each step with step (from 1), loss, learning_rate and tokens_per_second.

    Raises:
        ConfigError: there is nothing to learn from.
        BackendError: the loss is not a number any more.
        IntegrityError: the newest checkpoint is damaged or of another run.
    """
    run = _Run(base, list(examples), config, checkpoints)
    run.resume_or_begin()
    run.train(progress, measured)
    run.save(out)
    return run.report()


class _Run:
    """One call of `fine_tune`: network, plan and state together."""

    def __init__(
        self, base: Path, examples: Sequence[Example | Talk], config: SftConfig, checkpoints: Checkpoints
    ) -> None:
        self.config, self.checkpoints = config, checkpoints
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = Network(base, config, device)
        length = config.max_length_tokens
        tokenizer = self.network.tokenizer
        self.rows, self.too_long = make_rows((e for e in examples if e.split == "train"), tokenizer, length)
        heldout = [example for example in examples if example.split == "heldout"]
        spread = heldout[:: max(1, len(heldout) // HELDOUT_ROWS)][:HELDOUT_ROWS]
        self.heldout, _ = make_rows(spread, tokenizer, length)
        if not self.rows:
            raise ConfigError(
                "there is no example to learn from",
                hint="Check that documents were kept, that rules apply to them, and max_length_tokens.",
            )
        self.batches = plan_batches(self.rows, config)
        ends = [step for step in epoch_ends(self.batches, len(self.rows)) if step < len(self.batches)]
        self.kept = frozenset(ends[1 - KEPT_EPOCHS :])
        self.total_tokens = sum(padded(self.rows, batch) for batch in self.batches)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.0, weight_decay=0.0)
        self.identity = digest((config, _weights(base), [(row.tokens, row.spans) for row in self.rows]))
        self.state: State

    def resume_or_begin(self) -> None:
        """Load the newest checkpoint, or choose the precision and start at step 0."""
        folder = self.checkpoints.latest()
        if folder is None:
            if self.config.threads:
                torch.set_num_threads(self.config.threads)
            trial = self._trial()
            self.network.precision = trial.precision
            speeds = (trial.fp32_tokens_per_second, trial.bf16_tokens_per_second)
            self.state = State(self.identity, trial.precision, speeds, torch.get_num_threads(), heldout_before=None)
            torch.manual_seed(self.config.seed)
            # At once: the trial is timed, and made again after a kill it might choose another precision.
            save_state(self.checkpoints, self.state, self.network.adapter(), self.optimizer)
        else:
            self.state, tensors = load_state(folder, self.identity)
            torch.set_num_threads(self.state.threads)
            self.network.precision = "bf16" if self.state.precision == "bf16" else "fp32"
            self.network.set_adapter(tensors["adapter"])
            self.optimizer.load_state_dict(tensors["optimizer"])
            torch.set_rng_state(tensors["random"])
        if not self.state.step:
            self.state.heldout_before = self.heldout_loss()

    def train(self, progress: Progress, measured: Measured, clock: Callable[[], float] = time.perf_counter) -> None:
        """Take the steps that are left."""
        state = self.state
        progress(state.tokens, self.total_tokens, "tokens", "resumed" if state.step else "")
        while state.step < len(self.batches):
            started, batch = clock(), self.batches[state.step]
            rate = learning_rate_at(state.step, len(self.batches), self.config)
            loss = self._step(batch, rate)
            tokens = padded(self.rows, batch)
            seconds = clock() - started
            state.step, state.tokens, state.seconds = state.step + 1, state.tokens + tokens, state.seconds + seconds
            state.curve.append((loss, rate, state.tokens, state.seconds))
            measured(step=state.step, loss=loss, learning_rate=rate, tokens_per_second=tokens / seconds)
            if state.step in self.kept:
                state.epochs.append((state.step, self._train_loss(), self.heldout_loss(), self.network.adapter()))
            if state.step % self.config.checkpoint_steps == 0 and state.step < len(self.batches):
                save_state(self.checkpoints, state, self.network.adapter(), self.optimizer)
            progress(state.tokens, self.total_tokens, "tokens", f"loss {loss:.2f}")

    def save(self, out: Path) -> None:
        """Write the adapter, and beside it those at the ends of the last epochs."""
        self.network.save_adapter(out)
        for step, _, _, adapter in self.state.epochs:
            self.network.save_adapter(out / epoch_folder(step), adapter)

    def heldout_loss(self) -> float | None:
        """Return the mean loss on a few held-out rows, nats per token; None if there are none."""
        if not self.heldout:
            return None
        with torch.no_grad():
            losses = [float(self.network.loss([row], by_span=0.0)) * row.learnt for row in self.heldout]
        return sum(losses) / sum(row.learnt for row in self.heldout)

    def report(self) -> TrainReport:
        """Return what happened, over all attempts."""
        state = self.state
        curve = tuple(
            CurvePoint(step=step, loss=loss, learning_rate=rate, tokens=tokens, seconds=seconds)
            for step, (loss, rate, tokens, seconds) in enumerate(state.curve, start=1)
        )
        fp32, bf16 = state.trial
        return TrainReport(
            steps=state.step,
            rows=len(self.rows),
            rows_too_long=self.too_long,
            tokens=state.tokens,
            learnt_tokens=sum(self.rows[index].learnt for batch in self.batches for index in batch),
            seconds=state.seconds,
            train_loss=self._train_loss(),
            heldout_loss_before=state.heldout_before,
            heldout_loss=self.heldout_loss(),
            trial=Trial(precision=self.network.precision, fp32_tokens_per_second=fp32, bf16_tokens_per_second=bf16),
            device=self.network.device.type,
            threads=state.threads,
            trainable_parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            peak_memory_bytes=_peak_memory_bytes(self.network.device),
            curve=curve,
            read_tokens=sum(len(self.rows[index].tokens) for batch in self.batches for index in batch),
            epochs=tuple(
                EpochEnd(step=step, train_loss=loss, heldout_loss=heldout) for step, loss, heldout, _ in state.epochs
            ),
        )

    def _train_loss(self) -> float:
        """Return the mean loss over the last tenth of the steps done."""
        last = [loss for loss, *_ in self.state.curve[-max(1, len(self.state.curve) // 10) :]]
        return sum(last) / len(last)

    def _trial(self) -> Trial:
        if self.config.precision != "auto":
            return Trial(precision=self.config.precision)
        return choose_precision(self.network, self.rows, BY_SPAN)

    def _step(self, batch: Batch, rate: float) -> float:
        """Take one optimiser step; return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows: list[Row] = [self.rows[index] for index in batch]
        loss = self.network.loss(rows, by_span=BY_SPAN)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise BackendError(
                f"the training loss became {value} at step {self.state.step + 1}",
                hint="Lower learning_rate, or set precision: fp32.",
            ) from FloatingPointError(str(value))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value


def learning_rate_at(step: int, steps: int, config: SftConfig) -> float:
    """Return the learning rate of a step (from 0): a linear rise, then a half cosine that would reach zero at the end.

    >>> [round(learning_rate_at(s, 10, SftConfig(learning_rate=1.0, warmup_ratio=0.2)), 2) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    warm = math.ceil(steps * config.warmup_ratio)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _weights(base: Path) -> str:
    """Return what tells one base folder from another: its card's digest of the weights, or the files' sizes."""
    card = base / "card.json"
    if card.is_file():
        return digest(card.read_text(encoding="utf-8"))
    return digest(sorted((file.name, file.stat().st_size) for file in base.glob("*.safetensors")))


def _peak_memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
