"""Runs of `flow` in a thread beside a gateway: they yield to its answers, and end when somebody says so.

Owns that. Knows no product and no job.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bessemer.flow import Runner, RunResult
from bessemer.meter import LocalMeter

NICENESS = 10
"""Of training, so that answers come first. Source: nice(2); 0 is the gateway's own."""
_LOOK_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Beside:
    """A gateway beside which some of a factory's products are made.

    Attributes:
        meter: the gateway's, which books what that takes.
        only: the products; they are made of tables, and of nothing else that is made here.
        unwanted: says when to stop.
    """

    meter: LocalMeter
    only: tuple[str, ...]
    unwanted: Callable[[], bool]


def yield_to_answers() -> None:
    """Let this thread, and the processes that it starts, have what answers leave of the processor."""
    if sys.platform == "linux":  # there, niceness is a thread's own, and its children have it too
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def run_watched(runner: Runner, run: str, unwanted: Callable[[], bool]) -> RunResult:
    """Return how a run ended; it is cancelled when it is not wanted any more."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            if unwanted():
                runner.cancel(run)
                return

    watcher = threading.Thread(target=watch, name="watching a run", daemon=True)
    watcher.start()
    try:
        return runner.run(run)
    finally:
        ended.set()
        watcher.join()


def locked(path: Path) -> BinaryIO | None:
    """Return a file that nobody else holds, or None; it is let go of when it is closed or the process dies."""
    file = path.open("ab")
    path.chmod(0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
