"""kill -9, SIGSTOP and the polite signals, at any moment, of the coordinator or of the step's process."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from bessemer.core import events
from bessemer.flow import Flow


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z" if stat.parent.parent.exists() else _signal(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _signal(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def counting(step, total=30, seconds=0.02):
    return Flow("counting", (step("count", "count", total=total, seconds=seconds), step("after", needs=("count",))))


def assert_counted_once(bench, total, kills):
    """Nothing is counted again but the number that was under way at each kill."""
    counted = [int(line[3]) for line in bench.journal("count", "count")]
    assert sorted(set(counted)) == list(range(1, total + 1))
    assert len(counted) <= total + kills
    assert len(bench.store.folders()[1]) == 2
    assert len(list((bench.root / "artifacts" / "published").iterdir())) == 2
    assert not list((bench.root / "artifacts" / "checkpoints").iterdir())


def test_after_kill_9_of_the_coordinator_a_restart_goes_on_at_the_checkpoint(bench, step):
    run = bench.store.submit(counting(step))
    first = bench.coordinator(run, lease_seconds=60)
    time.sleep(random.random() / 2)
    bench.until(lambda: len(bench.journal("count", "count")) >= random.randint(2, 10))
    first.kill()
    first.wait()
    child = int(bench.journal("count", "start")[0][2])
    bench.until(lambda: not alive(child), 20)
    began = time.monotonic()
    result = bench.runner("inline", lease_seconds=60).run(run)
    assert result.status == "finished" and result.artifacts["after"].meta == {"value": 30}
    assert time.monotonic() - began < 45, "a restart need not wait for the lease of a coordinator that is dead"
    assert int(bench.journal("count", "start")[1][3]) > 0
    assert_counted_once(bench, 30, kills=1)


def test_after_kill_9_of_the_step_a_restart_goes_on_at_the_checkpoint(bench, step):
    runner, killed = bench.runner("process"), []

    def kill(event):
        bench.events.append(event)
        if isinstance(event, events.Progress) and event.done >= 5 and not killed:
            killed.append(int(bench.journal("count", "start")[0][2]))
            os.kill(killed[0], signal.SIGKILL)

    object.__setattr__(runner._site, "sink", kill)
    result = runner.run(runner.submit(counting(step)))
    assert result.status == "failed" and "killed by SIGKILL" in result.error and "checkpoint" in result.hint
    assert bench.run(counting(step)).status == "finished"
    assert int(bench.journal("count", "start")[1][3]) >= 5
    assert_counted_once(bench, 30, kills=1)


def test_a_standby_takes_over_when_the_lease_lapses_and_the_stalled_one_cannot_overwrite(bench, step):
    """The stalled step never asks whether it may go on, and finishes after the other has published."""
    flow = Flow("stall", (step("slow", "stubborn", seconds=1.5),))
    run = bench.store.submit(flow)
    stalled = bench.coordinator(run, lease_seconds=0.6)
    bench.until(lambda: bench.journal("slow", "start"))
    bench.stall(stalled.pid)
    child = int(bench.journal("slow", "start")[0][2])
    os.kill(child, signal.SIGSTOP)
    result = bench.runner("inline", lease_seconds=0.6).run(run)
    published = Path(result.artifacts["slow"].path)
    assert result.status == "finished" and len(bench.journal("slow", "start")) == 2
    before = (published / "by").read_text()
    os.kill(child, signal.SIGCONT)
    os.kill(stalled.pid, signal.SIGCONT)
    assert stalled.wait(60) == 0
    assert not alive(child)
    assert (published / "by").read_text() == before == result.artifacts["slow"].meta["by"]
    bench.runner().verify(result.artifacts["slow"].key)
    assert len(list(published.parent.iterdir())) == 1
    assert not list((bench.root / "artifacts" / "attempts").iterdir())


def test_a_stalled_coordinator_whose_step_went_on_publishes_nothing_afterwards(bench, step):
    """Only the coordinator stalls: its child completes, and its result comes too late."""
    run = bench.store.submit(Flow("stall", (step("slow", "stubborn", seconds=1.5),)))
    stalled = bench.coordinator(run, lease_seconds=0.5)
    bench.until(lambda: bench.journal("slow", "start"))
    bench.stall(stalled.pid)
    bench.until(lambda: bench.journal("slow", "end"))
    standby = bench.coordinator(run, lease_seconds=30)
    bench.until(lambda: len(bench.journal("slow", "start")) == 2)
    os.kill(stalled.pid, signal.SIGCONT)
    assert standby.wait(60) == 0 and stalled.wait(20) == 0
    result = bench.runner().run(run)
    assert result.artifacts["slow"].path.endswith("-2")
    assert result.artifacts["slow"].meta["by"] == bench.journal("slow", "start")[1][3]
    bench.runner().verify(result.artifacts["slow"].key)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 3), (signal.SIGINT, 4)])
def test_a_polite_signal_stops_the_step_and_the_run_goes_on_later(bench, step, number, status):
    run = bench.store.submit(counting(step))
    coordinator = bench.coordinator(run, lease_seconds=60)
    bench.until(lambda: len(bench.journal("count", "count")) >= 3)
    coordinator.send_signal(number)
    assert coordinator.wait(60) == status
    assert not alive(int(bench.journal("count", "start")[0][2]))
    assert bench.store.run(run).status == "running" and bench.store.owners() == []
    assert bench.runner().run(run).status == "finished"
    assert_counted_once(bench, 30, kills=1)


@pytest.mark.parametrize("victim", ["coordinator", "step"])
def test_a_step_ends_with_its_coordinator_and_its_children_end_with_it(bench, step, victim):
    """A killed coordinator takes the step's process along; a killed step's own children are ended for it."""
    run = bench.store.submit(Flow("f", (step("orphan", "orphan"),)))
    coordinator = bench.coordinator(run)
    ((_, child, grandchild),) = bench.until(lambda: bench.journal("orphan"))
    os.kill(coordinator.pid if victim == "coordinator" else int(child), signal.SIGKILL)
    bench.until(lambda: not alive(int(child)), 20)
    if victim == "step":
        assert coordinator.wait(60) == 1
        assert not alive(int(grandchild))
    else:
        os.kill(int(grandchild), signal.SIGKILL)
