"""The door to flow: submit a flow, run it, see what would run, cancel, verify, stand by.

Owns what a caller sees. How a run goes on stands in `coordinator.py`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from bessemer.core.errors import Cancelled, ConfigError, IntegrityError, NotFound
from bessemer.core.events import RunFailed, Sink, ignore
from bessemer.core.nouns import Artifact
from bessemer.core.protocols import Executor
from bessemer.flow.coordinator import Coordinator, RunnerConfig, Site
from bessemer.flow.declare import Flow, code_version
from bessemer.flow.executors import open_executor
from bessemer.flow.folders import Folders, check
from bessemer.flow.schedule import Schedule, Trigger
from bessemer.flow.store import Result, RunRecord, Store


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: `status` is finished, failed or cancelled; `artifacts` are those of the steps that are done."""

    run: str
    status: str
    artifacts: Mapping[str, Artifact]
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What would happen to a step; without a key, that depends on the results of steps that would run before it."""

    name: str
    cached: bool
    key: str = ""


class Runner:
    """Runs flows of one store.

    Args:
        store: the state; several runners, on several machines, may share it.
        artifacts: folder of the results; all runners on one store share it.
        executor: where steps run: ``process``, ``inline``, or an Executor.
        sink: takes the events, all from the thread that calls `run`.
        resources: where things are, for `StepContext.resources`; not part of any key.
        config: limits and times.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Path,
        executor: str | Executor = "process",
        sink: Sink = ignore,
        resources: Mapping[str, str] | None = None,
        config: RunnerConfig | None = None,
    ) -> None:
        chosen: Executor = open_executor(executor) if isinstance(executor, str) else executor
        self.store = store
        self._site = Site(store, Folders(artifacts), chosen, sink, dict(resources or {}), config or RunnerConfig())

    def submit(self, flow: Flow, idempotency_key: str = "") -> str:
        """Return the id of a run: a new one, that of this idempotency key, or that of the same flow if it still runs.

        Raises:
            Conflict: the idempotency key belongs to another flow.
        """
        return self.store.submit(flow, idempotency_key)

    def run(self, run: str) -> RunResult:
        """Drive a run until it has ended and return how; after a crash, go on where it stopped.

        Raises:
            NotFound: there is no such run.
            Cancelled: this process was told to terminate; the run can be resumed.
            BackendError: the database failed.
        """
        record = self.store.run(run)
        if record.status == "running":
            with _terminable(), self._site.folders.own() as owner:
                try:
                    coordinator = Coordinator(self._site, run, owner)
                    return _result(coordinator.drive(), coordinator.artifacts)
                except ConfigError as error:
                    self.store.end(run, "failed", error.message, error.hint)
                    self._site.sink(RunFailed(self.store.clock(), run, error.message, error.hint))
            record = self.store.run(run)
        found = {step.name: self.store.result(step.key) for step in self.store.steps(run) if step.state == "done"}
        return _result(record, {name: self._site.artifact(result) for name, result in found.items() if result})

    def cancel(self, run: str) -> None:
        """End a run; whoever drives it stops its steps. What is published stays."""
        self.store.run(run)
        self.store.end(run, "cancelled", "the run was cancelled", "Submit it again: it goes on where it stopped.")

    def plan(self, flow: Flow) -> list[PlannedStep]:
        """Return which steps have their result and which would run, in order; nothing is changed."""
        plan, digests = [], dict[str, str]()
        for step in flow.steps:
            key, result = "", None
            if all(name in digests for name in step.needs):
                key = step.key(code_version(step.modules), {name: digests[name] for name in step.needs})
                result = self.store.result(key)
            if result and self._site.intact(result):
                digests[step.name] = result.outcome.digest
            plan.append(PlannedStep(step.name, step.name in digests, key))
        return plan

    def artifact(self, key: str) -> Artifact:
        """Return the published result of a key.

        Raises:
            NotFound: it has none.
        """
        return self._site.artifact(self._published(key))

    def verify(self, key: str) -> None:
        """Return if every byte of a published result is what was written.

        Raises:
            NotFound: the key has no result.
            IntegrityError: a file is missing, changed, or too many; the result is forgotten, so the next run redoes it.
        """
        result = self._published(key)
        try:
            check(self._site.folders.published / result.folder, result.outcome.files, deep=True)
        except IntegrityError:
            self.store.drop(result)
            raise

    def work(self, asks: Sequence[Schedule | Trigger] = (), stop: Callable[[], bool] = lambda: False) -> None:
        """Stand by until `stop`: submit what schedules and triggers ask for, drive each run that nobody has ended."""
        while not stop():
            for each in asks:
                each.tick(self.store)
            for record in self.store.runs("running"):
                self.run(record.id)
            time.sleep(self._site.config.poll_seconds)

    def _published(self, key: str) -> Result:
        result = self.store.result(key)
        if result is None:
            raise NotFound(f"key '{key}' has no result", hint="Run the flow that makes it.")
        return result


def _result(record: RunRecord, artifacts: Mapping[str, Artifact]) -> RunResult:
    return RunResult(record.id, record.status, artifacts, record.error, record.hint)


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into Cancelled, as Python turns SIGINT into KeyboardInterrupt, where nobody else handles it."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _cancelled)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _cancelled(number: int, frame: FrameType | None) -> None:
    raise Cancelled("told to terminate", hint="Run it again: it goes on where it stopped.")
