"""The training state on disk: everything that the next step depends on, so that a resumed run is the same run.

Owns the checkpoint's layout. The learning rate and the batches are pure functions of the step, so they need no state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bessemer.core.errors import IntegrityError
from bessemer.core.protocols import Checkpoints

STATE_FILE = "state.pt"


@dataclass(slots=True)
class State:
    """Where a run stands.

    Attributes:
        identity: digest of base, rows and config: a checkpoint of another run is refused.
        step: optimiser steps done.
        tokens: tokens done, padding included.
        seconds: spent in steps, over all attempts.
        precision: chosen once, kept for the whole run.
        trial: tokens per second of (fp32, bf16) that the choice was made from.
        threads: of the processor; another number would sum in another order.
        heldout_before: loss on held-out rows before the first step, nats per token; None if there are none, or not yet
            measured (at step 0).
        curve: (loss, learning rate, tokens, seconds) of each step done.
        epochs: (step, train loss, held-out loss, adapter) at the end of each epoch whose adapter is kept.
    """

    identity: str
    precision: str
    trial: tuple[float, float]
    threads: int
    heldout_before: float | None
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    curve: list[tuple[float, float, int, float]] = field(default_factory=list)
    epochs: list[tuple[int, float, float | None, dict[str, torch.Tensor]]] = field(default_factory=list)


def save_state(
    checkpoints: Checkpoints, state: State, adapter: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Keep a state as the newest checkpoint; whole, or not at all."""
    facts = {name: getattr(state, name) for name in State.__slots__}
    content = {"facts": facts, "adapter": adapter, "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
    with checkpoints.save() as folder:
        torch.save(content, folder / STATE_FILE)


def load_state(folder: Path, identity: str) -> tuple[State, dict[str, Any]]:
    """Return the state in a checkpoint folder, and its tensors (adapter, optimizer, random).

    Raises:
        IntegrityError: it cannot be read, or is of another run.
    """
    try:
        content = torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
        state = State(**content.pop("facts"))
    except Exception as error:  # a torn pickle raises almost anything
        raise IntegrityError(f"the checkpoint {folder} cannot be read", hint="Delete it to train afresh.") from error
    if state.identity != identity:
        raise IntegrityError(
            f"the checkpoint {folder} belongs to another base, other examples or another configuration",
            hint="Delete it to train afresh.",
        )
    return state, content
