"""What every trainer does: it learns from examples into a folder, and goes on exactly where a killed one stood."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Example
from bessemer.core.protocols import Trainer
from bessemer.flow.attempt import FolderCheckpoints, Stop
from bessemer.train import LoraTrainer, PairsConfig, SftConfig, build_examples

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "train" / "conftest.py")
assert _spec and _spec.loader
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


class Killed(BaseException):
    """The end of a process, as far as a trainer can tell."""


class Place(FolderCheckpoints):
    """Checkpoints of one attempt, which ends after a number of them."""

    def __init__(self, root: Path, fence: int, most: int = 1_000) -> None:
        super().__init__(root / "kept", root / f"attempt-{fence}", fence, Stop().check)
        self.saved, self.most = 0, most

    @contextmanager
    def save(self) -> Iterator[Path]:
        with super().save() as folder:
            yield folder
        self.saved += 1
        if self.saved == self.most:
            raise Killed


def lora() -> Trainer:
    return LoraTrainer(
        SftConfig(
            rank=4, batch_tokens=1500, max_tokens=9_000, epochs=3, checkpoint_steps=1, precision="fp32", threads=1
        )
    )


@pytest.fixture(params=[lora])
def fresh(request: pytest.FixtureRequest) -> Callable[[], Trainer]:
    """Return what makes the trainer again, as the next attempt would."""
    made: Callable[[], Trainer] = request.param
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = tiny.make_base(tmp_path_factory.mktemp("base"))
    return found


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    documents = [
        tiny.python_document(f"mod{m}", name, f"{name}(leaf, minutes=3)", f"Make {name} of module {m} happen now.")
        for m in range(12)
        for name in ("brew", "pour")
    ]
    return list(build_examples(documents, PairsConfig(train_questions=24, train_passages=8, context_characters=200)))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_a_trainer_whose_result_lies_in_the_folder(
    fresh: Callable[[], Trainer], base: Path, examples: list[Example], tmp_path: Path
) -> None:
    trainer, before = fresh(), content(base)
    assert isinstance(trainer, Trainer)
    trainer.train(base, iter(examples), tmp_path / "out", Place(tmp_path, 1))
    assert content(tmp_path / "out")
    assert content(base) == before, "the base stays as it was"


def test_killed_at_a_checkpoint_it_goes_on_there_and_ends_the_same(
    fresh: Callable[[], Trainer], base: Path, examples: list[Example], tmp_path: Path
) -> None:
    if "resume" not in fresh().capabilities:
        pytest.skip(f"{fresh().name} does not declare 'resume'")
    straight = Place(tmp_path / "straight", 1)
    fresh().train(base, examples, tmp_path / "whole", straight)
    assert straight.saved > 3
    first, second = Place(tmp_path, 1, most=3), Place(tmp_path, 2)
    with pytest.raises(Killed):
        fresh().train(base, examples, tmp_path / "halves", first)
    assert not (tmp_path / "halves").exists()
    fresh().train(base, examples, tmp_path / "halves", second)
    assert first.saved + second.saved == straight.saved, "no step was taken twice"
    assert content(tmp_path / "halves") == content(tmp_path / "whole")


def test_nothing_to_learn_from_is_refused(fresh: Callable[[], Trainer], base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        fresh().train(base, [], tmp_path / "out", Place(tmp_path, 1))
    assert not (tmp_path / "out").exists()
