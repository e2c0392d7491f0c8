"""``/v1/chat/completions`` and the answers that were stored: listed, read, described, deleted, for their project only.

Owns the endpoints. The store has its own module.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.errors import NotFound, Unsupported
from bessemer.serve.asking import Wire, within_limits
from bessemer.serve.door import authenticate, read_body
from bessemer.serve.keys import Key
from bessemer.serve.refusals import KEEPS_NOTHING, Refusal, Refused, invalid, of_validation
from bessemer.serve.serving import Floor
from bessemer.serve.wire.store import AnswerStore, Kind, Wanted

_MOST = 100


class AskedMetadata(Wire):
    """What a client says about an answer, instead of what it said before."""

    metadata: Annotated[dict[str, str] | None, AfterValidator(within_limits)] = None


class StoredDesk:
    """The endpoints of stored chat completions; each sees the key's own project only."""

    def __init__(self, floor: Floor, store: AnswerStore) -> None:
        self._floor, self._store = floor, store

    def routes(self) -> list[Route]:
        """Return the paths."""
        path = "/v1/chat/completions"
        return [
            Route(path, self.list, methods=["GET"]),
            Route(path + "/{id}", self.get, methods=["GET"]),
            Route(path + "/{id}", self.describe, methods=["POST"]),
            Route(path + "/{id}", self.delete, methods=["DELETE"]),
            Route(path + "/{id}/messages", self.messages, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return a page, the oldest first unless `order` is ``desc``."""
        key, given = self._key(request), request.query_params
        limit, newest_first = page_of(request)
        metadata = {
            name.removeprefix("metadata[").removesuffix("]"): value
            for name, value in given.items()
            if name.startswith("metadata[")
        }
        wanted = Wanted(
            model=given.get("model", ""),
            metadata=metadata,
            after=given.get("after", ""),
            limit=limit,
            newest_first=newest_first,
        )
        found, more = await asked(self._store.page, key.project, "chat.completion", wanted, param="after")
        return listed([stored.body for stored in found], more)

    async def get(self, request: Request) -> Response:
        """Return one answer."""
        stored = await asked(self._store.get, self._key(request).project, *_named(request))
        return _json(stored.body)

    async def describe(self, request: Request) -> Response:
        """Replace the metadata of one answer."""
        key, config = self._key(request), self._floor.config
        body = await read_body(request.scope, request.receive, config.max_body_bytes, config.body_timeout_seconds)
        try:
            given = AskedMetadata.model_validate_json(body)
        except ValidationError as error:
            raise Refused(of_validation(error, AskedMetadata)) from None
        stored = await asked(self._store.describe, key.project, *_named(request), given.metadata or {})
        return _json(stored.body)

    async def delete(self, request: Request) -> Response:
        """Forget one answer."""
        kind, id = _named(request)
        await asked(self._store.delete, self._key(request).project, kind, id)
        return _json({"object": "chat.completion.deleted", "id": id, "deleted": True})

    async def messages(self, request: Request) -> Response:
        """Return the messages that one answer was asked with."""
        kind, id = _named(request)
        stored = await asked(self._store.get, self._key(request).project, kind, id)
        limit, newest_first = page_of(request)
        said = [{"id": f"{id}-{number}", **message} for number, message in enumerate(stored.said)]
        return page(said[::-1] if newest_first else said, request.query_params.get("after", ""), limit)

    def _key(self, request: Request) -> Key:
        return authenticate(self._floor.keys, request.scope)


async def asked(ask: Any, *what: Any, param: str = "id") -> Any:
    """Return what the store says, asked in a thread.

    Raises:
        Refused: the project has no such answer; `param` is the field that named it.
    """
    try:
        return await run_in_threadpool(ask, *what)
    except NotFound as error:
        message = "There is no such stored answer; only those asked with 'store': true are kept."
        raise Refused(Refusal(404, message, "answer_not_found", param)) from error


async def permitted(store: AnswerStore, project: str) -> None:
    """Do nothing, if answers of a project may be kept.

    Raises:
        Refused: they may not.
    """
    try:
        await run_in_threadpool(store.permit, project)
    except Unsupported as error:
        raise Refused(KEEPS_NOTHING) from error


def page_of(request: Request) -> tuple[int, bool]:
    """Return how many are wanted, and whether the newest come first."""
    limit, order = request.query_params.get("limit", "20"), request.query_params.get("order", "asc")
    if not limit.isdecimal() or len(limit) > 4 or not 1 <= int(limit) <= _MOST:
        raise Refused(invalid("limit", f"'limit' is a number from 1 to {_MOST}."))
    if order not in ("asc", "desc"):
        raise Refused(invalid("order", "'order' is asc or desc."))
    return int(limit), order == "desc"


def page(items: list[dict[str, Any]], after: str, limit: int) -> Response:
    """Return the items after the one of that id, at most so many, as a list of the wire."""
    if after:
        places = [number for number, item in enumerate(items) if item["id"] == after]
        if not places:
            raise Refused(invalid("after", "'after' is the id of nothing in this list."))
        items = items[places[0] + 1 :]
    return listed(items[:limit], len(items) > limit)


def listed(items: list[dict[str, Any]], more: bool) -> Response:
    """Return a list of the wire."""
    ends = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return _json({"object": "list", "data": items, "first_id": ends[0], "last_id": ends[1], "has_more": more})


def _named(request: Request) -> tuple[Kind, str]:
    return "chat.completion", request.path_params["id"]


def _json(value: Any) -> Response:
    return Response(json.dumps(value), media_type="application/json")
