"""Work beside a gateway goes on after a turn that failed, whatever it failed of."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bessemer.core.errors import BackendError
from bessemer.products.watching import Shift, run_watched


class Failing(Shift):
    """Its beginning fails once and its first turn does; the next ones are told."""

    patience_seconds = 0.01

    def __init__(self, lock: Path, error: Exception) -> None:
        super().__init__("failing", lock, 0.01)
        self.error, self.begun, self.turns, self.went_on = error, 0, 0, threading.Event()

    def first(self) -> None:
        self.begun += 1
        if self.begun == 1:
            raise self.error

    def turn(self) -> bool:
        self.turns += 1
        if self.turns == 1:
            raise self.error
        self.went_on.set()
        return False


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("a mistake of ours")])
def test_a_full_disk_does_not_end_the_work(tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    shift = Failing(tmp_path / "lock", error)
    shift.start()
    try:
        assert shift.went_on.wait(10)
        assert shift.begun == 2, "what is to be done first is done before any turn"
    finally:
        shift.close()
    assert caplog.text.count("no turn could be taken at failing") == 2


def test_a_run_can_be_ended_after_a_look_that_failed() -> None:
    """Else, once the database was away for a moment, nobody could end a training that nobody wants."""
    ended, looks = threading.Event(), 0

    def unwanted() -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise BackendError("the database is away")
        return True

    def run(id: str) -> bool:
        return ended.wait(10)

    runner: Any = SimpleNamespace(run=run, cancel=lambda id: ended.set())
    assert run_watched(runner, "1", unwanted)
    assert looks == 2
