"""Under load, coordinators and steps are killed and stalled at random; then it is counted what was published."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bessemer.flow import Flow, Runner, RunnerConfig, Step, open_store

COORDINATORS, BLOWS, LIMIT_SECONDS = 2, 7, 120.0
ROUTINE = {"retries": 1000, "backoff_seconds": 0.05}


def flows():
    """Return three flows that share their first step; each ends in a step that two long ones feed."""
    from probe_steps import Count, Work

    source = Step("source", "probe_steps:work", Work(name="source", value=1), **ROUTINE)
    made = []
    for number in range(3):
        # the first flow's second branch is the same work as the second flow's first
        pair = [
            Step(
                name,
                "probe_steps:count",
                Count(name=f"count{shift}", total=16 + shift, seconds=0.03),
                ("source",),
                **ROUTINE,
            )
            for name, shift in (("left", number), ("right", number + 1))
        ]
        join = Step("join", "probe_steps:work", Work(name=f"join{number}"), ("left", "right"), **ROUTINE)
        made.append(Flow(f"flow{number}", (source, *pair, join)))
    return made


class Arena:
    """The coordinators, and what is done to them."""

    def __init__(self, url, root, programs, seed):
        self.random = random.Random(seed)
        self.journal, self.stalled = root / "journal", []
        program = [sys.executable, str(programs / "coordinate.py"), url, str(root), "*", "1.0", "2"]
        self._start = lambda: subprocess.Popen(program)
        self.coordinators = [self._start() for _ in range(COORDINATORS)]

    def lines(self):
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def blow(self):
        """Kill or stall somebody, chosen at random, at a random moment."""
        time.sleep(self.random.uniform(0, 0.3))
        index = self.random.randrange(COORDINATORS)
        what = self.random.choice(["kill", "kill", "stall", "step", "step"])
        if what == "step":
            started = [int(line.split()[2]) for line in self.lines() if line.split()[1] == "start"]
            with contextlib.suppress(ProcessLookupError):
                if is_step(started[-1]):
                    os.kill(started[-1], signal.SIGKILL)
        elif what == "kill":
            self.coordinators[index].kill()
            self.coordinators[index].wait()
            self.coordinators[index] = self._start()
        elif not self.stalled:
            self.coordinators[index].send_signal(signal.SIGSTOP)
            self.stalled.append((self.coordinators[index], time.monotonic() + 1.5))

    def revive(self, *, now=False):
        """Let those go on that were stalled for longer than a lease."""
        for process, until in list(self.stalled):
            if now or time.monotonic() > until:
                process.send_signal(signal.SIGCONT)
                self.stalled.remove((process, until))

    def check_health(self):
        """Return if no coordinator has ended by itself with an error."""
        for process in self.coordinators:
            assert process.poll() in (None, 0), f"a coordinator ended with {process.returncode}; see its output"

    def close(self):
        for process in self.coordinators:
            process.kill()
            process.wait()


def is_step(pid):
    """Return whether a process is still a step's: its number may have been given to another."""
    command = Path(f"/proc/{pid}/cmdline")
    return command.exists() and b"bessemer.flow.child" in command.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc before it kills")
def test_whatever_is_killed_each_key_is_published_once(database_url, tmp_path, programs):
    seed = random.randrange(10**6)
    ends = time.monotonic() + LIMIT_SECONDS
    with open_store(database_url) as store:
        runs = [store.submit(flow) for flow in flows()]
        arena = Arena(database_url, tmp_path, programs, seed)
        blows = seen = 0
        try:
            while store.runs("running"):
                assert time.monotonic() < ends, f"not done in time (seed {seed}): {arena.lines()[-20:]}"
                if blows < BLOWS and len(arena.lines()) >= seen + 4:
                    arena.blow()
                    blows, seen = blows + 1, len(arena.lines())
                arena.revive()
                arena.check_health()
                time.sleep(0.02)
            arena.revive(now=True)
            for process in arena.coordinators:
                assert process.wait(60) == 0
        finally:
            arena.close()
        assert blows == BLOWS, f"too little happened to strike at (seed {seed})"
        check_books(store, tmp_path, runs, f"seed {seed}, {blows} blows")


def check_books(store, root, runs, told):
    runner = Runner(store, root / "artifacts", "inline", config=RunnerConfig())
    results = [runner.run(run) for run in runs]
    assert [result.status for result in results] == ["finished"] * 3, told
    values = [{name: artifact.meta["value"] for name, artifact in result.artifacts.items()} for result in results]
    assert values == [
        {"source": 1, "left": 16 + n, "right": 17 + n, "join": 33 + 2 * n} for n in range(3)
    ], told  # fmt: skip
    keys = {artifact.key for result in results for artifact in result.artifacts.values()}
    assert len(keys) == 1 + 4 + 3
    assert {name.partition("-")[0] for name in store.folders()[1]} == keys, told
    assert runner.run(store.submit(flows()[0])).status == "finished"  # sweeps up
    published = [path.name.partition("-")[0] for path in (root / "artifacts" / "published").iterdir()]
    assert sorted(published) == sorted(keys), told
    for key in keys:
        runner.verify(key)
    for left in ("attempts", "checkpoints"):
        assert not list((root / "artifacts" / left).iterdir()), told
    counted = [line.split() for line in (root / "journal").read_text().splitlines() if " count " in line]
    for shift in range(4):
        numbers = [int(line[3]) for line in counted if line[0] == f"count{shift}"]
        assert sorted(set(numbers)) == list(range(1, 17 + shift)), told
        assert len(numbers) <= 16 + shift + BLOWS, f"checkpoints were not used: {told}"
