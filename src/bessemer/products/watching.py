"""What works beside a gateway: in a thread of its own, one of several gateways at a time, after answers; runs that end
when somebody says so, and what they are charged for, booked once.

Owns that. Knows no product and no kind of job.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bessemer.core.errors import BessemerError, NotFound
from bessemer.core.nouns import Subject, Usage
from bessemer.flow import Runner, RunResult
from bessemer.meter import LocalMeter, open_ledger
from bessemer.products.home import Home

logger = logging.getLogger("bessemer.products")

NICENESS = 10
"""Of training, so that answers come first. Source: nice(2); 0 is the gateway's own."""
_LOOK_SECONDS = 0.3
_PATIENCE_SECONDS = 10.0
"""After a turn that failed, such as on a full disk: it is taken again, and the log is not filled."""


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
            try:
                if unwanted():
                    runner.cancel(run)
                    return
            except BessemerError as error:  # of a database that is away: it is there again before the run is over
                logger.warning("whether a run is wanted is asked again: %s", error.code)

    watcher = threading.Thread(target=watch, name="watching a run", daemon=True)
    watcher.start()
    try:
        return runner.run(run)
    finally:
        ended.set()
        watcher.join()


class Shift:
    """Works in a thread, until it is closed, at what one of several gateways on a home does: who holds the lock.

    Args:
        name: of the work.
        lock: which the kernel takes from the dead.
        pause_seconds: between two looks for something to do.

    Attributes:
        patience_seconds: until a turn is taken again that failed.
    """

    patience_seconds = _PATIENCE_SECONDS

    def __init__(self, name: str, lock: Path, pause_seconds: float) -> None:
        self._name, self._path, self._pause = name, lock, pause_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take no further turn; wait for nothing."""
        self._stop.set()

    def close(self) -> None:
        """Stop; what is under way is gone on with by the next."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(30)

    def first(self) -> None:
        """Do what is to be done when the lock was got: nothing."""

    def turn(self) -> bool:
        """Do the next thing to its end; return whether there was one."""
        raise NotImplementedError

    def _run(self) -> None:
        yield_to_answers()
        lock: BinaryIO | None = None
        begun = False
        while not self._stop.is_set():
            try:
                lock = lock or locked(self._path)
                if lock and not begun:
                    self.first()
                    begun = True
                busy = self.turn() if lock else False
            except Exception:  # neither a full disk nor a mistake of ours may end the thread that works on all of them
                logger.exception("no turn could be taken at %s", self._name)
                self._stop.wait(self.patience_seconds)
                continue
            if not busy:
                self._stop.wait(self._pause)
        if lock:
            lock.close()


def booked_once(parts: tuple[Home, LocalMeter], subject: Subject, usage: Usage) -> int:
    """Book what a job is charged for, unless it was before, and return the charge in millionths."""
    home, meter = parts
    with closing(open_ledger(home.books, home.ledger_url)) as ledger:
        ledger.sync()
        with suppress(NotFound):
            return ledger.entry(f"{subject.kind}:{subject.id}").charge.micros
    return meter.stop(meter.start(subject), usage).charge.micros


def sentence(message: str, hint: str) -> str:
    """Return what a job's client is told of an error."""
    return f"{message}. {hint}".strip() if hint else message


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
