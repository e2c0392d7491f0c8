"""Fine-tuning jobs: what was asked, how far it is, what came of it. Whoever trains drives them through this store.

    queued -> running -> succeeded | failed          cancelled and paused from either; resume makes a paused one queued

Owns jobs, their events and the states they go through. Knows no trainer and no HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from bessemer.core.errors import ConfigError, Conflict, NotFound, Unsupported
from bessemer.core.model_names import checkpoint_name
from bessemer.core.nouns import Usage
from bessemer.serve.accounts.pages import Page
from bessemer.serve.database import Execute
from bessemer.serve.work.datasets import KIND as DATASET
from bessemer.serve.work.files import File, FileStore
from bessemer.serve.work.jobs import (
    CHECKPOINT,
    ENDED,
    EVENT,
    KIND,
    UNFINISHED,
    Checkpoint,
    Job,
    JobError,
    JobEvent,
    Kept,
    Purse,
    Result,
    Status,
    Trainable,
    job_subject,
    model_name,
)
from bessemer.serve.work.models import TunedModel
from bessemer.serve.work.records import Wanted, new_id

_UNTOLD = "ended"
"""Tag of jobs that are over and of which nobody was told yet."""


class JobStore:
    """Jobs of all projects; for several threads and processes at once.

    Args:
        folder: keeps what jobs were given, even when the files are deleted.
        files: whence they are given it.
        trainable: what may be trained; None refuses every job.
        clock: gives Unix seconds.

    Attributes:
        purse: what a job may cost is reserved there before it is kept; None limits nothing.
    """

    def __init__(
        self, folder: Path, files: FileStore, trainable: Trainable | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._files, self.records, self.now = folder / "jobs", files, files.records, clock
        self.trainable, self.purse = trainable, cast("Purse | None", None)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)

    def data(self, job: str, what: str) -> Path:
        """Return where the ``training`` or ``validation`` data of a job are."""
        return self._folder / f"{job}.{what}.jsonl"

    def create(self, project: str, asked: Job) -> Job:
        """Keep a job, with its files checked and its hyperparameters resolved.

        Raises:
            NotFound: the project has no such model or file.
            ConfigError: a file cannot be learnt from; the message names the line.
            Unsupported: nothing can be trained here.
            Refused: a budget has not enough left.
        """
        trainable = self.trainable
        if trainable is None or not trainable.bases or not self._files.config.fine_tuning:
            raise Unsupported(
                "this gateway trains nothing", hint="It needs a base model of its own, and `jobs: {fine_tuning: true}`."
            )
        if asked.model not in trainable.bases:
            try:
                self.records.get("model", project, asked.model, TunedModel)
            except NotFound:
                known = ", ".join(sorted(trainable.bases))
                raise NotFound(
                    f"no model '{asked.model[:64]}' can be fine-tuned here", hint=f"Try: {known}.", about="model"
                ) from None
        given = {"training": asked.training_file, "validation": asked.validation_file}
        counts = {}
        for what, id in given.items():
            if id is not None:
                counts[what] = self._check(trainable, project, id, what)
        job = asked.model_copy(update={"hyperparameters": asked.hyperparameters.resolved(counts["training"])})
        most = self._files.config.max_epochs
        if int(job.hyperparameters.n_epochs) > most:
            told = f"at most {most} epochs are trained"
            raise ConfigError(told, hint="Ask for fewer.", about="hyperparameters.n_epochs")
        if self.purse:
            self.purse.reserve_job(job_subject(project, job), self._most(job))
        try:
            for what, id in given.items():
                if id is not None:  # a link of its own: deleting the file takes nothing from the job
                    self.data(job.id, what).hardlink_to(self._files.held(id))
            with self.records.writing() as execute:
                self.records.add(execute, KIND, project, job, tag=job.status)
                self._event(execute, project, job.id, f"Created fine-tuning job: {job.id}")
                self._event(execute, project, job.id, f"{counts['training']} examples were read; the job is queued")
        except BaseException:
            self.forget_data(job.id)
            self.settle(job, 0)
            raise
        return job

    def settle(self, job: Job, micros: int) -> None:
        """Say what a job that is over was charged; again changes nothing."""
        if self.purse:
            self.purse.settle_job(job.id, micros)

    def release(self) -> None:
        """Release what is reserved for jobs that a killed process never kept."""
        if self.purse:
            known = self.records.ids(KIND) | self.records.ids(DATASET)
            self.purse.release_jobs(known.__contains__)

    def _most(self, job: Job) -> Usage:
        """Return the most tokens that a job can be trained on: a token stands for at least one byte of its file."""
        size = self._files.path(job.training_file).stat().st_size
        return Usage(input_tokens=size * int(job.hyperparameters.n_epochs))

    def get(self, project: str, id: str) -> Job:
        """Return a job.

        Raises:
            NotFound: the project has none of that id.
        """
        return self.records.get(KIND, project, id, Job)

    def page(self, project: str, wanted: Wanted) -> Page[Job]:
        """Return a page of a project's jobs.

        Raises:
            NotFound: `wanted.after` is no job of this project.
        """
        return self.records.page(KIND, project, Job, wanted)

    def events(self, project: str, id: str, wanted: Wanted) -> Page[JobEvent]:
        """Return a page of a job's events, or raise as `get`."""
        self.get(project, id)
        return self.records.page(EVENT, project, JobEvent, wanted)

    def checkpoints(self, project: str, id: str, wanted: Wanted) -> Page[Checkpoint]:
        """Return a page of a job's checkpoints, or raise as `get`."""
        self.get(project, id)
        return self.records.page(CHECKPOINT, project, Checkpoint, wanted)

    def move(
        self, project: str, id: str, to: Status, begun_from: tuple[Status, ...], said: str,
        error: JobError | None = None,
    ) -> Job:  # fmt: skip
        """Change a job's state and return it; nothing but its state decides which of two that do so at once wins.

        Raises:
            NotFound: the project has no such job.
            Conflict: it is in none of the states that this begins from.
        """
        with self.records.writing() as execute:
            job = self.records.find(execute, KIND, project, id, Job)
            if job.status not in begun_from:
                raise Conflict(f"the job is {job.status}", hint=f"Only a job that is {' or '.join(begun_from)} can be.")
            now = int(self.now())
            update: dict[str, Any] = {"status": to, "estimated_finish": None, "error": error}
            job = job.model_copy(update=update | ({"finished_at": now} if to in ENDED else {}))
            self.records.put(execute, job, _UNTOLD if to in ENDED else to)
            self._event(execute, project, id, said)
        return job

    # --- for whoever trains -------------------------------------------------------------------------------------------

    def next(self) -> tuple[str, Job] | None:
        """Return the oldest job that runs or waits, with its project."""
        for status in ("running", "queued"):
            if found := self.records.tagged(KIND, (status,), Job, own=True):
                return found[0]
        return None

    def report(
        self, project: str, id: str, message: str, data: dict[str, Any] | None = None, level: str = "info"
    ) -> None:
        """Note an event of a job; with data it is one of metrics."""
        with self.records.writing() as execute:
            self._event(execute, project, id, message, data, level)

    def estimate(self, project: str, id: str, finish: float) -> None:
        """Say when a running job is likely to end, in Unix seconds."""

        def to(job: Job) -> tuple[Job, str]:
            tag = _UNTOLD if job.status in ENDED else job.status
            running = job.status == "running"
            return job.model_copy(update={"estimated_finish": round(finish)} if running else {}), tag

        self.records.change(KIND, project, id, Job, to)

    def succeed(self, project: str, id: str, result: Result) -> Job:
        """End a running job well: its model is there and its curve is a file, at the same moment.

        Raises:
            Conflict: the job was cancelled or paused meanwhile.
        """
        ended: list[Job] = []

        def succeeded(execute: Execute, curve: File) -> None:
            job = self.records.find(execute, KIND, project, id, Job)
            if job.status != "running":
                raise Conflict(f"the job is {job.status}", hint="Nothing is lost: its training is kept.")
            ended.append(self._add_model(execute, project, job, result, curve))

        with self._files.receiving() as (path, out):
            out.write(result.curve)
            out.flush()
            self._files.add(project, path, "step_metrics.csv", "fine-tune-results", within=succeeded)
        job = ended[0]
        self.forget_data(id)
        return job

    def fail(self, project: str, id: str, error: JobError) -> Job:
        """End a running job that could not be done.

        Raises:
            Conflict: the job was cancelled or paused meanwhile.
        """
        job = self.move(project, id, "failed", ("running",), f"The job failed: {error.message}", error)
        self.forget_data(id)
        return job

    def untold(self) -> list[tuple[str, Job]]:
        """Return the jobs that are over and of which nobody was told yet, with their projects."""
        return self.records.tagged(KIND, (_UNTOLD,), Job, own=True)

    def told(self, job: Job) -> None:
        """Note that those who want to know were told how a job ended."""
        with self.records.writing() as execute:
            self.records.put(execute, job, job.status)

    def sweep(self, older_than_seconds: float) -> None:
        """Let go of what was given to jobs that are over or were never kept: their gateway was killed meanwhile."""
        self._files.remove_links(self._folder, (KIND, UNFINISHED), older_than_seconds)

    def forget_data(self, id: str) -> None:
        """Let go of what a job was given."""
        for what in ("training", "validation"):
            self.data(id, what).unlink(missing_ok=True)

    def _add_model(self, execute: Execute, project: str, job: Job, result: Result, curve: File) -> Job:
        now, name = int(self.now()), model_name(project, job)
        model = TunedModel(
            id=name, base=job.model, path=result.path, source=result.source, job=job.id, created_at=now
        )  # fmt: skip
        update = {
            "status": "succeeded", "finished_at": now, "estimated_finish": None, "result_files": (curve.id,),
            "fine_tuned_model": name, "trained_tokens": result.trained_tokens,
        }  # fmt: skip
        job = job.model_copy(update=update)
        self.records.add(execute, "model", project, model)
        self.records.put(execute, job, _UNTOLD)
        for kept in result.kept:
            named = checkpoint_name(name, kept.step_number)
            onto = {"id": named, "path": "", "source": "", "adapter": kept.adapter, "onto": kept.onto}
            self.records.add(execute, "model", project, model.model_copy(update=onto), parent=name)
            self._add_checkpoint(execute, project, job, named, kept)
        self._add_checkpoint(execute, project, job, name, result)
        self._event(execute, project, job.id, f"New fine-tuned model created: {name}")
        self._event(execute, project, job.id, "The job has successfully completed")
        return job

    def _add_checkpoint(self, execute: Execute, project: str, job: Job, name: str, of: Kept | Result) -> None:
        checkpoint = Checkpoint(
            id=new_id("ftckpt_"), created_at=int(self.now()), fine_tuned_model_checkpoint=name,
            fine_tuning_job_id=job.id, metrics=dict(of.metrics), step_number=of.step_number,
        )  # fmt: skip
        self.records.add(execute, CHECKPOINT, project, checkpoint, parent=job.id)

    def _check(self, trainable: Trainable, project: str, id: str, what: str) -> int:
        try:
            file = self._files.get(project, id)
        except NotFound as error:
            raise NotFound(error.message, hint=error.hint, about=f"{what}_file") from error
        if file.purpose != "fine-tune":
            raise ConfigError(
                f"the purpose of the {what} file is {file.purpose}",
                hint="Send it with 'fine-tune'.",
                about=f"{what}_file",
            )
        try:
            return trainable.check(self._files.held(id))
        except ConfigError as error:
            raise ConfigError(f"{what} file: {error.message}", hint=error.hint, about=f"{what}_file") from error

    def _event(
        self, execute: Execute, project: str, id: str, message: str, data: dict[str, Any] | None = None,
        level: Any = "info",
    ) -> None:  # fmt: skip
        event = JobEvent(
            id=new_id("ftevent-"), created_at=int(self.now()), level=level, message=message,
            type="metrics" if data else "message", data=data or {},
        )  # fmt: skip
        self.records.add(execute, EVENT, project, event, parent=id)
