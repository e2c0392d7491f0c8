"""The order of things in every endpoint that asks a model: let in, read, ask, tell, book once, send the last byte.

The last byte of an answer leaves after its entry is on disk. Each piece is sent before the next one is taken from the
engine, so a slow client holds back its own answer and nothing piles up here. One request may ask the engine for
several answers (`n`, a list of prompts): they run beside each other and are booked together, once.

Owns the order. The words of each endpoint, the meter, the limits and the errors have their own modules.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

from starlette.types import Receive, Scope, Send

from bessemer.core.acting import ActedDelta, Bounded
from bessemer.core.errors import BackendError, BessemerError
from bessemer.core.nouns import (
    ChatRequest,
    Completion,
    Delta,
    Entry,
    ScoreRequest,
    Subject,
    ToolCall,
    Usage,
    joined_calls,
)
from bessemer.core.protocols import Engine
from bessemer.core.ranking import RankRequest
from bessemer.core.raw import EmbedRequest, PromptRequest
from bessemer.serve.accounts.gate import Gate, let_in
from bessemer.serve.askers import personal
from bessemer.serve.booking import Bookkeeper, Span
from bessemer.serve.config import GatewayConfig
from bessemer.serve.door import authenticate, read_body
from bessemer.serve.envelope import EVENT_STREAM, respond
from bessemer.serve.keys import Key, KeyStore
from bessemer.serve.merging import beside_each_other
from bessemer.serve.pieces import Piece, counted, pieces_of
from bessemer.serve.refusals import STOPPING, Refused, of_engine, unknown_model, unsupported
from bessemer.serve.traffic import Traffic
from bessemer.serve.work.models import TunedModels

ChatEngine = Engine[ChatRequest, Completion, Delta]
Wanted: TypeAlias = ChatRequest | PromptRequest | ScoreRequest | EmbedRequest | RankRequest

_COUNTS = tuple(Usage.model_fields)
_BOOKED_AS = {EmbedRequest: "embeddings", RankRequest: "rankings"}
_WELL = ("stop", "length", "tool_calls")
_STREAM_HEADERS = [
    (b"content-type", EVENT_STREAM),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # asks proxies not to collect the events
]


@dataclass(slots=True)
class Answer:
    """One of the answers to a request.

    Attributes:
        pieces: in their order; those of a stream are kept only where somebody needs them.
        finish_reason: how it ended, empty until then.
        usage: what it took so far.
    """

    pieces: list[Piece] = field(default_factory=list)
    finish_reason: str = ""
    usage: Usage = field(default_factory=Usage)

    @property
    def deltas(self) -> list[Delta]:
        """The pieces of a text."""
        return [piece for piece in self.pieces if isinstance(piece, Delta)]

    @property
    def text(self) -> str:
        """What was said."""
        return "".join(piece.text for piece in self.deltas)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that were asked for."""
        return joined_calls(self.deltas)


class Teller(Protocol):
    """Writes what is told to one client, in the words of one endpoint.

    Attributes:
        keeps: whether the answer is stored, for which the pieces of a stream must be kept.
    """

    keeps: bool

    def first(self) -> bytes:
        """Return the events that begin a stream."""
        ...

    def piece(self, index: int, piece: Delta) -> bytes:
        """Return the events for a piece of the answer of that number; may be none."""
        ...

    def last(self, answers: list[Answer], entry: Entry) -> bytes:
        """Return the events that end a stream."""
        ...

    def whole(self, answers: list[Answer], entry: Entry) -> bytes:
        """Return the answers as JSON."""
        ...

    async def keep(self, answers: list[Answer]) -> None:
        """Store the answers; called before they are booked, if `keeps`."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what there is to be asked.

    Attributes:
        key: of the request; its project is the only one whose things may be shown.
        request_id: ``req_…``; the ids of answers have its unique part.
        created: Unix seconds.
        config: the limits.
        engines: by the names of the models.
        tuned: models of the key's project, beside those of all; None has none.
    """

    key: Key
    request_id: str
    created: int
    config: GatewayConfig
    engines: Mapping[str, ChatEngine]
    tuned: TunedModels | None = None

    async def engine(self, model: str) -> ChatEngine:
        """Return the engine of a model.

        Raises:
            Refused: there is none.
        """
        engine = self.engines.get(model)
        if engine is None and self.tuned:
            engine = await self.tuned.engine(self.key.project, model)
        if engine is None:
            raise Refused(unknown_model(model))
        return engine

    async def talker(self, model: str, metadata: Mapping[str, str] | None = None) -> ChatEngine:
        """Return the engine of a model that talks; an agent with what this key and this request let it do.

        Args:
            model: its name.
            metadata: of the request; an agent reads `session`, `run`, `approve` and `deny`.

        Raises:
            Refused: there is none, or it does not talk.
        """
        engine = await self.engine(model)
        if "chat" not in engine.capabilities:
            raise Refused(unsupported("model", "This model does not talk; /v1/models says which models have 'chat'."))
        asked: ChatEngine = personal(engine, self.key, model, metadata or {})
        return asked

    def id(self, prefix: str) -> str:
        """Return the id of the answer, such as ``chatcmpl-…``."""
        return self.request_id.replace("req_", prefix)


@dataclass(frozen=True, slots=True)
class Order:
    """What a client wants: of which model, which answers, told how, in which service tier (empty: the standard).

    Attributes:
        names: what its endpoint calls the fields that the chat wire calls ``messages`` and so on, where it differs.
    """

    model: str
    engine: ChatEngine
    wanted: tuple[Wanted, ...]
    teller: Teller
    stream: bool
    service_tier: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    def subject(self, request: str, project: str, key_id: str, *, batch: bool = False) -> Subject:
        """Return what is booked of it."""
        return Subject(
            kind="request",
            id=request,
            name=_BOOKED_AS.get(type(self.wanted[0]), ""),
            project=project,
            key_id=key_id,
            model=self.model,
            service_tier=self.service_tier,
            batch=batch,
        )

    @property
    def most(self) -> Usage:
        """What bounds all answers: each reads all of its words, also those that were stored, at a token a byte."""
        bound = self.engine.most if isinstance(self.engine, Bounded) else _most
        each = [bound(wanted) if isinstance(wanted, ChatRequest) else _most(wanted) for wanted in self.wanted]
        return Usage(**{name: sum(getattr(one, name) for one in each) for name in _COUNTS})


Read = Callable[[bytes, Caller], Any]
"""Reads a body: an asynchronous function that returns an Order, or raises Refused."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What the endpoints share.

    Attributes:
        config: the limits.
        engines: by the model names that clients use.
        keys: who may come in.
        bookkeeper: meters each answer.
        traffic: counts and ends requests.
        clock: gives Unix seconds.
        gate: keeps requests within their limits and budgets; None has none.
        tuned: models of one project each, beside those of all; None has none.
    """

    config: GatewayConfig
    engines: Mapping[str, ChatEngine]
    keys: KeyStore
    bookkeeper: Bookkeeper
    traffic: Traffic
    clock: Callable[[], float]
    gate: Gate | None = None
    tuned: TunedModels | None = None

    def caller(self, key: Key, request_id: str) -> Caller:
        """Return who asks with a key now."""
        return Caller(key, request_id, int(self.clock()), self.config, self.engines, self.tuned)


class Endpoint:
    """ASGI application of one endpoint that asks a model.

    Args:
        floor: what all endpoints share.
        read: reads a body into an order.
    """

    def __init__(self, floor: Floor, read: Read) -> None:
        self._floor = floor
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Refused: it gets no answer, or no whole one.
        """
        floor, config = self._floor, self._floor.config
        key = authenticate(floor.keys, scope)
        request_id: str = scope["state"]["request_id"]
        with floor.traffic.visit() as visit:
            body = await read_body(scope, receive, config.max_body_bytes, config.body_timeout_seconds)
            order: Order = await self._read(body, floor.caller(key, request_id))
            subject = order.subject(request_id, key.project, key.id)
            held = let_in(floor.gate, key, subject, order.most)
            with visit.watched(receive, config.request_timeout_seconds):
                stopped = partial(visit.status, streamed=order.stream)
                async with held, floor.bookkeeper.span(subject, stopped) as span:
                    held.seen, scope["state"]["headers"] = span.watch.seen, held.headers
                    making = Making(order, span)
                    async with aclosing(making.pieces()) as pieces:
                        await (self._stream if order.stream else self._whole)(making, pieces, send)

    async def _whole(self, making: Making, pieces: AsyncIterator[tuple[int, Piece]], send: Send) -> None:
        async for index, piece in pieces:
            making.answers[index].pieces.append(piece)
        entry = await making.book(self._floor.traffic.stopping)
        await respond(send, making.order.teller.whole(making.answers, entry))

    async def _stream(self, making: Making, pieces: AsyncIterator[tuple[int, Piece]], send: Send) -> None:
        teller, begun = making.order.teller, False
        async for index, piece in pieces:
            body = b"" if begun else teller.first()
            body += teller.piece(index, piece) if isinstance(piece, Delta) else b""
            if teller.keeps or not isinstance(piece, Delta):
                making.answers[index].pieces.append(piece)
            if not begun:  # headers wait for the engine, so that what it refuses still gets its HTTP status
                await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
                begun = True
            if body:
                making.span.keep()
                await send({"type": "http.response.body", "body": body, "more_body": True})
        entry = await making.book(self._floor.traffic.stopping)
        await send({"type": "http.response.body", "body": teller.last(making.answers, entry)})


class Making:
    """The answers to one order while they are made; what they take is told to the span at once."""

    def __init__(self, order: Order, span: Span) -> None:
        self.order = order
        self.span = span
        self.answers = [Answer() for _ in order.wanted]

    async def pieces(self) -> AsyncGenerator[tuple[int, Piece], None]:
        """Yield the pieces of all answers, each with its answer's number; closing this cancels them in the engine."""
        async with aclosing(beside_each_other([self._one(n) for n in range(len(self.answers))])) as pieces:
            async for piece in pieces:
                yield piece

    async def collect(self) -> None:
        """Take all pieces of all answers."""
        async with aclosing(self.pieces()) as pieces:
            async for index, piece in pieces:
                self.answers[index].pieces.append(piece)

    async def book(self, stopping: bool, before: Callable[[], Awaitable[None]] | None = None) -> Entry:
        """Return the entry of answers that all ended well; they are stored by then, if they are to be.

        Args:
            stopping: whether the gateway is, which ends answers before their end.
            before: is done between storing and booking.

        Raises:
            BackendError: an answer did not end well, or the disk refused its entry.
            Refused: the gateway is stopping.
        """
        for answer in self.answers:
            self._check(answer.finish_reason, stopping)
        self.span.watch.seen.finish_reason = self.answers[0].finish_reason
        if self.order.teller.keeps:
            await self.order.teller.keep(self.answers)
        if before:
            await before()
        return await self.span.book("ok")

    async def _one(self, index: int) -> AsyncGenerator[tuple[int, Piece], None]:
        try:
            async with aclosing(pieces_of(self.order.engine, self.order.wanted[index])) as pieces:
                async for piece in pieces:
                    self._take(index, piece)
                    yield index, piece
        except Exception as error:
            self.span.broke()
            names, refusal = self.order.names, of_engine(error) if isinstance(error, BessemerError) else None
            if refusal and refusal.param and refusal.param in names:
                raise Refused(replace(refusal, param=names[refusal.param])) from error
            raise

    def _take(self, index: int, piece: Piece) -> None:
        answer = self.answers[index]
        self.span.watch.piece()
        if isinstance(piece, ActedDelta):
            self.span.watch.seen.acts += piece.acts
        was, total = answer.usage, self.span.usage
        now = answer.usage = piece.usage or counted(was, lambda: _most(self.order.wanted[index]))
        counts = ((name, getattr(total, name) + getattr(now, name) - getattr(was, name)) for name in _COUNTS)
        self.span.usage = Usage(**dict(counts))
        if not isinstance(piece, Delta):
            answer.finish_reason = "stop"
        elif piece.finish_reason and piece.usage:
            answer.finish_reason = piece.finish_reason

    def _check(self, finish_reason: str, stopping: bool) -> None:
        if finish_reason == "cancelled" and stopping:
            raise Refused(STOPPING)
        if finish_reason not in _WELL:
            self.span.broke()
            how = f"as {finish_reason}" if finish_reason else "without its finish reason and usage"
            raise BackendError(f"the engine ended an answer {how}")


def _most(wanted: Wanted) -> Usage:
    if isinstance(wanted, RankRequest):
        return Usage(units=wanted.n)
    written = wanted.sampling.max_output_tokens if isinstance(wanted, ChatRequest | PromptRequest) else 0
    return Usage(input_tokens=len(wanted.model_dump_json(exclude_defaults=True).encode()), output_tokens=written)
