"""An engine that reads before it answers: an Engine made of an Engine and a search.

Owns where the passages come in. Knows neither the lake nor the model: both are handed in.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing

from bessemer.core.nouns import ChatRequest, Completion, Delta, Message
from bessemer.core.protocols import Engine, counting
from bessemer.infer.engines import Counters
from bessemer.train.prompt import join_context, prompt_messages

ChatEngine = Engine[ChatRequest, Completion, Delta]

Search = Callable[[str], Sequence[str]]
"""From a question to passages, the best first."""


class GroundedEngine:
    """Puts the passages that fit the last question before it, in the words that the model was trained on.

    Args:
        engine: answers; closed with this one.
        search: finds passages; runs in a thread.
        max_characters: of all passages together.
    """

    def __init__(self, engine: ChatEngine, search: Search, max_characters: int) -> None:
        self.name = engine.name
        self.capabilities = engine.capabilities
        self._engine = engine
        self._search = search
        self._max_characters = max_characters

    @property
    def counters(self) -> Counters | None:
        """What the engine below counted itself, if it counts."""
        return getattr(self._engine, "counters", None)

    async def respond(self, request: ChatRequest) -> Completion:
        """Return the answer to the grounded conversation; what is raw goes to the engine as it is."""
        return await self._engine.respond(await self._grounded(request))

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        """Yield the answer to the grounded conversation in pieces."""
        pieces = self._engine.stream(await self._grounded(request))
        async with aclosing(pieces) as open_pieces:  # type: ignore[type-var]
            async for piece in open_pieces:
                yield piece

    async def count_tokens(self, request: ChatRequest) -> int:
        """Return how many tokens the grounded conversation has."""
        return await counting(self._engine).count_tokens(await self._grounded(request))

    async def close(self) -> None:
        """Close the engine below."""
        await self._engine.close()

    async def _grounded(self, request: ChatRequest) -> ChatRequest:
        if not isinstance(request, ChatRequest):  # a raw text has no question to be grounded
            return request
        *before, last = request.messages
        if last.role != "user":
            return request
        found = await asyncio.to_thread(self._search, last.content[:2_000])
        context = join_context(found, self._max_characters) if found else ""
        if not context:
            return request
        asked = prompt_messages(last.content, context)
        told = "\n".join(m.content for m in before if m.role == "system")
        if told and _has_system(asked):  # ours says what to read, the client's how to answer
            asked = tuple(_and(m, told) if m.role == "system" else m for m in asked)
        earlier = [m for m in before if m.role != "system" or not _has_system(asked)]
        return request.model_copy(update={"messages": (*_system_first(asked, earlier),)})


def _and(message: Message, told: str) -> Message:
    return message.model_copy(update={"content": f"{message.content}\n{told}"})


def _has_system(messages: Sequence[Message]) -> bool:
    return any(m.role == "system" for m in messages)


def _system_first(asked: Sequence[Message], earlier: Sequence[Message]) -> list[Message]:
    """Return the system message, the earlier conversation, then the question with its passages."""
    system = [m for m in asked if m.role == "system"]
    rest = [m for m in asked if m.role != "system"]
    return [*system, *earlier, *rest]


def named_in(question: str) -> list[str]:
    """Return the dotted or called names in a question: the surest key into documentation.

    >>> named_in("What does json.dumps() return, and how is `pathlib.Path.glob` called?")
    ['json.dumps', 'pathlib.Path.glob']
    """
    return list(dict.fromkeys(re.findall(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", question)))
