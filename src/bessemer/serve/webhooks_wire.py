"""``/v1/webhook_endpoints``: who is told of what, on OpenAI's wire.

Owns the endpoints and their schema. Source: the published OpenAPI description of OpenAI's API.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.errors import ConfigError, NotFound, Unsupported
from bessemer.serve.config import GatewayConfig
from bessemer.serve.door import authenticate, read_body
from bessemer.serve.keys import KeyStore
from bessemer.serve.refusals import Refusal, Refused, invalid, of_validation
from bessemer.serve.webhook_sender import Sender, check_url
from bessemer.serve.webhooks import EVENT_TYPES, WebhookStore

_MOST = 100
T = TypeVar("T", bound=BaseModel)
R = TypeVar("R")


def _known(event_type: str) -> str:
    if event_type not in EVENT_TYPES:
        raise PydanticCustomError("event_type", "there is no such event here; there are: {known}",
                                  {"known": ", ".join(EVENT_TYPES)})  # fmt: skip
    return event_type


EventType = Annotated[str, AfterValidator(_known)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Created(_Body):
    """A new endpoint."""

    name: Name
    url: Url
    event_types: EventTypes


class Updated(_Body):
    """What is to be changed."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None


class Rotated(_Body):
    """Whether the old secret stays valid for a day."""

    keep_old_secret_active_for_24_hours: bool = False


class Tested(_Body):
    """Which event is made up."""

    event_type: EventType


class WebhookDesk:
    """The endpoints of webhooks; each sees the key's own project only."""

    def __init__(self, config: GatewayConfig, keys: KeyStore, store: WebhookStore, sender: Sender) -> None:
        self._config, self._keys, self._store, self._sender = config, keys, store, sender

    def routes(self) -> list[Route]:
        """Return the paths."""
        base, one = "/v1/webhook_endpoints", "/v1/webhook_endpoints/{id}"
        return [
            Route("/v1/webhook_event_types", self.types, methods=["GET"]),
            Route(base, self.create, methods=["POST"]),
            Route(base, self.list, methods=["GET"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/rotate_secret", self.rotate, methods=["POST"]),
            Route(f"{one}/test", self.test, methods=["POST"]),
        ]

    async def types(self, request: Request) -> Response:
        """Return the events that there are."""
        self._project(request)
        return _told({"object": "list", "data": list(EVENT_TYPES)})

    async def create(self, request: Request) -> Response:
        """Make an endpoint."""
        project, asked = self._project(request), await self._read(request, Created)
        await self._check(asked.url)
        made = await _found(lambda: self._store.create(project, asked.name, asked.url, asked.event_types))
        return _told(made.model_dump())

    async def list(self, request: Request) -> Response:
        """Return a page, the newest first."""
        project, given = self._project(request), request.query_params
        limit = given.get("limit", "20")
        if not limit.isdecimal() or len(limit) > 4 or not 1 <= int(limit) <= _MOST:
            raise Refused(invalid("limit", f"'limit' is a number from 1 to {_MOST}."))
        data, more = await _found(lambda: self._store.page(project, given.get("after", ""), int(limit)))
        ends = {"first_id": data[0].id, "last_id": data[-1].id} if data else {"first_id": None, "last_id": None}
        return _told({"object": "list", "data": [each.model_dump() for each in data], **ends, "has_more": more})

    async def get(self, request: Request) -> Response:
        """Return one endpoint."""
        project, id = self._project(request), request.path_params["id"]
        return _told((await _found(lambda: self._store.get(project, id))).model_dump())

    async def update(self, request: Request) -> Response:
        """Change an endpoint."""
        project, id, asked = self._project(request), request.path_params["id"], await self._read(request, Updated)
        if asked.url is not None:
            await self._check(asked.url)
        changes = asked.model_dump(exclude_none=True)
        return _told((await _found(lambda: self._store.update(project, id, changes))).model_dump())

    async def delete(self, request: Request) -> Response:
        """Forget an endpoint."""
        project, id = self._project(request), request.path_params["id"]
        await _found(lambda: self._store.delete(project, id))
        return _told({"id": id, "object": "webhook_endpoint.deleted", "deleted": True})

    async def rotate(self, request: Request) -> Response:
        """Give an endpoint a new secret."""
        project, id, asked = self._project(request), request.path_params["id"], await self._read(request, Rotated)
        keep = asked.keep_old_secret_active_for_24_hours
        return _told((await _found(lambda: self._store.rotate(project, id, keep))).model_dump())

    async def test(self, request: Request) -> Response:
        """Send a made-up event now and tell what came back."""
        project, id, asked = self._project(request), request.path_params["id"], await self._read(request, Tested)
        sample = await _found(lambda: self._store.sample(project, id, asked.event_type))
        try:
            status = await run_in_threadpool(self._sender.send, sample)
        except Unsupported as error:
            raise Refused(invalid("url", f"{error.message[:1].upper()}{error.message[1:]}.")) from error
        except OSError as error:
            raise Refused(Refusal(424, "The endpoint did not answer.", "endpoint_unreachable", "url")) from error
        told = {"webhook_endpoint_id": id, "event_type": asked.event_type, "status_code": status, "success": True}
        return _told({"object": "webhook_endpoint.test", **told})

    def _project(self, request: Request) -> str:
        return authenticate(self._keys, request.scope).project

    async def _check(self, url: str) -> None:
        try:
            await run_in_threadpool(check_url, url, self._config.private_webhooks)
        except Unsupported as error:
            raise Refused(invalid("url", f"{error.message[:1].upper()}{error.message[1:]}.")) from error

    async def _read(self, request: Request, model: type[T]) -> T:
        config = self._config
        body = await read_body(request.scope, request.receive, config.max_body_bytes, config.body_timeout_seconds)
        try:
            return model.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise Refused(of_validation(error, model)) from None


async def _found(work: Callable[[], R]) -> R:
    try:
        return await run_in_threadpool(work)
    except NotFound as error:
        what = Refusal(404, "There is no such webhook endpoint.", "webhook_endpoint_not_found", "webhook_endpoint_id")
        raise Refused(what) from error
    except ConfigError as error:
        raise Refused(Refusal(400, f"Invalid name or url: {error.message}. {error.hint}", "invalid_value")) from error


def _told(found: dict[str, Any]) -> Response:
    return Response(json.dumps(found), media_type="application/json")
