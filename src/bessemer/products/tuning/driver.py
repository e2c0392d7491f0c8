"""Runs the fine-tuning jobs of a home through `flow`, one at a time, in a thread beside the gateway.

Of several gateways of a factory on one home one drives: who holds the lock, which the kernel takes from the dead. A job
that was running when its gateway was killed goes on at its last checkpoint under the next.

Owns the way of one job: its states and its books. Knows no trainer and no HTTP.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Protocol

from bessemer.core.errors import BackendError, BessemerError, Cancelled, Conflict
from bessemer.core.nouns import Artifact, Subject, Usage
from bessemer.flow import Flow, Runner, open_store
from bessemer.meter import LocalMeter
from bessemer.products.home import Home
from bessemer.products.metered import MeteredSink
from bessemer.products.tuning.telling import Telling, seconds_after_training
from bessemer.products.watching import Shift, booked_once, run_watched, sentence
from bessemer.serve import WebhookStore, Work
from bessemer.serve.work.jobs import KIND, Job, JobError, Result, Status, job_subject, model_name
from bessemer.serve.work.tuning import JobStore

logger = logging.getLogger("bessemer.products")

_UNFINISHED: tuple[Status, ...] = ("running", "queued", "paused")


class Line(Protocol):
    """What makes a flow of a job, and a result of what came of it; see `TuningLine`."""

    @property
    def base(self) -> Path:
        """Folder that relative paths start from."""
        ...

    def flow(self, project: str, job: Job, jobs: JobStore) -> Flow:
        """Return the flow."""
        ...

    def result(self, artifacts: Mapping[str, Artifact]) -> Result:
        """Return what came of it."""
        ...


@dataclass(frozen=True, slots=True)
class JobParts:
    """What jobs need of a home.

    Attributes:
        home: whose runs and books.
        work: whose jobs.
        meter: books what training takes.
        webhooks: are told how jobs end.
        clock: gives Unix seconds.
        is_archived: says whether a project is: then nobody has a key any more to cancel its jobs, and all are.
    """

    home: Home
    work: Work
    meter: LocalMeter
    webhooks: WebhookStore | None
    clock: Callable[[], float] = time.time
    is_archived: Callable[[str], bool] = lambda project: False


class JobDriver(Shift):
    """Drives fine-tuning jobs until it is closed; one under way keeps its last checkpoint.

    Args:
        parts: of the home.
        line: what a job does.
        pause_seconds: between two looks for something to do.
    """

    def __init__(self, parts: JobParts, line: Line, pause_seconds: float = 0.5) -> None:
        super().__init__("fine-tuning", parts.work.lock("jobs"), pause_seconds)
        self._parts, self._line, self._jobs = parts, line, parts.work.jobs

    def first(self) -> None:
        """Book what a killed driver's step took, and release what jobs had reserved that were never kept."""
        self._parts.meter.book_killed()
        self._jobs.release()

    def turn(self) -> bool:
        """Drive what there is to drive, to its end; return whether there was anything."""
        self._drop()
        self._tell()
        found = self._jobs.next()
        if found is None:
            return False
        project, job = found
        if job.status == "queued":
            with suppress(Conflict):
                job = self._jobs.move(project, job.id, "running", ("queued",), "Fine-tuning job started")
        if job.status == "running":
            with self._parts.home.results():
                self._drive(project, job)
        self._tell()
        return True

    def _drive(self, project: str, job: Job) -> None:
        home, begun = self._parts.home, False
        whose = Subject(kind="step", id="", project=project, key_id=job.key_id, model=model_name(project, job))
        try:
            flow = self._line.flow(project, job, self._jobs)
            home.claim_artifacts()
            with open_store(home.database_url) as store:
                told = Telling(self._jobs, (project, job.id), partial(seconds_after_training, store), self._parts.clock)
                sink = MeteredSink(told, self._parts.meter, whose)
                runner = Runner(
                    store, home.artifacts, sink=sink, resources={"jobs": str(self._jobs.data("", "").parent),
                                                                 "base": str(self._line.base)}
                )  # fmt: skip
                unwanted, begun = partial(self._unwanted, project, job), True
                result = run_watched(runner, runner.submit(flow), unwanted)
        except Cancelled:  # while what it starts from was made: the next driver goes on
            return
        except BessemerError as error:
            if begun and isinstance(error, BackendError):  # a database or a disk: what fails in a step is in the result
                raise  # the turn is taken again, and the job goes on at its last checkpoint
            self._fail(project, job, JobError(code=error.code, message=sentence(error.message, error.hint)))
            return
        except Exception as error:  # a mistake of ours ends this job, not the thread that drives all of them
            logger.exception("the fine-tuning job %s failed", job.id)
            self._fail(
                project, job, JobError(code="internal_error", message=f"The job failed: {type(error).__name__}.")
            )
            return
        if result.status == "finished":
            self._succeed(project, job, self._line.result(result.artifacts))
        elif result.status == "failed":
            self._fail(project, job, JobError(code="training_failed", message=sentence(result.error, result.hint)))

    def _unwanted(self, project: str, job: Job) -> bool:
        """Return whether a job no longer runs, or this driver does not."""
        self._drop()
        return self._stop.is_set() or self._jobs.get(project, job.id).status != "running"

    def _drop(self) -> None:
        """Cancel the jobs of archived projects."""
        is_archived = cache(self._parts.is_archived)  # one look for all jobs of a project
        for project, job in self._jobs.records.tagged(KIND, _UNFINISHED, Job, own=True):
            with suppress(Conflict, BackendError):  # it is over; or the accounts are looked into the next time
                if is_archived(project):
                    said = "The job was cancelled: its project is archived"
                    self._jobs.move(project, job.id, "cancelled", _UNFINISHED, said)
                    self._jobs.forget_data(job.id)

    def _succeed(self, project: str, job: Job, result: Result) -> None:
        try:
            self._jobs.succeed(project, job.id, result)
        except Conflict:
            return  # cancelled at the last moment: nothing is served and nothing charged
        self._book(project, job, result.trained_tokens)

    def _book(self, project: str, job: Job, trained_tokens: int) -> int:
        """Book the tokens that were trained on, once; return the charge. Time and energy are booked with the steps."""
        parts = (self._parts.home, self._parts.meter)
        return booked_once(parts, job_subject(project, job), Usage(input_tokens=trained_tokens))

    def _fail(self, project: str, job: Job, error: JobError) -> None:
        with suppress(Conflict):
            self._jobs.fail(project, job.id, error)

    def _tell(self) -> None:
        for project, job in self._jobs.untold():
            charge = 0
            if job.status == "succeeded" and job.trained_tokens is not None:
                charge = self._book(project, job, job.trained_tokens)  # a driver may have been killed before it did
            self._jobs.settle(job, charge)
            if self._parts.webhooks:
                self._parts.webhooks.emit(project, f"fine_tuning.job.{job.status}", {"id": job.id})
            self._jobs.told(job)
