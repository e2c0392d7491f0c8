"""``/v1/feedback``: our own, as OpenAI's wire has none. Ids, pages and errors look like its other lists.

Owns the endpoints. The store has its own module.
"""

from __future__ import annotations

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.errors import NotFound, Unsupported
from bessemer.serve.config import GatewayConfig
from bessemer.serve.door import authenticate, read_body
from bessemer.serve.feedback import FeedbackStore, Said
from bessemer.serve.keys import KeyStore
from bessemer.serve.refusals import NO_WORDS, Refusal, Refused, invalid, of_validation
from bessemer.serve.webhooks import WebhookStore

_MOST = 100


class FeedbackDesk:
    """The endpoints of feedback; each sees the key's own project only."""

    def __init__(
        self, config: GatewayConfig, keys: KeyStore, store: FeedbackStore, webhooks: WebhookStore | None = None
    ) -> None:
        self._config, self._keys, self._store, self._webhooks = config, keys, store, webhooks

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("/v1/feedback", self.create, methods=["POST"]),
            Route("/v1/feedback", self.list, methods=["GET"]),
            Route("/v1/feedback/{id}", self.get, methods=["GET"]),
            Route("/v1/feedback/{id}", self.delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """Keep what a user says of an answer."""
        key, config = authenticate(self._keys, request.scope), self._config
        body = await read_body(request.scope, request.receive, config.max_body_bytes, config.body_timeout_seconds)
        try:
            said = Said.model_validate_json(body)
        except ValidationError as error:
            raise Refused(of_validation(error, Said)) from None
        try:
            kept = await run_in_threadpool(self._store.add, key.project, said)
        except NotFound as error:
            raise Refused(Refusal(404, "There is no such answer.", "answer_not_found", "target")) from error
        except Unsupported as error:
            raise Refused(NO_WORDS) from error
        if self._webhooks:
            told = {"id": kept.id, "target": kept.target}
            await run_in_threadpool(self._webhooks.emit, key.project, "feedback.created", told)
        return Response(kept.model_dump_json(), media_type="application/json")

    async def list(self, request: Request) -> Response:
        """Return a page, the newest first."""
        key, given = authenticate(self._keys, request.scope), request.query_params
        limit = given.get("limit", "20")
        if not limit.isdecimal() or len(limit) > 4 or not 1 <= int(limit) <= _MOST:
            raise Refused(invalid("limit", f"'limit' is a number from 1 to {_MOST}."))
        wanted = given.get("target", ""), given.get("after", ""), int(limit)
        try:
            page = await run_in_threadpool(self._store.page, key.project, *wanted)
        except NotFound as error:
            raise Refused(_unknown("after")) from error
        return Response(page.model_dump_json(), media_type="application/json")

    async def get(self, request: Request) -> Response:
        """Return one piece of feedback."""
        key = authenticate(self._keys, request.scope)
        try:
            found = await run_in_threadpool(self._store.get, key.project, request.path_params["id"])
        except NotFound as error:
            raise Refused(_unknown("id")) from error
        return Response(found.model_dump_json(), media_type="application/json")

    async def delete(self, request: Request) -> Response:
        """Forget one piece of feedback."""
        key, id = authenticate(self._keys, request.scope), request.path_params["id"]
        try:
            await run_in_threadpool(self._store.delete, key.project, id)
        except NotFound as error:
            raise Refused(_unknown("id")) from error
        body = f'{{"id":"{id}","object":"feedback.deleted","deleted":true}}'
        return Response(body, media_type="application/json")


def _unknown(param: str) -> Refusal:
    return Refusal(404, "There is no such feedback.", "feedback_not_found", param)
