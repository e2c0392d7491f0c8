"""POST /v1/chat/completions: one request from admission to the booked answer, whole or streamed.

Owns the order of things: the meter's span opens at admission, and the entry is on disk before the last byte of the
answer leaves. A client that goes away cancels the engine's work and is booked for what was made.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from bessemer.core.nouns import ChatRequest, Completion, Delta, Entry, EntryStatus, Subject, TokenLogprob, Usage
from bessemer.core.protocols import Engine, Meter
from bessemer.serve.failures import Refusal, from_engine
from bessemer.serve.keys import Key
from bessemer.serve.wire import ChatBody, finish_reason, logprobs_body, usage_body

ChatEngine = Engine[ChatRequest, Completion, Delta]
T = TypeVar("T")
log = logging.getLogger("bessemer.serve")


@dataclass
class Answer:
    """One answer in the making: its span at the meter, closed exactly once whatever happens.

    Attributes:
        usage: as the engine last told it.
        entry: what was booked, once it is.
    """

    meter: Meter
    subject: Subject
    created: int = field(default_factory=lambda: int(time.time()))
    usage: Usage = field(default_factory=Usage)
    entry: Entry | None = None
    handle: str = ""

    @property
    def id(self) -> str:
        """The completion's id on the wire."""
        return f"chatcmpl-{self.subject.id.removeprefix('req_')}"

    async def open(self) -> None:
        """Begin to measure."""
        self.handle = await asyncio.to_thread(self.meter.start, self.subject)

    async def book(self, status: EntryStatus) -> Entry:
        """Book the answer; when this returns, the entry is on disk."""
        # Shielded: a client that leaves right now must not split the booking from what it returns.
        booking = asyncio.get_running_loop().run_in_executor(None, self.meter.stop, self.handle, self.usage, status)
        self.handle = ""
        self.entry = await asyncio.shield(booking)
        return self.entry

    def settle(self, status: EntryStatus) -> None:
        """Book the answer if nobody has; for the ways out that cannot wait."""
        if self.handle:
            handle, self.handle = self.handle, ""
            self.entry = self.meter.stop(handle, self.usage, status)


def new_subject(request_id: str, key: Key, model: str) -> Subject:
    """Return whom a new request is booked to; the id is the gateway's own, so that no client can repeat one."""
    return Subject(
        kind="request",
        id=request_id,
        name="chat.completions",
        project=key.project,
        key_id=key.id,
        model=model,
    )


async def whole(
    request: Request, engine: ChatEngine, body: ChatBody, ask: ChatRequest, answer: Answer, timeout_seconds: float
) -> Response:
    """Return the whole answer in one body."""
    texts: list[str] = []
    logprobs: list[TokenLogprob] = []
    last = Delta()
    gone = asyncio.create_task(_gone(request.receive))
    try:
        async with asyncio.timeout(timeout_seconds), aclosing(_until(engine.stream(ask), gone)) as pieces:
            async for last in pieces:
                texts.append(last.text)
                logprobs += last.logprobs
                answer.usage = last.usage or answer.usage
        if gone.done():
            await answer.book("cancelled")
            return Response(status_code=499)
        entry = await answer.book("ok")
    except Exception as error:
        answer.settle("error")
        raise _refused(error, answer) from error
    finally:
        gone.cancel()
        answer.settle("cancelled")
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(texts), "refusal": None},
        "logprobs": logprobs_body(logprobs, bool(body.logprobs)),
        "finish_reason": finish_reason(last.finish_reason),
    }
    return JSONResponse(_frame(answer, "chat.completion", [choice], usage_body(answer.usage, entry)))


class Stream(Response):
    """The answer as server-sent events.

    The first piece is taken before the status line is sent, so that a refused prompt is an HTTP error. Each piece
    waits until the client has taken the one before: nothing piles up here for a slow client.
    """

    media_type = "text/event-stream"

    def __init__(self, engine: ChatEngine, body: ChatBody, ask: ChatRequest, answer: Answer, seconds: float) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._engine, self._body, self._ask, self._answer, self._seconds = engine, body, ask, answer, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; a client that goes away ends it."""
        gone = asyncio.create_task(_gone(receive))
        started = False
        try:
            async with asyncio.timeout(self._seconds), aclosing(_until(self._events(), gone)) as events:
                async for event in events:
                    if not started:
                        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                        started = True
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        except Exception as error:
            self._answer.settle("error")
            refusal = _refused(error, self._answer)
            if not started:
                raise refusal from error
            await send({"type": "http.response.body", "body": _event(refusal.body()), "more_body": True})
        finally:
            gone.cancel()
            self._answer.settle("cancelled")
        if not started:  # the client left before the first piece
            await send({"type": "http.response.start", "status": 499, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        answer, wanted = self._answer, bool(self._body.logprobs)
        first: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        async with aclosing(_closable(self._engine.stream(self._ask))) as pieces:
            async for piece in pieces:
                answer.usage = piece.usage or answer.usage
                if first:
                    yield self._chunk(first, None, None)
                    first = {}
                if piece.text or piece.logprobs:
                    yield self._chunk({"content": piece.text}, None, logprobs_body(piece.logprobs, wanted))
                if piece.finish_reason:
                    entry = await answer.book("ok")
                    yield self._chunk({}, finish_reason(piece.finish_reason), None)
                    if self._body.stream_options and self._body.stream_options.include_usage:
                        usage = usage_body(answer.usage, entry)
                        yield _event(_frame(answer, "chat.completion.chunk", [], usage))
                    yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], reason: str | None, logprobs: dict[str, Any] | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return _event(_frame(self._answer, "chat.completion.chunk", [choice], None))


def _frame(answer: Answer, kind: str, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
    frame = {
        "id": answer.id,
        "object": kind,
        "created": answer.created,
        "model": answer.subject.model,
        "system_fingerprint": None,
        "choices": choices,
    }
    return frame if usage is None else {**frame, "usage": usage}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _refused(error: Exception, answer: Answer) -> Refusal:
    """Return what the client hears; the cause goes to the log, by its class only: its text may quote the prompt."""
    if isinstance(error, Refusal):
        return error
    refusal = from_engine(error)
    if refusal.status >= 500:
        log.error("%s: %s from the engine of %s", answer.subject.id, type(error).__name__, answer.subject.model)
    return refusal


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _closable(pieces: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """Yield the pieces; closing this closes them where they can be closed."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()


async def _until(pieces: AsyncIterator[T], gone: asyncio.Task[None]) -> AsyncGenerator[T, None]:
    """Yield the pieces until they end or the client has left, whichever is first, then close them."""
    async with aclosing(_closable(pieces)) as source:
        while not gone.done():
            following = asyncio.ensure_future(anext(source, None))
            try:
                await asyncio.wait({following, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.wait({following})
            if following.cancelled():
                return
            piece = following.result()
            if piece is None:
                return
            yield piece
