"""The door to flow: submit a flow, run it, see what would run, cancel, verify, stand by.

Owns what a caller sees. How a run goes on stands in `coordinator.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.errors import ConfigError, IntegrityError, NotFound
from bessemer.core.events import RunFailed, Sink, ignore
from bessemer.core.nouns import Artifact
from bessemer.core.protocols import Executor
from bessemer.flow.coordinator import Coordinator, RunnerConfig, Site
from bessemer.flow.declare import Flow
from bessemer.flow.executors import EXECUTORS
from bessemer.flow.folders import Folders, damage
from bessemer.flow.schedule import Trigger
from bessemer.flow.store import RunRecord, Store


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: `status` is finished, failed or cancelled; `artifacts` are those of the steps that are done."""

    run: str
    status: str
    artifacts: Mapping[str, Artifact]
    error: str = ""
    hint: str = ""


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
        chosen: Executor = EXECUTORS[executor]() if isinstance(executor, str) else executor
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
            BackendError: the database failed.
        """
        record = self.store.run(run)
        if record.status == "running":
            with self._site.folders.own() as owner:
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

    def verify(self, key: str) -> None:
        """Return if every byte of a published result is what was written.

        Raises:
            NotFound: the key has no result.
            IntegrityError: a file is missing, changed, or too many; the result is forgotten, so the next run redoes it.
        """
        result = self.store.result(key)
        if result is None:
            raise NotFound(f"key '{key}' has no result", hint="Run the flow that makes it.")
        if told := damage(self._site.folders.published / result.folder, result.outcome.files, deep=True):
            self.store.drop(result)
            raise IntegrityError(told, hint="Run the flow again: the step is redone.")

    def work(self, asks: Sequence[Trigger] = (), stop: Callable[[], bool] = lambda: False) -> None:
        """Stand by until `stop`: submit what schedules and triggers ask for, drive each run that nobody has ended."""
        while not stop():
            for each in asks:
                each.tick(self.store)
            for record in self.store.runs("running"):
                self.run(record.id)
            time.sleep(self._site.config.poll_seconds)


def _result(record: RunRecord, artifacts: Mapping[str, Artifact]) -> RunResult:
    return RunResult(record.id, record.status, artifacts, record.error, record.hint)
