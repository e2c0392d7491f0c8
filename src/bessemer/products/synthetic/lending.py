"""Engines that a gateway serves, lent to jobs that work in threads of their own.

An engine belongs to the event loop that it was opened in, so it is asked there. What it reads and writes for a job it
counts itself; clients pay such jobs by the accepted row, so it is told apart from what they are charged by the token.

Owns that. Knows no job.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

from bessemer.core.errors import Cancelled, ConfigError, Unsupported
from bessemer.core.nouns import ChatRequest, Completion, Delta, Usage
from bessemer.infer.engines import complete, minus
from bessemer.products.product import AnyEngine

_LOOK_SECONDS = 0.5
_STOPPED = "the gateway stopped"
_LENDERS: dict[str, Lending] = {}
"""A step is handed texts only: the name of what lends."""


class Lending:
    """What lends the engines of one gateway.

    Args:
        engines: by the names of their models.
        count: told what an engine did for a job, by its name.

    Attributes:
        name: by which a step of the same process finds it; see `lender`.
        over: whether the gateway stopped.
    """

    def __init__(self, engines: Mapping[str, AnyEngine], count: Callable[[str, Usage], None]) -> None:
        self._engines, self._count = engines, count
        self._loop: asyncio.AbstractEventLoop | None = None
        self.name, self.over = uuid.uuid4().hex, False
        _LENDERS[self.name] = self

    def begin(self) -> None:
        """Lend from now on; called in the loop that the engines belong to."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Lend nothing more."""
        self.over = True
        _LENDERS.pop(self.name, None)

    @property
    def models(self) -> frozenset[str]:
        """The language models; an agent is none: its tools are for those who ask it."""
        can = {name: each.capabilities for name, each in self._engines.items()}
        return frozenset(name for name, found in can.items() if "chat" in found and "agent" not in found)

    def engine(self, model: str) -> LentEngine:
        """Return an engine for a thread that has a loop of its own.

        Raises:
            ConfigError: no such language model is served.
        """
        if model not in self.models:
            known = ", ".join(sorted(self.models)) or "none"
            raise ConfigError(f"no language model is called '{model[:64]}'", hint=f"Served here: {known}.")
        return LentEngine(model, self._engines[model].capabilities, self)

    async def ask(self, model: str, request: ChatRequest) -> Completion:
        """Return an engine's answer, asked in its loop; what it delivers is counted piece by piece, as it counts.

        Raises:
            Cancelled: the gateway stopped.
            Whatever the engine raises.
        """
        if self._loop is None or self._loop.is_closed():
            raise self._stopped()
        asked = asyncio.run_coroutine_threadsafe(self._answer(model, request), self._loop)
        try:
            while True:
                try:
                    found = asyncio.shield(asyncio.wrap_future(asked))
                    answer: Completion = await asyncio.wait_for(found, _LOOK_SECONDS)
                    return answer
                except TimeoutError:
                    if self._loop.is_closed():  # nobody is left to answer
                        raise self._stopped() from None
        except asyncio.CancelledError:
            if asked.cancelled():
                raise self._stopped() from None
            asked.cancel()
            raise

    def _stopped(self) -> Cancelled:
        self.over = True
        return Cancelled(_STOPPED)

    async def _answer(self, model: str, request: ChatRequest) -> Completion:
        async def pieces() -> AsyncGenerator[Delta, None]:
            counted = Usage()
            stream = cast(AsyncGenerator[Delta, None], self._engines[model].stream(request))
            async with aclosing(stream) as answer:
                async for piece in answer:
                    if piece.usage:  # now: nobody is left to tell it if this piece is the last that is taken
                        self._count(model, minus(piece.usage, counted))
                        counted = piece.usage
                    yield piece

        return await complete(pieces(), time.perf_counter)


class LentEngine:
    """A served engine, for another thread."""

    def __init__(self, name: str, capabilities: frozenset[str], lending: Lending) -> None:
        self.name, self.capabilities, self._lending = name, frozenset(capabilities), lending

    async def respond(self, request: ChatRequest, /) -> Completion:
        """Return the whole answer; see `Lending.ask` for what it raises."""
        return await self._lending.ask(self.name, request)

    async def stream(self, request: Any, /) -> AsyncGenerator[Delta, None]:
        """Raise Unsupported: jobs wait for whole answers."""
        raise Unsupported("a lent engine answers whole", hint="Use `respond`.")
        yield Delta()

    async def close(self) -> None:
        """Nothing: it is closed by its owner."""


def lender(name: str) -> Lending:
    """Return what lends under a name in this process.

    Raises:
        Cancelled: it lends no more.
    """
    if name not in _LENDERS:
        raise Cancelled(_STOPPED, hint="The job begins again under the next gateway.")
    return _LENDERS[name]
