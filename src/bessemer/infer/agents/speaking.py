"""Asks a model for the next act, in the strongest form that its engine has: tools, a grammar, or words alone.

Owns the choice of the form. How calls are written as text stands in `bessemer.infer.calling`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from bessemer.core.nouns import (
    ChatRequest,
    Completion,
    Delta,
    JsonFormat,
    ToolCall,
    ToolCallPiece,
    Usage,
    joined_calls,
)
from bessemer.core.protocols import Engine
from bessemer.infer import calling

ChatEngine = Engine[ChatRequest, Completion, Delta]


async def say(engine: ChatEngine, request: ChatRequest) -> AsyncGenerator[Completion | Delta, None]:
    """Yield pieces with the usage so far, and last the completion.

    Where no tool can be called the pieces have the text; else it is held back, as it may turn out to be no answer.

    An engine without ``tools`` is told of them in words; one with ``json_schema`` is held to their form, and one
    without may write what it likes: what is in the form is taken for calls, all else for an answer.
    """
    plain = not request.callable_tools()
    native = plain or "tools" in engine.capabilities
    texts: list[str] = []
    pieces: list[Delta] = []
    usage, reason = Usage(), "error"
    async with aclosing(_pieces(engine, request if native else _spoken(engine, request))) as answer:
        async for piece in answer:
            texts.append(piece.text)
            if piece.tool_calls:
                pieces.append(piece)
            grew, usage = bool(piece.usage and piece.usage != usage), piece.usage or usage
            if grew or (plain and piece.text):
                yield Delta(text=piece.text if plain else "", usage=usage)
            reason = piece.finish_reason or reason
    text, calls = "".join(texts), joined_calls(pieces)
    if not native:
        said = calling.parsed(text)
        text, calls = said.text, tuple(_call(piece) for piece in said.calls)
        reason = "tool_calls" if calls and reason == "stop" else reason
    yield Completion(text=text, finish_reason=cast(Any, reason), usage=usage, tool_calls=calls)


def _spoken(engine: ChatEngine, request: ChatRequest) -> ChatRequest:
    schema = calling.schema_of(request)
    form = JsonFormat(json_schema=schema) if schema and "json_schema" in engine.capabilities else None
    told = {"messages": calling.spoken(request), "tools": (), "tool_choice": "auto", "json_format": form}
    return request.model_copy(update=told)


def _call(piece: ToolCallPiece) -> ToolCall:
    return ToolCall(id=piece.id, name=piece.name, arguments=piece.arguments)


async def _pieces(engine: ChatEngine, request: ChatRequest) -> AsyncGenerator[Delta, None]:
    """Yield an answer in pieces; closing this cancels it in the engine."""
    if "stream" not in engine.capabilities:
        whole = await engine.respond(request)
        calls = (
            ToolCallPiece(index=number, id=call.id, name=call.name, arguments=call.arguments)
            for number, call in enumerate(whole.tool_calls)
        )
        yield Delta(text=whole.text, finish_reason=whole.finish_reason, usage=whole.usage, tool_calls=tuple(calls))
        return
    stream: AsyncIterator[Delta] = engine.stream(request)
    try:
        async for piece in stream:
            yield piece
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
