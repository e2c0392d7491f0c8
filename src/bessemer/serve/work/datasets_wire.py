"""``/v1/datasets``: jobs that make synthetic rows from a client's tables or a dataset of the factory, or write texts.

Owns the endpoints and their schema; OpenAI's wire has no such thing, so lists, errors and files are as its others are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from threading import Event
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.serve.asking import within_limits
from bessemer.serve.refusals import TOO_MANY_PREVIEWS, TOO_SLOW, Refused, closed_model
from bessemer.serve.traffic import Traffic
from bessemer.serve.work.datasets import Dataset, DatasetStore, Format
from bessemer.serve.work.desk import Body, Desk, asked, limit_of, listed, told
from bessemer.serve.work.records import Wanted, new_id

_PAGE = 100
_PREVIEW_ROWS = 20
_PREVIEWS = 2
"""Of tables, and as many of texts, that may be under way: each holds one of the threads that all endpoints share, while
a table is learnt or a model writes."""
TableName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]


class AskedDataset(Body):
    """A new dataset: of `tables` (table -> id of an uploaded file), of `model` (one of the factory's), or `texts`.

    `texts` is what a served model writes, declared as in a factory; `tables` are then what it is given, and what it is
    held against.
    """

    tables: Annotated[dict[TableName, str], Field(max_length=20)] = Field(default_factory=dict)
    model: Annotated[str, Field(max_length=500)] = ""
    rows: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    format: Format | None = None
    declaration: dict[str, Any] = Field(default_factory=dict)
    texts: dict[str, Any] | None = None
    metadata: Annotated[dict[str, str] | None, AfterValidator(within_limits)] = None

    def to_job(self, key_id: str, now: float) -> Dataset:
        """Return the job that is wanted."""
        fields = self.model_dump()
        fields.pop("preview_rows", None)
        fields["format"] = self.format or ("csv" if self.texts is None else "jsonl")
        return Dataset(id=new_id("dataset-"), created_at=int(now), key_id=key_id, **fields)


class AskedPreview(AskedDataset):
    """A look at a few rows."""

    preview_rows: Annotated[int, Field(ge=1, le=_PREVIEW_ROWS)] = 5


T = TypeVar("T", bound=AskedDataset)


class DatasetDesk:
    """The endpoints of datasets; each sees the key's own project only."""

    def __init__(self, desk: Desk, traffic: Traffic, datasets: DatasetStore) -> None:
        self._desk, self._traffic, self._datasets = desk, traffic, datasets
        self._under_way = Counter[bool]()

    def routes(self) -> list[Route]:
        """Return the paths."""
        base, one = "/v1/datasets", "/v1/datasets/{id}"
        return [
            Route(base, self.create, methods=["POST"]),
            Route(base, self.list, methods=["GET"]),
            Route(f"{base}/preview", self.preview, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Take a job."""
        project, job, _ = await self._asked(request, AskedDataset)
        return told((await asked(self._datasets.create, project, job, param="tables")).told())

    async def preview(self, request: Request) -> Response:
        """Return a few rows at once; nothing is kept or judged, and only what a model wrote is billed."""
        project, job, body = await self._asked(request, AskedPreview)
        with self._traffic.visit() as visit:
            work, gone = self._begun(project, job, body.preview_rows)
            with visit.watched(request.receive, self._desk.config.request_timeout_seconds):
                try:
                    found = await asyncio.shield(work)
                except TimeoutError:
                    raise Refused(TOO_SLOW) from None
                finally:
                    gone.set()
        return told({"object": "dataset.preview", **found})

    def _begun(self, project: str, job: Dataset, rows: int) -> tuple[asyncio.Future[Mapping[str, Any]], Event]:
        """Return a preview that a thread works on, and what tells it that nobody waits; it has room until it ends."""
        writes, gone = job.texts is not None, Event()
        if self._under_way[writes] >= _PREVIEWS:
            raise Refused(TOO_MANY_PREVIEWS)

        def ended(work: asyncio.Future[Mapping[str, Any]]) -> None:
            self._under_way[writes] -= 1
            if not work.cancelled():
                work.exception()  # nobody may be left to hear it

        self._under_way[writes] += 1
        work = asyncio.ensure_future(asked(self._datasets.preview, project, job, rows, gone, param="tables"))
        work.add_done_callback(ended)
        return work, gone

    async def list(self, request: Request) -> Response:
        """Return a page, the newest first."""
        wanted = Wanted(after=request.query_params.get("after", ""), limit=limit_of(request, 20, _PAGE))
        page = await asked(self._datasets.page, self._desk.key(request).project, wanted, param="after")
        return listed((job.told() for job in page.items), page.has_more)

    async def get(self, request: Request) -> Response:
        """Return one dataset."""
        return told((await asked(self._datasets.get, *self._named(request))).told())

    async def cancel(self, request: Request) -> Response:
        """End a job."""
        project, id = self._named(request)
        job = await asked(self._datasets.move, project, id, "cancelled", ("queued", "running"))
        await asked(self._datasets.forget, id)
        return told(job.told())

    async def _asked(self, request: Request, model: type[T]) -> tuple[str, Dataset, T]:
        key, body = self._desk.key(request), await self._desk.read(request, model)
        for name in (body.model, str((body.texts or {}).get("model") or "")):
            if name and not key.may_ask(name):
                raise Refused(closed_model(name))
        return key.project, body.to_job(key.id, self._datasets.now()), body

    def _named(self, request: Request) -> tuple[str, str]:
        return self._desk.key(request).project, request.path_params["id"]
