"""Work beside a gateway goes on after a turn that failed, whatever it failed of."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bessemer.products.watching import Shift


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
