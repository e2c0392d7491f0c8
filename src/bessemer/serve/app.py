"""The ASGI app: who may call what, within which limits, and how every error looks.

Owns routes, admission and headers. What an answer is stands in `chat.py`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bessemer.core.protocols import Meter
from bessemer.serve import chat
from bessemer.serve.config import GatewayConfig
from bessemer.serve.failures import Refusal, from_validation, parse
from bessemer.serve.keys import Key, KeyStore
from bessemer.serve.page import landing_page
from bessemer.serve.wire import ChatBody


@dataclass
class Gateway:
    """What the routes share. `running` counts answers in the making; `stopping` refuses new ones."""

    config: GatewayConfig
    engines: Mapping[str, chat.ChatEngine]
    keys: KeyStore
    meter: Meter
    running: int = 0
    stopping: bool = False
    began: int = field(default_factory=lambda: int(time.time()))

    async def authenticate(self, request: Request) -> Key:
        """Return the caller's key.

        Raises:
            Refusal: there is none, or it is no good (any more).
        """
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Refusal(401, "No key was sent. Send 'Authorization: Bearer <key>'.", code="missing_api_key")
        key = await asyncio.to_thread(self.keys.verify, secret.strip())
        if key is None:
            hint = "Make one with: bessemer keys create --project NAME"
            raise Refusal(401, f"The key is wrong, has expired or was revoked. {hint}", code="invalid_api_key")
        return key

    def engine(self, model: str) -> chat.ChatEngine:
        """Return the engine of a model.

        Raises:
            Refusal: nothing here has that name.
        """
        if model not in self.engines:
            known = ", ".join(sorted(self.engines))
            raise Refusal(
                404, f"The model '{model}' does not exist here. Served: {known}", param="model", code="model_not_found"
            )
        return self.engines[model]

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Hold a place while an answer is made.

        Raises:
            Refusal: all places are taken, or the gateway is stopping.
        """
        if self.stopping:
            raise Refusal(503, "The gateway is stopping.", code="shutting_down", headers={"retry-after": "5"})
        if self.running >= self.config.max_concurrent_requests:
            said = f"{self.running} answers are in the making; come back in a moment."
            raise Refusal(429, said, code="rate_limit_exceeded", headers={"retry-after": "1"})
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    async def chat_completions(self, request: Request) -> Response:
        """Answer POST /v1/chat/completions."""
        key = await self.authenticate(request)
        body = ChatBody.model_validate(parse(await _bounded(request, self.config.max_body_bytes)))
        engine, ask = self.engine(body.model), body.request(self.config)
        if body.logprobs and "logprobs" not in engine.capabilities:
            raise Refusal(400, f"'{body.model}' has no logprobs.", param="logprobs", code="unsupported_parameter")
        answer = chat.Answer(self.meter, chat.new_subject(request.state.id, key, body.model))
        seconds = self.config.request_timeout_seconds
        if body.stream:
            return _Admitted(self, answer, chat.Stream(engine, body, ask, answer, seconds))
        async with self.admitted():
            await answer.open()
            return await chat.whole(request, engine, body, ask, answer, seconds)

    async def models(self, request: Request) -> Response:
        """Answer GET /v1/models."""
        await self.authenticate(request)
        return JSONResponse({"object": "list", "data": [self._model(name) for name in sorted(self.engines)]})

    async def model(self, request: Request) -> Response:
        """Answer GET /v1/models/{id}."""
        await self.authenticate(request)
        name = request.path_params["name"]
        self.engine(name)
        return JSONResponse(self._model(name))

    async def landing(self, request: Request) -> Response:
        """Answer GET / for a person with a browser."""
        return HTMLResponse(landing_page(str(request.base_url).rstrip("/"), sorted(self.engines)))

    async def alive(self, request: Request) -> Response:
        """Answer GET /healthz: the process runs."""
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        """Answer GET /readyz: new requests are taken."""
        return PlainTextResponse("stopping\n", 503) if self.stopping else PlainTextResponse("ready\n")

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self.began, "owned_by": "bessemer"}


class _Admitted(Response):
    """A streamed response that holds a place, and a span of the meter, for as long as it is being sent."""

    def __init__(self, gateway: Gateway, answer: chat.Answer, stream: chat.Stream) -> None:
        super().__init__()
        self._gateway, self._answer, self._stream = gateway, answer, stream

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._stream.raw_headers += [pair for pair in self.raw_headers if pair[0].startswith(b"x-")]
        async with self._gateway.admitted():
            await self._answer.open()
            await self._stream(scope, receive, send)


async def _bounded(request: Request, limit_bytes: int) -> bytes:
    """Return the body, refusing it as soon as it is too large: by its announced length, else while it is read."""
    said = f"The body is larger than {limit_bytes:,} bytes."
    if int(request.headers.get("content-length") or 0) > limit_bytes:
        raise Refusal(413, said, code="request_too_large", headers={"connection": "close"})
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > limit_bytes:
            raise Refusal(413, said, code="request_too_large", headers={"connection": "close"})
    return bytes(found)


class _Named:
    """Middleware: every answer gets x-request-id and openai-processing-ms."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, name = time.perf_counter(), f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["id"] = name

        async def named(message: Any) -> None:
            if message["type"] == "http.response.start":
                spent = f"{(time.perf_counter() - began) * 1000:.0f}".encode()
                extra = [(b"x-request-id", name.encode()), (b"openai-processing-ms", spent)]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self.app(scope, receive, named)


async def _refuse(request: Request, error: Exception) -> Response:
    refusal = error if isinstance(error, Refusal) else _as_refusal(error)
    return JSONResponse(refusal.body(), refusal.status, headers=refusal.headers)


def _as_refusal(error: Exception) -> Refusal:
    if isinstance(error, ValidationError):
        return from_validation(error)
    if isinstance(error, HTTPException):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        return Refusal(error.status_code, error.detail, code=code, headers=dict(error.headers or {}))
    return Refusal(500, "The gateway failed. The operator's log has the cause.", code="internal_error")


Handler = Callable[[Request], Awaitable[Response]]


def build_app(gateway: Gateway) -> Starlette:
    """Return the app of a gateway; the gateway itself is at `app.state.gateway`."""
    routes: list[tuple[str, Handler, str]] = [
        ("/", gateway.landing, "GET"),
        ("/healthz", gateway.alive, "GET"),
        ("/readyz", gateway.ready, "GET"),
        ("/v1/models", gateway.models, "GET"),
        ("/v1/models/{name:path}", gateway.model, "GET"),
        ("/v1/chat/completions", gateway.chat_completions, "POST"),
    ]
    app = Starlette(
        routes=[Route(path, handler, methods=[method]) for path, handler, method in routes],
        exception_handlers=dict.fromkeys((Refusal, ValidationError, HTTPException, Exception), _refuse),
    )
    app.add_middleware(_Named)
    app.state.gateway = gateway
    return app
