"""The same loop on a GPU, where there is one: it learns there, and a cancelled run goes on there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bessemer.core.errors import Cancelled
from bessemer.core.nouns import Example
from bessemer.core.protocols import Checkpoints
from bessemer.train import SftConfig, fine_tune

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CONFIG = SftConfig(
    rank=4, alpha=8, batch_tokens=1500, max_tokens=14_000, epochs=3, checkpoint_steps=3, learning_rate=2e-2
)


def test_it_learns_on_the_gpu_and_goes_on_there(
    tiny_base: Path, examples: list[Example], tmp_path: Path, checkpoints: Checkpoints
) -> None:
    def stop(done: float, total: float, unit: str, note: str = "") -> None:
        if done > total / 2:
            raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        fine_tune(tiny_base, examples, tmp_path / "out", CONFIG, checkpoints, stop)
    seen: list[float] = []
    resumed = fine_tune(tiny_base, examples, tmp_path / "out", CONFIG, checkpoints, lambda done, *_: seen.append(done))
    assert resumed.device == "cuda"
    kept = [point.tokens for point in resumed.curve[CONFIG.checkpoint_steps - 1 :: CONFIG.checkpoint_steps]]
    assert seen[0] in kept, "it went on at a checkpoint, not at the beginning"
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert resumed.heldout_loss_before is not None and resumed.heldout_loss is not None
    assert resumed.heldout_loss < resumed.heldout_loss_before
    assert 0 < resumed.peak_memory_bytes < torch.cuda.get_device_properties(0).total_memory
