"""A bench to try flow on: a store, a folder, the events, and the journal that the steps of `probe_steps` write."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.config import Config
from bessemer.core.events import Event
from bessemer.flow import Flow, Runner, RunnerConfig, RunResult, Step, Store, open_store


@dataclass
class Bench:
    url: str
    root: Path
    programs: Path
    store: Store
    stack: ExitStack
    events: list[Event] = field(default_factory=list)

    def runner(self, executor: Any = "inline", store: Store | None = None, **config: Any) -> Runner:
        settings = RunnerConfig(**{"poll_seconds": 0.05, "lease_seconds": 2.0, **config})
        journal = {"journal": str(self.root / "journal")}
        return Runner(store or self.store, self.root / "artifacts", executor, self.events.append, journal, settings)

    def run(self, flow: Flow, executor: Any = "inline", **config: Any) -> RunResult:
        self.events.clear()
        runner = self.runner(executor, **config)
        return runner.run(runner.submit(flow))

    def another_store(self) -> Store:
        return self.stack.enter_context(open_store(self.url))

    def coordinator(self, run: str = "*", lease_seconds: float = 1.0, limit: int = 1) -> subprocess.Popen[bytes]:
        program = [sys.executable, str(self.programs / "coordinate.py")]
        command = [*program, self.url, str(self.root), run, str(lease_seconds), str(limit)]
        with (self.root / "stderr").open("ab") as stderr:
            process = subprocess.Popen(command, stderr=stderr)
        self.stack.callback(lambda: (process.kill(), process.wait()))
        return process

    def journal(self, *words: str) -> list[list[str]]:
        path = self.root / "journal"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line[: len(words)] == list(words)]

    def stall(self, pid: int) -> None:
        """Stop a process, at a moment when it holds no lock on all of SQLite: in that one nobody could take over."""
        while True:
            os.kill(pid, signal.SIGSTOP)
            if not self.url.startswith("sqlite:") or not is_locked(self.url.removeprefix("sqlite:///")):
                return
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.01)
        raise AssertionError(f"waited {seconds} s in vain; {(self.root / 'stderr').read_text()[-2000:]}")


def is_locked(path: str) -> bool:
    with closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        database.execute("ROLLBACK")
        return False


@pytest.fixture
def bench(database_url: str, tmp_path: Path, programs: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        (tmp_path / "stderr").touch()
        store = stack.enter_context(open_store(database_url))
        yield Bench(database_url, tmp_path, programs, store, stack)


@pytest.fixture
def step(programs: Path) -> Callable[..., Step]:
    """Give a maker of steps: `step("name", "function", Config field=..., needs=...)`."""
    import probe_steps

    kinds: dict[str, type[Config]] = {
        "work": probe_steps.Work, "count": probe_steps.Count, "stubborn": probe_steps.Count, "fail": probe_steps.Fail
    }  # fmt: skip

    def make(name: str, function: str = "work", needs: tuple[str, ...] = (), **values: Any) -> Step:
        kind = kinds.get(function)
        known = set(kind.model_fields) if kind else set()
        fields = {key: values.pop(key) for key in list(values) if key in known}
        config = kind(**{"name": name, **fields}) if kind else None
        return Step(name, f"probe_steps:{function}", config, needs, **values)

    return make
