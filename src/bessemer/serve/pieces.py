"""An answer in pieces, whatever its engine gives; and what it took so far of an engine that tells only at its end.

Owns both. Knows no wire and no meter.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

from bessemer.core.nouns import Completion, Delta, ScoreRequest, ScoreResult, ToolCallPiece, Usage
from bessemer.core.ranking import Ranking, RankRequest
from bessemer.core.raw import EmbedRequest, EmbedResult

Piece: TypeAlias = Delta | ScoreResult | EmbedResult | Ranking

_BYTES_PER_TOKEN = 4
"""Of English text, about. Source: OpenAI Help Center, What are tokens and how to count them?"""


def counted(before: Usage, most: Callable[[], Usage]) -> Usage:
    """Return what an answer took by a piece with which its engine told no usage: a token more, and what it had read.

    Args:
        before: what it took before the piece.
        most: gives its input in bytes.
    """
    read = before.input_tokens or max(1, most().input_tokens // _BYTES_PER_TOKEN)
    return Usage(input_tokens=read, output_tokens=before.output_tokens + 1)


async def pieces_of(engine: Any, wanted: Any) -> AsyncGenerator[Piece, None]:
    """Yield an answer in pieces; closing this cancels it in the engine."""
    if isinstance(wanted, ScoreRequest | EmbedRequest | RankRequest):
        yield await engine.respond(wanted)
        return
    if "stream" not in engine.capabilities:
        yield _as_delta(await engine.respond(wanted))
        return
    stream = engine.stream(wanted)
    try:
        async for piece in stream:
            yield piece
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def _as_delta(whole: Completion) -> Delta:
    calls = (
        ToolCallPiece(index=number, id=call.id, name=call.name, arguments=call.arguments)
        for number, call in enumerate(whole.tool_calls)
    )
    return Delta(
        text=whole.text,
        finish_reason=whole.finish_reason,
        usage=whole.usage,
        logprobs=whole.logprobs,
        tool_calls=tuple(calls),
    )
