"""What is around every answer: its id, its headers, and one form for everything that goes wrong.

Owns headers and errors. Knows no endpoint. What it logs are ids, kinds of errors and places in the code, never a
message: those may hold what a client wrote.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bessemer.core.errors import BessemerError
from bessemer.serve.ids import new_id
from bessemer.serve.observing import parent
from bessemer.serve.refusals import AMBIGUOUS, Refusal, Refused, failed, of_engine
from bessemer.serve.telling import event

logger = logging.getLogger("bessemer.serve")

_LAST_WORDS_SECONDS = 1.0

EVENT_STREAM = b"text/event-stream; charset=utf-8"
Headers = list[tuple[bytes, bytes]]


class Envelope:
    """ASGI middleware around all endpoints.

    Args:
        app: raises `Refused`, or anything else when it fails.
        clock: any seconds; only differences are used.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        request_id = new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        parent.set(next((v.decode("latin-1") for name, v in scope["headers"] if name == b"traceparent"), ""))
        sent: list[Message] = []  # the start of the response, once it has left

        async def enveloped(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.append(message)
                milliseconds = round((self._clock() - began) * 1000)
                message = {**message, "headers": [*_headers(message, request_id, milliseconds), *_told(scope)]}
            await send(message)

        try:
            if _has_two_lengths(scope):
                raise Refused(AMBIGUOUS)
            await self._app(scope, receive, enveloped)
        except Exception as error:
            refusal = explained(error, request_id)
            body = scope["state"].get("write_refusal", Refusal.body)(refusal)  # some wires have a form of their own
            if not sent:
                await respond(enveloped, body, refusal.status, refusal.headers)
            elif (b"content-type", EVENT_STREAM) in sent[0]["headers"]:
                with suppress(TimeoutError):  # a client that stopped reading will not read this either
                    async with asyncio.timeout(_LAST_WORDS_SECONDS):
                        words = scope["state"].get("error_event", b"") + event(body.decode())
                        await send({"type": "http.response.body", "body": words})


def explained(error: Exception, request_id: str) -> Refusal:
    """Return what the client is told about an error; what is not the client's doing is logged."""
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, BessemerError) and (refusal := of_engine(error)):
        if refusal.status >= 429:
            logger.warning("request %s was refused: %s", request_id, refusal.code)
        return refusal
    places = "".join(traceback.format_tb(error.__traceback__))
    causes = [type(error).__name__]
    cause = error.__cause__
    while cause and len(causes) < 5:
        causes.append(type(cause).__name__)
        cause = cause.__cause__
    logger.error("request %s failed: %s\n%s", request_id, " from ".join(causes), places)
    return failed(request_id)


async def respond(
    send: Send,
    body: bytes,
    status: int = 200,
    headers: tuple[tuple[str, str], ...] = (),
    kind: str = "application/json",
) -> None:
    """Send a whole response."""
    raw: Headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    raw += [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _headers(start: Message, request_id: str, milliseconds: int) -> Headers:
    return [
        *cast(Headers, start.get("headers", [])),
        (b"x-request-id", request_id.encode()),
        (b"openai-processing-ms", str(milliseconds).encode()),
        (b"openai-version", b"2020-10-01"),
        (b"x-content-type-options", b"nosniff"),
    ]


def _told(scope: Scope) -> Headers:
    """Return what an endpoint adds to any answer of its own: where the rate limits are."""
    return [(name.encode(), value.encode()) for name, value in scope["state"].get("headers", ())]


def _has_two_lengths(scope: Scope) -> bool:
    """Whether a proxy before us could have read another length: that is how requests are smuggled."""
    names = [name for name, _ in scope["headers"] if name in (b"content-length", b"transfer-encoding")]
    return len(names) > 1
