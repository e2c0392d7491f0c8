"""The loop learns, reports honestly, and a run that was killed ends bitwise like one that was not."""

import hashlib
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from bessemer.core.errors import BackendError, Cancelled, ConfigError, IntegrityError
from bessemer.core.nouns import Example
from bessemer.core.protocols import Checkpoints, Trainer
from bessemer.train import LoraTrainer, RowsConfig, SftConfig, fine_tune
from bessemer.train.report import Trial, epoch_folder
from bessemer.train.sft import learning_rate_at
from bessemer.train.state import load_state

CONFIG = SftConfig(
    rank=4,
    alpha=8,
    batch_tokens=1500,
    max_tokens=14_000,
    epochs=3,
    checkpoint_steps=3,
    learning_rate=2e-2,
    precision="fp32",
    threads=1,
)


def digest_of(adapter: Path) -> str:
    files = sorted(path for path in adapter.rglob("*") if path.is_file())
    told = (str(file.relative_to(adapter)).encode() + file.read_bytes() for file in files)
    return hashlib.sha256(b"".join(told)).hexdigest()


def test_it_learns_and_says_so(
    tiny_base: Path, examples: list[Example], tmp_path: Path, checkpoints: Checkpoints
) -> None:
    seen: list[tuple[float, float, str]] = []
    figures: list[dict[str, float]] = []
    trainer = LoraTrainer(
        CONFIG,
        lambda done, total, unit, note="": seen.append((done, total, unit)),
        lambda **named: figures.append(named),
    )
    assert isinstance(trainer, Trainer)
    report = trainer.train(tiny_base, examples, tmp_path / "out", checkpoints)
    assert report.heldout_loss_before is not None and report.heldout_loss is not None
    assert report.heldout_loss < report.heldout_loss_before - 0.1
    assert {(total, unit) for _, total, unit in seen} == {(report.tokens, "tokens")}
    assert seen[0][0] == 0 and seen[-1][0] == report.tokens <= CONFIG.max_tokens
    assert [point.step for point in report.curve] == list(range(1, report.steps + 1))
    assert [f["loss"] for f in figures] == [point.loss for point in report.curve]
    assert report.tokens_per_second == pytest.approx(report.tokens / report.seconds)
    assert report.curve[0].loss > report.train_loss
    assert report.peak_memory_bytes > 50e6
    assert sorted(file.name for file in (tmp_path / "out").iterdir() if file.is_file()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert str(tiny_base) not in (tmp_path / "out" / "adapter_config.json").read_text()


@pytest.mark.slow
def test_killed_and_resumed_is_bitwise_the_same(
    tiny_base: Path, examples: list[Example], tmp_path: Path, trainee: ModuleType
) -> None:
    config = CONFIG.model_copy(update={"precision": "auto"})  # the trial must not disturb what follows
    whole, halves, kept = tmp_path / "whole", tmp_path / "halves", tmp_path / "kept"
    (tmp_path / "rows.jsonl").write_text("\n".join(example.model_dump_json() for example in examples))
    (tmp_path / "config.json").write_text(config.model_dump_json())
    arguments = [tiny_base, tmp_path / "rows.jsonl", halves, kept, tmp_path / "config.json", 5]
    child = subprocess.run([sys.executable, trainee.__file__, *map(str, arguments)], check=False)
    assert child.returncode == -signal.SIGKILL and not halves.exists()
    done: list[float] = []
    resumed = fine_tune(
        tiny_base,
        examples,
        halves,
        config,
        trainee.FolderCheckpoints(kept),
        lambda done_, total, unit, note="": done.append(done_),
    )
    straight = fine_tune(tiny_base, examples, whole, config, trainee.FolderCheckpoints(tmp_path / "other"))
    assert done[0] == straight.curve[2].tokens, "it goes on at the checkpoint after step 3"
    assert digest_of(halves) == digest_of(whole)
    assert [point.loss for point in resumed.curve] == [point.loss for point in straight.curve]
    assert resumed.heldout_loss == straight.heldout_loss


def test_the_precision_of_a_timed_trial_is_kept_when_killed_right_after_it(
    tiny_base: Path,
    examples: list[Example],
    tmp_path: Path,
    checkpoints: Checkpoints,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(_: object) -> None:
        raise Cancelled("asked to stop")

    config = CONFIG.model_copy(update={"precision": "auto"})
    found = Trial(precision="bf16", fp32_tokens_per_second=1.0, bf16_tokens_per_second=2.0)
    monkeypatch.setattr("bessemer.train.sft.choose_precision", lambda *_: found)
    with monkeypatch.context() as patched, pytest.raises(Cancelled):
        patched.setattr("bessemer.train.sft._Run.heldout_loss", die)  # the first thing after the trial
        fine_tune(tiny_base, examples, tmp_path / "out", config, checkpoints)
    monkeypatch.setattr(
        "bessemer.train.sft.choose_precision", lambda *_: pytest.fail("the trial was made a second time")
    )
    resumed = fine_tune(tiny_base, examples, tmp_path / "out", config, checkpoints)
    assert resumed.trial == found
    assert resumed.heldout_loss_before is not None, "what the kill cut off was made up for"


def test_the_adapters_of_the_last_epochs_are_kept_also_by_a_resumed_run(
    tiny_base: Path, examples: list[Example], tmp_path: Path, trainee: ModuleType
) -> None:
    config = RowsConfig(rank=4, batch_rows=3, epochs=5, checkpoint_steps=1, learning_rate=2e-2, precision="fp32")
    few = [e for e in examples if e.split == "train"][:8] + [e for e in examples if e.split == "heldout"][:2]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    straight = fine_tune(tiny_base, few, whole, config, trainee.FolderCheckpoints(tmp_path / "states"))
    epoch = straight.steps // 5
    assert straight.steps == 5 * epoch and epoch > 1
    kept = [3 * epoch, 4 * epoch]
    assert [end.step for end in straight.epochs] == kept, "the last of three is the adapter itself"
    assert sorted(path.name for path in whole.iterdir() if path.is_dir()) == sorted(map(epoch_folder, kept))
    for end in straight.epochs:
        state, tensors = load_state(tmp_path / "states" / f"{end.step:06d}", _identity(tmp_path / "states"))
        adapter = load_file(whole / epoch_folder(end.step) / "adapter_model.safetensors")
        assert state.step == end.step
        assert adapter.keys() == tensors["adapter"].keys()
        assert all(torch.equal(adapter[name], tensors["adapter"][name]) for name in adapter)
        last = [point.loss for point in straight.curve[: end.step]][-max(1, end.step // 10) :]
        assert end.train_loss == pytest.approx(sum(last) / len(last))
    assert straight.heldout_loss_before is not None
    heldout = [straight.heldout_loss_before, *(end.heldout_loss for end in straight.epochs), straight.heldout_loss]
    assert len(set(heldout)) == 4, "each was measured at its own moment"

    def stop(**figures: float) -> None:
        if figures["step"] == 3 * epoch + 2:
            raise Cancelled("asked to stop")

    states = trainee.FolderCheckpoints(tmp_path / "others")
    sparse = config.model_copy(update={"checkpoint_steps": 3 * epoch + 1})  # the first of both is in the state
    with pytest.raises(Cancelled):
        fine_tune(tiny_base, few, halves, sparse, states, measured=stop)
    resumed = fine_tune(tiny_base, few, halves, sparse, states)
    assert digest_of(halves) == digest_of(whole)
    assert resumed.epochs == straight.epochs


def _identity(states: Path) -> str:
    content = torch.load(states / "000000" / "state.pt", weights_only=True)
    return str(content["facts"]["identity"])


def test_cancelled_between_steps_leaves_no_result(
    tiny_base: Path, examples: list[Example], tmp_path: Path, checkpoints: Checkpoints
) -> None:
    def stop(done: float, total: float, unit: str, note: str = "") -> None:
        if done > total / 2:
            raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        fine_tune(tiny_base, examples, tmp_path / "out", CONFIG, checkpoints, stop)
    assert checkpoints.latest() is not None
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_run_is_refused(
    tiny_base: Path, examples: list[Example], tmp_path: Path, checkpoints: Checkpoints
) -> None:
    fine_tune(tiny_base, examples, tmp_path / "out", CONFIG, checkpoints)
    other = CONFIG.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(IntegrityError, match="another"):
        fine_tune(tiny_base, examples, tmp_path / "out", other, checkpoints)
    latest = checkpoints.latest()
    assert latest
    (latest / "state.pt").write_bytes(b"torn")
    with pytest.raises(IntegrityError, match="cannot be read"):
        fine_tune(tiny_base, examples, tmp_path / "out", CONFIG, checkpoints)


def test_nothing_to_learn_from(
    tiny_base: Path, examples: list[Example], tmp_path: Path, checkpoints: Checkpoints
) -> None:
    heldout = [example for example in examples if example.split == "heldout"]
    with pytest.raises(ConfigError, match="no example"):
        fine_tune(tiny_base, heldout, tmp_path / "out", CONFIG, checkpoints)


def test_a_loss_that_is_no_number_ends_the_run(
    tiny_base: Path, examples: list[Example], tmp_path: Path, checkpoints: Checkpoints
) -> None:
    broken = tmp_path / "base"
    broken.mkdir()
    for file in tiny_base.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], math.nan)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match="nan at step 1") as caught:
        fine_tune(broken, examples, tmp_path / "out", CONFIG, checkpoints)
    assert isinstance(caught.value.__cause__, FloatingPointError)
    assert "learning_rate" in caught.value.hint


def test_the_learning_rate_rises_and_falls() -> None:
    config = SftConfig(learning_rate=1.0, warmup_ratio=0.25)
    rates = [learning_rate_at(step, 40, config) for step in range(40)]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top]) and rates[top + 1 :] == sorted(rates[top + 1 :], reverse=True)
    assert (rates[top], 0 < rates[-1] < 0.01) == (1.0, True)


def test_training_is_light_to_import() -> None:
    code = (
        "import sys, bessemer.train, bessemer.models; bessemer.train.SftConfig();"
        "print([m for m in ('torch', 'transformers', 'peft', 'numpy', 'gguf') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(found.stdout.replace("'", '"')) == []
