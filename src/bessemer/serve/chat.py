"""``POST /v1/chat/completions``: a conversation in, a metered answer out, whole or as a stream.

The last byte of an answer leaves after its entry is on disk. Each piece is sent before the next one is taken from the
engine, so a slow client holds back its own answer and nothing piles up here.

Owns the order of things. The schema, the meter, the limits and the errors have their own modules.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from starlette.types import Receive, Scope, Send

from bessemer.core.errors import BackendError
from bessemer.core.nouns import ChatRequest, Completion, Delta, Subject
from bessemer.core.protocols import Engine
from bessemer.serve.accounts.gate import Gate, let_in
from bessemer.serve.asking import Asked, read_asked
from bessemer.serve.booking import Bookkeeper, Span
from bessemer.serve.config import GatewayConfig
from bessemer.serve.door import authenticate, read_body
from bessemer.serve.envelope import EVENT_STREAM, respond
from bessemer.serve.keys import KeyStore
from bessemer.serve.refusals import STOPPING, Refused, unknown_model
from bessemer.serve.telling import Teller
from bessemer.serve.traffic import Traffic

ChatEngine = Engine[ChatRequest, Completion, Delta]

_STREAM_HEADERS = [
    (b"content-type", EVENT_STREAM),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # asks proxies not to collect the events
]


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that was let in."""

    asked: Asked
    engine: ChatEngine
    request: ChatRequest
    teller: Teller


class ChatEndpoint:
    """ASGI application of the endpoint.

    Args:
        config: the limits.
        engines: by the model names that clients use.
        keys: who may come in.
        bookkeeper: meters each answer.
        traffic: counts and ends requests.
        clock: gives Unix seconds.
        gate: keeps requests within their limits and budgets; None has none.
    """

    def __init__(
        self,
        config: GatewayConfig,
        engines: Mapping[str, ChatEngine],
        keys: KeyStore,
        bookkeeper: Bookkeeper,
        traffic: Traffic,
        clock: Callable[[], float] = time.time,
        gate: Gate | None = None,
    ) -> None:
        self._config = config
        self._engines = engines
        self._keys = keys
        self._bookkeeper = bookkeeper
        self._traffic = traffic
        self._clock = clock
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Refused: it gets no answer, or no whole one.
        """
        key = authenticate(self._keys, scope)
        request_id: str = scope["state"]["request_id"]
        config = self._config
        with self._traffic.visit() as visit:
            body = await read_body(scope, receive, config.max_body_bytes, config.body_timeout_seconds)
            asked = read_asked(body)
            call = self._let_in(asked, request_id)
            subject = Subject(kind="request", id=request_id, project=key.project, key_id=key.id, model=asked.model)
            held = let_in(self._gate, key, subject, len(body), call.request.sampling.max_output_tokens)
            with visit.watched(receive, config.request_timeout_seconds):
                stopped = partial(visit.status, streamed=bool(asked.stream))
                async with (
                    held,
                    self._bookkeeper.span(subject, stopped) as span,
                    aclosing(_pieces(call)) as pieces,
                ):
                    held.seen, scope["state"]["headers"] = span.watch.seen, held.headers
                    await (self._stream if asked.stream else self._whole)(call, pieces, span, send)

    def _let_in(self, asked: Asked, request_id: str) -> _Call:
        engine = self._engines.get(asked.model)
        if engine is None:
            raise Refused(unknown_model(asked.model))
        teller = Teller(
            request_id.replace("req_", "chatcmpl-"),
            int(self._clock()),
            asked.model,
            asked.wants_usage,
            bool(asked.logprobs),
        )
        return _Call(asked, engine, asked.to_request(engine.capabilities, self._config), teller)

    async def _whole(self, call: _Call, pieces: AsyncIterator[Delta], span: Span, send: Send) -> None:
        taken = []
        async for piece in pieces:
            span.watch.piece()
            span.usage = piece.usage or span.usage
            taken.append(piece)
        reason = span.watch.seen.finish_reason = self._finish(taken[-1] if taken else None)
        entry = await span.book("ok")
        await respond(send, call.teller.whole(taken, reason, entry))

    async def _stream(self, call: _Call, pieces: AsyncIterator[Delta], span: Span, send: Send) -> None:
        last: Delta | None = None
        async for piece in pieces:
            span.watch.piece()
            span.usage = piece.usage or span.usage
            body = call.teller.piece(piece)
            if last is None:  # headers wait for the engine, so that what it refuses still gets its HTTP status
                await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
                body = call.teller.first() + body
            last = piece
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
        reason = span.watch.seen.finish_reason = self._finish(last)
        entry = await span.book("ok")
        await send({"type": "http.response.body", "body": call.teller.last(reason, entry)})

    def _finish(self, last: Delta | None) -> str:
        """Return how an answer ended, if it ended well."""
        if last is None or last.finish_reason is None or last.usage is None:
            raise BackendError("the engine ended an answer without its finish reason and usage")
        if last.finish_reason == "cancelled" and self._traffic.stopping:
            raise Refused(STOPPING)
        if last.finish_reason not in ("stop", "length"):
            raise BackendError(f"the engine ended an answer as {last.finish_reason}")
        return last.finish_reason


async def _pieces(call: _Call) -> AsyncGenerator[Delta, None]:
    """Yield an answer in pieces; closing this cancels it in the engine."""
    if "stream" not in call.engine.capabilities:
        whole = await call.engine.respond(call.request)
        yield Delta(text=whole.text, finish_reason=whole.finish_reason, usage=whole.usage, logprobs=whole.logprobs)
        return
    stream = call.engine.stream(call.request)
    try:
        async for piece in stream:
            yield piece
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
