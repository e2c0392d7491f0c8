"""``/v1/batches``.

Owns the endpoints and their schema. Source: the published OpenAPI description of OpenAI's API, batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.serve.asking import within_limits
from bessemer.serve.work.batches import WINDOW_SECONDS, Batch, BatchStore
from bessemer.serve.work.desk import Body, Desk, asked, limit_of, listed, told
from bessemer.serve.work.files_wire import ExpiresAfter
from bessemer.serve.work.records import Wanted, new_id

_PAGE = 100


class AskedBatch(Body):
    """A new batch."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=100)]
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[str, str] | None, AfterValidator(within_limits)] = None
    output_expires_after: ExpiresAfter | None = None


class BatchDesk:
    """The endpoints of batches; each sees the key's own project only.

    Args:
        desk: what endpoints share.
        batches: of all projects.
        wake: is called when there is something new to do.
    """

    def __init__(self, desk: Desk, batches: BatchStore, wake: Callable[[], None]) -> None:
        self._desk, self._batches, self._wake = desk, batches, wake

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("/v1/batches", self.create, methods=["POST"]),
            Route("/v1/batches", self.list, methods=["GET"]),
            Route("/v1/batches/{id}", self.get, methods=["GET"]),
            Route("/v1/batches/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Take a batch."""
        key, body = self._desk.key(request), await self._desk.read(request, AskedBatch)
        now = int(self._batches.now())
        batch = Batch(
            id=new_id("batch_"),
            endpoint=body.endpoint,
            input_file_id=body.input_file_id,
            created_at=now,
            expires_at=now + WINDOW_SECONDS,
            metadata=body.metadata,
            key_id=key.id,
            output_expires_after_seconds=body.output_expires_after.seconds if body.output_expires_after else None,
        )
        made = await asked(self._batches.create, key.project, batch, param="input_file_id")
        self._wake()
        return told(made.told())

    async def list(self, request: Request) -> Response:
        """Return a page, the newest first."""
        wanted = Wanted(after=request.query_params.get("after", ""), limit=limit_of(request, 20, _PAGE))
        page = await asked(self._batches.page, self._desk.key(request).project, wanted, param="after")
        return listed((batch.told() for batch in page.items), page.has_more)

    async def get(self, request: Request) -> Response:
        """Return one batch."""
        project = self._desk.key(request).project
        return told((await asked(self._batches.get, project, request.path_params["id"])).told())

    async def cancel(self, request: Request) -> Response:
        """Let no more lines of a batch begin."""
        project = self._desk.key(request).project
        batch = await asked(self._batches.cancel, project, request.path_params["id"])
        self._wake()
        return told(batch.told())
