"""What a fine-tuning job is: its parameters, events, checkpoints and result, and what is booked under its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field

from bessemer.core.nouns import Subject, Usage
from bessemer.serve.work.models import ChatEngine
from bessemer.serve.work.records import Record

KIND, EVENT, CHECKPOINT = "fine-tuning job", "job event", "job checkpoint"
Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled", "paused"]
UNFINISHED = ("validating_files", "queued", "running", "paused")
ENDED = ("succeeded", "failed", "cancelled")

_AUTO_STEPS = 100
_MAX_AUTO_EPOCHS = 10
_MAX_AUTO_BATCH = 32


class Hyperparameters(BaseModel):
    """How a job trains; ``auto`` is resolved before the job is kept."""

    n_epochs: int | Literal["auto"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"

    def resolved(self, examples: int) -> Hyperparameters:
        """Return them with numbers for ``auto``.

        The batch is a 64th of the examples, from 1 to 32; the epochs are as many as make about 100 steps, from 1 to 10;
        the multiplier is 1. These are rules of this house.

        >>> Hyperparameters(batch_size=2).resolved(100)
        Hyperparameters(n_epochs=2, batch_size=2, learning_rate_multiplier=1.0)
        """
        size = min(_MAX_AUTO_BATCH, max(1, examples // 64)) if self.batch_size == "auto" else self.batch_size
        steps = max(1, -(-examples // size))
        epochs = min(_MAX_AUTO_EPOCHS, -(-_AUTO_STEPS // steps)) if self.n_epochs == "auto" else self.n_epochs
        rate = 1.0 if self.learning_rate_multiplier == "auto" else self.learning_rate_multiplier
        return Hyperparameters(n_epochs=epochs, batch_size=size, learning_rate_multiplier=rate)


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class Job(Record):
    """A job as it is kept; the last fields are not the wire's. Times are Unix seconds."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: JobError | None = None
    estimated_finish: int | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    hyperparameters: Hyperparameters
    integrations: tuple[()] = ()
    metadata: dict[str, str] | None = None
    model: str
    organization_id: str = "organization"
    result_files: tuple[str, ...] = ()
    seed: int
    status: Status = "queued"
    trained_tokens: int | None = None
    training_file: str
    validation_file: str | None = None
    suffix: str = ""
    key_id: str = ""

    def told(self) -> dict[str, Any]:
        """Return what the wire tells."""
        said = self.model_dump(mode="json", exclude={"suffix", "key_id"})
        method = {"type": "supervised", "supervised": {"hyperparameters": said["hyperparameters"]}}
        return said | {"method": method, "user_provided_suffix": self.suffix or None}


class JobEvent(Record):
    """What happened in a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"] = "info"
    message: str
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = Field(default_factory=dict)


class Checkpoint(Record):
    """A model that came of a job after so many steps."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int


@dataclass(frozen=True, slots=True)
class Trainable:
    """What jobs may start from, what says whether a file can be learnt from, and how what comes of jobs is opened.

    Attributes:
        bases: names of the models; with none, no job is taken.
        check: returns how many examples a file has; raises ConfigError, naming the line, if it is no such file.
        open_model: opens the engine of a fine-tuned model's folder; may take seconds.
        capabilities: of such engines.
    """

    bases: frozenset[str]
    check: Callable[[Path], int]
    open_model: Callable[[str], ChatEngine]
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a job's model was at the end of an earlier epoch, not yet made into a model that can be served.

    Attributes:
        adapter: folder of what was trained by then.
        onto: of the model that it belongs to.
        step_number: steps that were taken by then.
        metrics: of that moment.
    """

    adapter: str
    onto: str
    step_number: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job's training.

    Attributes:
        path: of the engine's folder; it is served from there.
        source: of the model's folder, from which another job may start.
        trained_tokens: without padding.
        step_number: steps that were taken.
        metrics: of the last one.
        curve: CSV of all steps.
        kept: of the last epochs before the last one, oldest first.
    """

    path: str
    source: str
    trained_tokens: int
    step_number: int
    metrics: Mapping[str, float]
    curve: bytes
    kept: tuple[Kept, ...] = ()


class Purse(Protocol):
    """Keeps a job within its project's budgets; see `bessemer.serve.accounts.gate.Gate`."""

    def reserve_job(self, subject: Subject, most: Usage, /) -> None:
        """Reserve what a job may be charged, or raise what refuses it."""
        ...

    def settle_job(self, id: str, micros: int, /) -> None:
        """Put what it was charged in the reservation's place; 0 releases it."""
        ...

    def release_jobs(self, is_known: Callable[[str], bool], /) -> int:
        """Release what jobs have that were never kept."""
        ...


def job_subject(project: str, job: Job) -> Subject:
    """Return what the tokens that a job was trained on are booked under."""
    return Subject(
        kind="step", id=job.id, name="fine_tuning", project=project, key_id=job.key_id, model=model_name(project, job)
    )


def model_name(project: str, job: Job) -> str:
    """Return ``ft:BASE:PROJECT:SUFFIX:ID``; of a model that was fine-tuned before, the base is its own."""
    base = job.model.split(":")[1] if job.model.startswith("ft:") else job.model
    told = re.sub(r"[^\w.-]+", "-", project, flags=re.ASCII)
    return f"ft:{base}:{told}:{job.suffix}:{job.id.removeprefix('ftjob-')}"
