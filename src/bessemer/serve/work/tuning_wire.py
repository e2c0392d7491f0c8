"""``/v1/fine_tuning/jobs``, and what is refused of ``/v1/fine_tuning`` beside them.

Owns the endpoints and their schema. Source: the published OpenAPI description of OpenAI's API, fine-tuning.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.serve.asking import within_limits
from bessemer.serve.refusals import Refusal, Refused, closed_model, invalid, unsupported
from bessemer.serve.work.desk import Body, Desk, asked, limit_of, listed, told
from bessemer.serve.work.jobs import Hyperparameters, Job
from bessemer.serve.work.records import Wanted, new_id
from bessemer.serve.work.tuning import JobStore

_PAGE = 100
_TRAINERS_TO_COME = ("dpo", "reinforcement")
Auto = Literal["auto"]

_NOT_SERVED = {
    "/v1/fine_tuning/checkpoints/{asked:path}": "Checkpoints are not shared with other projects here, so they have no "
    "permissions. Ask one with a key of its own project, which an administrator can make.",
    "/v1/fine_tuning/alpha/graders/{asked:path}": "There are no graders here: they belong to the method "
    "'reinforcement', which has no trainer yet. Use 'supervised' with a 'validation_file', whose loss each checkpoint "
    "tells.",
}
"""Path -> why nothing is served there, and what to do."""


class AskedHyperparameters(Body):
    """How to train; what is left out is ``auto``."""

    n_epochs: Annotated[int, Field(ge=1, le=1000)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | Auto = "auto"


class Supervised(Body):
    """What there is to say about the method ``supervised``."""

    hyperparameters: AskedHyperparameters | None = None


class Method(Body):
    """By which method; the others have their own fields, which are not read."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None


class AskedJob(Body):
    """A new job."""

    model: Annotated[str, Field(min_length=1, max_length=500)]
    training_file: Annotated[str, Field(min_length=1, max_length=100)]
    validation_file: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    hyperparameters: AskedHyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    metadata: Annotated[dict[str, str] | None, AfterValidator(within_limits)] = None
    integrations: list[Any] | None = None

    def to_job(self, key_id: str, now: float) -> Job:
        """Return the job that is wanted.

        Raises:
            Refused: its method has no trainer here, or it wants to be told elsewhere.
        """
        method = self.method.type if self.method else "supervised"
        if method in _TRAINERS_TO_COME:
            message = f"The method '{method}' has no trainer here yet: it is still to come. Use 'supervised'."
            raise Refused(unsupported("method.type", message))
        if self.integrations:
            raise Refused(unsupported("integrations", "Integrations are not supported here yet; leave them out."))
        by_method = self.method.supervised.hyperparameters if self.method and self.method.supervised else None
        if by_method and self.hyperparameters:
            raise Refused(invalid("hyperparameters", "Give hyperparameters within 'method' or beside it, once."))
        chosen = by_method or self.hyperparameters or AskedHyperparameters()
        return Job(
            id=new_id("ftjob-"),
            created_at=int(now),
            hyperparameters=Hyperparameters(**chosen.model_dump()),
            metadata=self.metadata,
            model=self.model,
            seed=self.seed or 0,
            training_file=self.training_file,
            validation_file=self.validation_file,
            suffix=self.suffix or "",
            key_id=key_id,
        )


class JobDesk:
    """The endpoints of jobs; each sees the key's own project only."""

    def __init__(self, desk: Desk, jobs: JobStore) -> None:
        self._desk, self._jobs = desk, jobs

    def routes(self) -> list[Route]:
        """Return the paths."""
        base, one = "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/{id}"
        return [
            Route(base, self.create, methods=["POST"]),
            Route(base, self.list, methods=["GET"]),
            Route(one, self.get, methods=["GET"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/pause", self.pause, methods=["POST"]),
            Route(f"{one}/resume", self.resume, methods=["POST"]),
            Route(f"{one}/events", self.events, methods=["GET"]),
            Route(f"{one}/checkpoints", self.checkpoints, methods=["GET"]),
            *(Route(path, self.refuse, methods=["GET", "POST", "DELETE"]) for path in _NOT_SERVED),
        ]

    async def create(self, request: Request) -> Response:
        """Take a job."""
        key, body = self._desk.key(request), await self._desk.read(request, AskedJob)
        if not key.may_ask(body.model):
            raise Refused(closed_model(body.model))
        job = body.to_job(key.id, self._jobs.now())
        return told((await asked(self._jobs.create, key.project, job, param="training_file")).told())

    async def list(self, request: Request) -> Response:
        """Return a page, the newest first."""
        project, given = self._desk.key(request).project, request.query_params
        none = given.get("metadata")
        if none not in (None, "null"):
            raise Refused(invalid("metadata", "'metadata' is asked for as 'metadata[key]=value', or as 'null'."))
        pairs = tuple((name[9:-1], value) for name, value in given.items() if name.startswith("metadata["))
        wanted = replace(self._wanted(request), metadata=None if none else pairs)
        page = await asked(self._jobs.page, project, wanted, param="after")
        return listed((job.told() for job in page.items), page.has_more)

    async def get(self, request: Request) -> Response:
        """Return one job."""
        return told((await asked(self._jobs.get, *self._named(request))).told())

    async def cancel(self, request: Request) -> Response:
        """End a job."""
        project, id = self._named(request)
        job = await asked(
            self._jobs.move, project, id, "cancelled", ("queued", "running", "paused"), "The job was cancelled"
        )
        await asked(self._jobs.forget_data, id)
        return told(job.told())

    async def pause(self, request: Request) -> Response:
        """Let a job wait; it keeps its last checkpoint."""
        project, id = self._named(request)
        said = "The job was paused; it goes on at its last checkpoint when it is resumed"
        return told((await asked(self._jobs.move, project, id, "paused", ("queued", "running"), said)).told())

    async def resume(self, request: Request) -> Response:
        """Let a paused job go on."""
        project, id = self._named(request)
        return told((await asked(self._jobs.move, project, id, "queued", ("paused",), "The job was resumed")).told())

    async def events(self, request: Request) -> Response:
        """Return a page of a job's events, the newest first."""
        project, id = self._named(request)
        await asked(self._jobs.get, project, id)  # so that what is said of the page is about the page
        page = await asked(self._jobs.events, project, id, self._wanted(request, id), param="after")
        return listed((event.model_dump(mode="json") for event in page.items), page.has_more)

    async def checkpoints(self, request: Request) -> Response:
        """Return a page of a job's checkpoints, the newest first."""
        project, id = self._named(request)
        await asked(self._jobs.get, project, id)
        page = await asked(self._jobs.checkpoints, project, id, self._wanted(request, id), param="after")
        return listed((each.model_dump(mode="json") for each in page.items), page.has_more)

    async def refuse(self, request: Request) -> Response:
        """Say why nothing is served here."""
        self._desk.key(request)
        message = _NOT_SERVED[request.scope["route"].path]
        raise Refused(Refusal(404, message, "unsupported_endpoint"))

    def _named(self, request: Request) -> tuple[str, str]:
        return self._desk.key(request).project, request.path_params["id"]

    def _wanted(self, request: Request, parent: str = "") -> Wanted:
        return Wanted(after=request.query_params.get("after", ""), limit=limit_of(request, 20, _PAGE), parent=parent)
