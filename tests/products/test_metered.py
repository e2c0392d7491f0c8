"""No attempt's energy vanishes, whether it publishes, fails, is stopped, or is killed with the process that ran it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bessemer.core.nouns import EnergyClass, Entry
from bessemer.flow import open_store
from bessemer.meter import MeterConfig, open_ledger, open_meter

PROGRAM = """
import sys
from contextlib import closing
from pathlib import Path
from probe_steps import Count
from bessemer.flow import Flow, Runner, Step, open_store
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.metered import MeteredSink

root, function = Path(sys.argv[1]), sys.argv[2]
count = Count(name="slow", total=3, seconds=1.0 if function == "count" else 30.0)
flow = Flow("line", (Step("slow", f"probe_steps:{function}", count),))
with open_store(f"sqlite:///{root / 'flow.sqlite'}") as store:
    with open_meter(MeterConfig(sensors="model", sample_seconds=0.1), root / "books") as meter:
        meter.book_killed()
        sink = MeteredSink(lambda event: None, meter)
        runner = Runner(store, root / "artifacts", sink=sink, resources={"journal": str(root / "journal")})
        runner.run(runner.submit(flow))
"""


class Line:
    """A flow of one step, in a process of its own, and its books."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root, self._stack = root, stack

    def start(self, function: str = "count") -> subprocess.Popen[bytes]:
        """Begin; the step takes three seconds, or from its checkpoint on less."""
        command = [sys.executable, "-c", PROGRAM, str(self.root), function]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._stack.callback(lambda: (process.kill(), process.wait()))
        return process

    def under_way(self, attempts: int = 1) -> None:
        """Return when the step has run for a while."""
        journal, until = self.root / "journal", time.monotonic() + 60
        while time.monotonic() < until:
            if journal.exists() and journal.read_text().count(" start ") == attempts:
                time.sleep(1.0)  # so that it is noted a few times
                return
            time.sleep(0.02)
        raise AssertionError("the step never began")

    @property
    def run(self) -> str:
        """The id of the one run."""
        with open_store(f"sqlite:///{self.root / 'flow.sqlite'}") as store:
            (run,) = store.runs()
        return run.id

    def entries(self) -> list[Entry]:
        """Return the books, the oldest first."""
        ledger = open_ledger(self.root / "books")
        self._stack.callback(ledger.close)
        return ledger.entries(kind="step")[::-1]


@pytest.fixture
def line(tmp_path: Path, programs: Path) -> Iterator[Line]:
    with ExitStack() as stack:
        yield Line(tmp_path, stack)


def check(entry: Entry, run: str, attempt: int, seconds: float = 0.8) -> None:
    assert entry.subject.id == f"{run}/slow/{attempt}"
    assert (entry.subject.run, entry.subject.name) == (run, "slow")
    found = entry.measurement
    assert seconds <= found.seconds < 30
    assert 0 < found.joules_low <= found.joules <= found.joules_high
    assert entry.carbon.grams > 0
    assert entry.charge.micros == 0


@pytest.mark.parametrize("function", ["count", "stubborn"])
def test_an_attempt_that_is_stopped_is_booked_with_what_it_took(line: Line, function: str) -> None:
    """Ctrl-C: one step ends when it is told to, the other has to be killed."""
    process = line.start(function)
    line.under_way()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    (entry,) = line.entries()
    check(entry, line.run, attempt=1)
    assert (entry.status, entry.measurement.energy_class) == ("cancelled", EnergyClass.MODELLED)
    assert not list((line.root / "books" / "unfinished").iterdir())


def test_an_attempt_that_was_killed_with_its_process_is_booked_by_the_next(line: Line) -> None:
    process = line.start()
    line.under_way()
    with open_meter(MeterConfig(sensors="model"), line.root / "books") as meter:
        assert meter.book_killed() == [], "its process lives"
    process.kill()
    process.wait()
    assert line.entries() == []
    assert line.start().wait(60) == 0  # goes on at the checkpoint
    killed, done = line.entries()
    check(killed, line.run, attempt=1)
    assert (killed.status, killed.measurement.energy_class) == ("error", EnergyClass.ASSUMED)
    assert "without telling" in killed.measurement.source
    assert (done.status, done.subject.run, done.subject.name) == ("ok", line.run, "slow")
    assert not list((line.root / "books" / "unfinished").iterdir())
    with open_meter(MeterConfig(sensors="model"), line.root / "books") as meter:
        assert meter.book_killed() == [], "it is booked once"


def test_a_step_whose_process_crashed_has_its_processor_time_in_the_books(line: Line) -> None:
    process = line.start("stubborn")
    line.under_way()
    step = int((line.root / "journal").read_text().split()[2])
    os.kill(step, signal.SIGKILL)
    assert process.wait(30) == 0
    (entry,) = line.entries()
    check(entry, line.run, attempt=1)
    assert entry.status == "error"
