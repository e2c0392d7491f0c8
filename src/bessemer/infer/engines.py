"""Engines by name, what every language engine here offers beyond the protocol, and what engines count.

Owns the table of backends and the counters. Knows no backend.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bessemer.core.nouns import ChatRequest, Completion, Delta, Usage, joined_calls
from bessemer.core.registry import Registry

engines = Registry(
    "bessemer.engines",
    {
        "echo": "bessemer.infer.echo:open_engine",
        "openvino": "bessemer.infer.openvino:open_engine",
        "upstream": "bessemer.infer.upstream:open_engine",
        "vectors": "bessemer.infer.vectors:open_engine",
        "ranker": "bessemer.infer.ranking.engine:open_engine",
    },
    extras={"openvino": "infer", "upstream": "infer", "vectors": "infer", "ranker": "recommend"},
)


def engine_names() -> list[str]:
    """Return the names of the known backends; none is imported."""
    return engines.names()


NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Counters:
    """What an engine did since it was opened, by its own count.

    What was billed must equal `total` less `undelivered`: tokens of requests that were cancelled, which the engine
    read or made after the last piece that its caller took.
    """

    requests: int = 0
    total: Usage = NOTHING
    undelivered: Usage = NOTHING

    def plus(self, requests: int = 0, total: Usage = NOTHING, undelivered: Usage = NOTHING) -> Counters:
        """Return the counters with more added."""
        return Counters(self.requests + requests, add(self.total, total), add(self.undelivered, undelivered))


def add(one: Usage, other: Usage) -> Usage:
    """Return the sum of two usages."""
    return Usage(
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        units=one.units + other.units,
    )


def minus(one: Usage, other: Usage) -> Usage:
    """Return the difference of two usages."""
    return Usage(
        input_tokens=one.input_tokens - other.input_tokens,
        output_tokens=one.output_tokens - other.output_tokens,
        cached_tokens=one.cached_tokens - other.cached_tokens,
        units=one.units - other.units,
    )


class LanguageEngine(Protocol):
    """The Engine of a language model. Every Delta has the usage so far, so that a cancelled answer can be billed."""

    name: str
    capabilities: frozenset[str]

    @property
    def counters(self) -> Counters:
        """What the engine did since it was opened."""
        ...

    async def respond(self, request: ChatRequest, /) -> Completion:
        """Return the whole answer; engines that can ``score`` take a ScoreRequest too and return a ScoreResult."""
        ...

    def stream(self, request: ChatRequest, /) -> AsyncIterator[Delta]:
        """Yield the answer in pieces; closing the iterator cancels the request in the engine."""
        ...

    async def close(self) -> None:
        """End running answers as cancelled and release the device."""
        ...


def open_engine(config: Any) -> LanguageEngine:
    """Return the engine that a configuration declares; `config.kind` names the backend.

    Raises:
        NotFound: no backend has that name, or its model does not exist.
        MissingDependency: the backend's package is not installed.
        BackendError: the model could not be loaded.
    """
    opener: Callable[[Any], LanguageEngine] = engines.load(config.kind)
    return opener(config)


async def complete(pieces: AsyncIterator[Delta], clock: Callable[[], float]) -> Completion:
    """Return the whole answer of a stream, with the times that passed on `clock` (seconds)."""
    started = clock()
    first: float | None = None
    texts: list[str] = []
    logprobs: list[Any] = []
    calls: list[Delta] = []
    last = Delta()
    async for last in pieces:
        if first is None:
            first = clock() - started
        texts.append(last.text)
        logprobs += last.logprobs
        if last.tool_calls:
            calls.append(last)
    return Completion(
        text="".join(texts),
        finish_reason=last.finish_reason or "error",
        usage=last.usage or Usage(),
        logprobs=tuple(logprobs),
        tool_calls=joined_calls(calls),
        time_to_first_token_seconds=first,
        seconds=clock() - started,
    )
