"""What every place for checkpoints does, so that a trainer may be given any of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bessemer.core.protocols import Checkpoints
from bessemer.flow.attempt import FolderCheckpoints, Stop

Open = Callable[[], Checkpoints]


@pytest.fixture(params=["flow"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return what opens the same place again, as the next attempt would."""
    fences = iter(range(1, 100))

    def flow() -> Checkpoints:
        fence = next(fences)
        return FolderCheckpoints(tmp_path / "kept", tmp_path / f"attempt-{fence}", fence, Stop().check)

    return {"flow": flow}[request.param]


def write(checkpoints: Checkpoints, word: str) -> None:
    with checkpoints.save() as folder:
        assert not list(folder.iterdir())
        (folder / "word").write_text(word)


def read(checkpoints: Checkpoints) -> str:
    latest = checkpoints.latest()
    return (latest / "word").read_text() if latest else ""


def test_a_fresh_place_has_none(reopen: Open) -> None:
    assert isinstance(reopen(), Checkpoints)
    assert reopen().latest() is None


def test_the_newest_whole_one_is_the_latest(reopen: Open) -> None:
    checkpoints = reopen()
    for word in ("one", "two", "three"):
        write(checkpoints, word)
        assert read(checkpoints) == word
    assert read(reopen()) == "three"


def test_what_was_not_finished_is_never_seen(reopen: Open) -> None:
    checkpoints = reopen()
    write(checkpoints, "whole")
    with suppress(ZeroDivisionError), checkpoints.save() as folder:
        (folder / "word").write_text("torn")
        raise ZeroDivisionError
    assert read(checkpoints) == "whole"
    write(checkpoints, "next")
    assert read(reopen()) == "next"


def test_the_latest_attempt_wins(reopen: Open) -> None:
    older, newer = reopen(), reopen()
    write(older, "older")
    assert read(newer) == "older"
    write(newer, "newer")
    with suppress(Exception):  # it may be refused, and must not be seen
        write(older, "late")
    assert read(newer) == "newer"
