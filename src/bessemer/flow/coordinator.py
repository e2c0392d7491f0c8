"""Drives one run: takes over what is published, starts what is ready, publishes what ends, until nothing is left.

Owns the order of things. Any number of coordinators may drive the same run; each step goes to the one that claims it.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from bessemer.core import events
from bessemer.core.config import Config
from bessemer.core.errors import Conflict
from bessemer.core.nouns import Artifact
from bessemer.core.protocols import Executor
from bessemer.flow.attempt import Outcome, Task
from bessemer.flow.declare import Step
from bessemer.flow.folders import Folders, damage
from bessemer.flow.store import Claim, Result, RunRecord, Store

_FOR_GOOD = {"config_error", "not_found", "unsupported", "missing_dependency", "budget_exceeded", "cancelled"}
"""Codes of the errors that another attempt would meet again."""

_TOLD = {"progress": events.Progress, "measured": events.Measured}

_OVERTAKEN = "another coordinator took the step over; nothing is lost: its attempt goes on"


class RunnerConfig(Config):
    """How runs are driven.

    Attributes:
        queues: how many steps of a queue may run at a time, over all coordinators on the database; 1 where not named.
        lease_seconds: how long a coordinator may be silent before another takes its steps over.
        poll_seconds: how often it looks for what others did.
    """

    queues: Mapping[str, Annotated[int, Field(ge=1)]] = {"default": 1}
    lease_seconds: Annotated[float, Field(gt=0)] = 30.0
    poll_seconds: Annotated[float, Field(gt=0, le=10)] = 0.2


@dataclass(frozen=True, slots=True)
class Site:
    """What every run of a runner shares."""

    store: Store
    folders: Folders
    executor: Executor
    sink: events.Sink
    resources: Mapping[str, str]
    config: RunnerConfig

    def artifact(self, result: Result) -> Artifact:
        """Return a result as the artifact that other rooms know."""
        path = str(self.folders.published / result.folder)
        meta = dict(result.outcome.meta)
        return Artifact(key=result.key, digest=result.outcome.digest, step=result.step, path=path, meta=meta)

    def bury_dead(self) -> None:
        """Free what coordinators hold that certainly no longer run."""
        for owner in self.store.owners():
            if self.folders.is_dead(owner):
                self.store.bury(owner)


class Coordinator:
    """Drives one run.

    Args:
        site: what all runs share.
        run: id of the run.
        owner: this coordinator's name, unique for ever.
    """

    def __init__(self, site: Site, run: str, owner: str) -> None:
        self._site, self._run, self._owner = site, run, owner
        self._flow = site.store.flow(run)
        self.artifacts: dict[str, Artifact] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._running: dict[str, tuple[Claim, str]] = {}
        self._messages: queue.SimpleQueue[tuple[str, Mapping[str, Any]]] = queue.SimpleQueue()
        self._renewed = time.monotonic()

    def drive(self) -> RunRecord:
        """Return the run when it has ended, whoever ended it."""
        store = self._site.store
        self._site.bury_dead()
        self._site.folders.sweep(store.folders)
        self._tell(events.RunStarted, flow=self._flow.name, steps=tuple(step.name for step in self._flow.steps))
        try:
            while (record := store.run(self._run)).status == "running":
                self._start(self._settle())
                if len(self.artifacts) == len(self._flow.steps):
                    store.end(self._run, "finished")
                else:
                    self._listen()
            if record.status == "finished":
                self._settle()  # what others did last
        finally:
            self._stop()
        if record.status == "finished":
            self._tell(events.RunFinished)
        else:
            self._tell(events.RunFailed, error=record.error, hint=record.hint)
        return record

    def _settle(self) -> list[Step]:
        """Take over what is published; return the steps that could run now."""
        store, settled, wanted = self._site.store, {}, []
        for step in self._flow.steps:
            if step.name in {**self.artifacts, **self._running} or not self.artifacts.keys() >= set(step.needs):
                continue
            result = store.result(self._key(step)[0])
            if result and not damage(self._site.folders.published / result.folder, result.outcome.files, deep=False):
                settled[step.name] = result.key
                self._finish(step, result, cached=True)
                continue
            if result:
                store.drop(result)
            wanted.append(step)
        if settled:
            store.settle(self._run, settled)
        return wanted

    def _start(self, wanted: list[Step]) -> None:
        """Start the steps that may run now and that nobody else attempts."""
        config, store = self._site.config, self._site.store
        records = {record.name: record for record in store.steps(self._run)}
        for step in wanted:
            limit = config.queues.get(step.queue, 1)
            busy = sum(claim.queue == step.queue for claim, _ in self._running.values())
            may = busy < limit and records[step.name].not_before <= store.clock()
            wish = Claim(self._run, step.name, self._key(step)[0], step.queue)
            if may and (claim := store.claim(wish, self._owner, config.lease_seconds, limit)):
                self._launch(step, claim)

    def _launch(self, step: Step, claim: Claim) -> None:
        folders, (key, code), part = self._site.folders, self._key(step), step.name[: step.name.rfind(".") + 1]
        self._tell(events.StepStarted, step=step.name, attempt=claim.attempt)

        def emit(message: Mapping[str, Any]) -> None:
            self._messages.put((step.name, message))

        try:
            places = (folders.begin(key, claim.fence), folders.checkpoints / key, self._site.resources)
            inputs = {need.removeprefix(part): self.artifacts[need] for need in step.needs}
            task = Task(step, key, claim.fence, code, inputs, *places, emit)
            self._running[step.name] = (claim, self._site.executor.submit(task))
        except OSError as error:
            self._fail(step, claim, _no_room(f"the attempt could not start: {error}"))

    def _listen(self) -> None:
        """Pass on what attempts tell until one ends or it is time to look around."""
        self._site.bury_dead()  # what we wait for may be held by somebody who will never finish
        until = time.monotonic() + self._site.config.poll_seconds
        with suppress(queue.Empty):
            while (left := until - time.monotonic()) > 0 and self._hear(left):
                pass
        for step in [step for step in self._flow.steps if step.name in self._running]:
            claim, handle = self._running[step.name]
            if outcome := self._site.executor.wait(handle, 0):
                del self._running[step.name]
                (self._fail if outcome.code else self._publish)(step, claim, outcome)
        self._renew()

    def _hear(self, timeout_seconds: float) -> bool:
        """Pass on the next that an attempt tells; return whether it goes on."""
        name, message = self._messages.get(timeout=timeout_seconds)
        for kind in _TOLD.keys() & message.keys():
            self._tell(_TOLD[kind], step=name, **message[kind])
        return "outcome" not in message

    def _hear_out(self) -> None:
        """Pass on all that is still unheard: an attempt that ended while we were busy told more than we listened to."""
        for _ in range(self._messages.qsize()):
            self._hear(0)

    def _renew(self) -> None:
        """Extend our leases when it is time; stop the attempts that another coordinator took over."""
        lease_seconds = self._site.config.lease_seconds
        if not self._running or time.monotonic() - self._renewed < lease_seconds / 3:
            return
        held = self._site.store.renew(self._owner, lease_seconds)
        self._renewed = time.monotonic()
        for claim, handle in [each for each in self._running.values() if (each[0].key, each[0].fence) not in held]:
            del self._running[claim.step]
            self._lose(claim, self._site.executor.cancel(handle), _OVERTAKEN, will_retry=True)

    def _publish(self, step: Step, claim: Claim, outcome: Outcome) -> None:
        folders = self._site.folders
        try:
            result = self._site.store.publish(claim, outcome, lambda: folders.publish(claim.key, claim.fence))
        except Conflict:
            self._lose(claim, outcome, _OVERTAKEN, will_retry=True)
        except OSError as error:
            self._fail(step, claim, _no_room(f"the result could not be put in place: {error}"))
        else:
            folders.discard(claim.key, claim.fence, checkpoints=True)
            self._finish(step, result, cached=False)

    def _finish(self, step: Step, result: Result, *, cached: bool) -> None:
        self._hear_out()
        self.artifacts[step.name] = self._site.artifact(result)
        facts = result.outcome.model_dump(include={"meta", "wall_seconds", "cpu_seconds", "peak_memory_bytes"})
        self._tell(events.StepFinished, step=step.name, key=result.key, cached=cached, **facts)

    def _fail(self, step: Step, claim: Claim, outcome: Outcome) -> None:
        """Record a failure, and end the run unless the step may be tried again."""
        store = self._site.store
        self._keys.pop(step.name, None)  # whoever mends the code while we wait for a retry gets the new code
        failures = next(record.failures for record in store.steps(self._run) if record.name == step.name)
        again = failures < step.retries and outcome.code not in _FOR_GOOD
        try:
            store.fail(claim, outcome, step.backoff_seconds * 2**failures if again else None)
        except Conflict:
            self._lose(claim, outcome, _OVERTAKEN, will_retry=True)
            return
        self._tell_failed(claim, outcome, will_retry=again)
        if not again:
            store.end(self._run, "failed", f"step '{step.name}' failed: {outcome.error}", outcome.hint)

    def _lose(self, claim: Claim, outcome: Outcome | None, error: str, *, will_retry: bool) -> None:
        """Remove what an attempt left that came to nothing, and tell what it took: no work vanishes from the books."""
        self._site.folders.discard(claim.key, claim.fence)
        lost = (outcome or Outcome()).model_copy(update={"code": "cancelled", "error": error})
        self._tell_failed(claim, lost, will_retry=will_retry)

    def _stop(self) -> None:
        """Stop what still runs, so that another run, now or later, goes on at its checkpoints."""
        ended = [(claim, self._site.executor.cancel(handle)) for claim, handle in self._running.values()]
        self._running.clear()
        for claim, outcome in ended:
            self._site.store.release(claim)
            self._lose(claim, outcome, "told to stop; the next run goes on at its last checkpoint", will_retry=False)

    def _key(self, step: Step) -> tuple[str, str]:
        """Return the step's key and the version of its code."""
        if step.name not in self._keys:
            # What a product is called is no part of what its steps make.
            code, part = step.version(), step.name[: step.name.rfind(".") + 1]
            needs = {name.removeprefix(part): self.artifacts[name].digest for name in step.needs}
            self._keys[step.name] = (step.key(code, needs), code)
        return self._keys[step.name]

    def _tell_failed(self, claim: Claim, outcome: Outcome, *, will_retry: bool) -> None:
        self._hear_out()
        facts = outcome.model_dump(include={"code", "error", "hint", "wall_seconds", "cpu_seconds"})
        self._tell(events.StepFailed, step=claim.step, attempt=claim.attempt, will_retry=will_retry, **facts)

    def _tell(self, kind: Any, **facts: Any) -> None:
        self._site.sink(kind(at=self._site.store.clock(), run=self._run, **facts))


def _no_room(error: str) -> Outcome:
    return Outcome(code="error", error=error, hint="Check the disk's space and rights, then run again.")
