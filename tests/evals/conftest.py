"""Engines whose every answer is known, so that what evals makes of the answers can be checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bessemer.core.nouns import ChatRequest, Completion, Message, ScoreRequest, ScoreResult, Usage
from bessemer.evals import Metric, Report, Sample, Score


@dataclass
class KnownEngine:
    """Answers with a function of the last message, or scores with a function of the text; counts calls in flight."""

    answer: Callable[[str], str] = str
    score: Callable[[str], ScoreResult] | None = None
    name: str = "known"
    capabilities: frozenset[str] = frozenset({"chat", "score"})
    seen: list[Any] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def respond(self, request: ChatRequest | ScoreRequest, /) -> Any:
        self.seen.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            if isinstance(request, ScoreRequest):
                assert self.score
                return self.score(request.text)
            text = self.answer(request.messages[-1].content)
            return Completion(text=text, finish_reason="stop", usage=Usage(input_tokens=3, output_tokens=2))
        finally:
            self.in_flight -= 1

    def stream(self, request: Any, /) -> AsyncIterator[Any]:
        raise NotImplementedError

    async def close(self) -> None:
        pass


@pytest.fixture
def known_engine() -> type[KnownEngine]:
    return KnownEngine


@pytest.fixture
def sample() -> Callable[..., Sample]:
    def make(target: str, question: str = "?", id: str = "s", group: str = "g", rule: str = "") -> Sample:
        asked = (Message(role="user", content=question),)
        return Sample(id=id, messages=asked, target=target, group=group, rule=rule)

    return make


@pytest.fixture
def report() -> Callable[..., Report]:
    def make(
        values: list[float],
        *,
        metric: str = "token_f1",
        better: str = "higher",
        groups: list[str] | None = None,
        weights: list[float] | None = None,
        task: str = "questions",
    ) -> Report:
        groups = groups or [f"g{i}" for i in range(len(values))]
        weights = weights or [1.0] * len(values)
        scores = tuple(
            Score(sample_id=f"s{i}", group=g, values={metric: v}, weight=w)
            for i, (v, g, w) in enumerate(zip(values, groups, weights, strict=True))
        )
        value = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
        found = Metric(
            name=metric, better=better, value=value, interval=None, samples=len(scores), groups=len(set(groups))
        )
        return Report(task=task, model="m", metrics=(found,), scores=scores, seconds=0.0)

    return make
