"""Measures how fast an engine answers: time to first token, time per output token, tokens per second.

Owns the method: real requests through the Engine protocol, all streams of a level started at once, prompts that no
cache has seen, after a warm-up. Works with any engine; knows none.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.errors import BackendError
from bessemer.core.nouns import ChatRequest, Message, Noun, Sampling
from bessemer.infer.engines import LanguageEngine

WORDS = ("river", "stone", "letter", "market", "window", "garden", "paper", "winter", "music", "number", "island")


class SpeedConfig(Config):
    """How speed is measured.

    Attributes:
        prompt_tokens: length of each prompt, chat template included, met within a few percent.
        output_tokens: most tokens of each answer; a model may end earlier, and what it made is reported.
        streams: numbers of answers at the same time, one level each.
        repeats: rounds per level.
        seed: of the words in the prompts.
    """

    prompt_tokens: Annotated[int, Field(ge=16, le=1 << 20)] = 128
    output_tokens: Annotated[int, Field(ge=2, le=1 << 16)] = 48
    streams: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1)] = (1, 8)
    repeats: Annotated[int, Field(ge=1, le=1000)] = 2
    seed: int = 0


DEFAULT = SpeedConfig()


class StreamSpeed(Noun):
    """Speed at one number of streams, over `requests` requests; `input_tokens` and `output_tokens` are means.

    `output_tokens_per_second` is of all streams together, from the start of a round until its last token, so that
    reading the prompts counts.
    """

    streams: int
    requests: int
    input_tokens: float
    output_tokens: float
    time_to_first_token_p50_seconds: float
    time_to_first_token_p95_seconds: float
    time_per_output_token_p50_seconds: float
    time_per_output_token_p95_seconds: float
    output_tokens_per_second: float


class SpeedReport(Noun):
    """What was measured, and on which engine."""

    engine: str
    provenance: Literal["measured"] = "measured"
    levels: tuple[StreamSpeed, ...]


@dataclass(frozen=True, slots=True)
class _Timing:
    first_seconds: float
    last_seconds: float
    input_tokens: int
    output_tokens: int

    @property
    def per_token_seconds(self) -> float:
        return (self.last_seconds - self.first_seconds) / max(1, self.output_tokens - 1)


async def measure_speed(
    engine: LanguageEngine,
    config: SpeedConfig = DEFAULT,
    progress: Callable[[int, int], None] = lambda done, total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> SpeedReport:
    """Return how fast an engine answers.

    Args:
        engine: any language engine.
        config: what is asked of it.
        progress: told how many requests of how many are done.
        clock: in seconds.
    """
    chance = random.Random(config.seed)
    words = await _calibrate(engine, config.prompt_tokens, chance)
    total, done = config.repeats * sum(config.streams), 0
    levels = []
    for streams in config.streams:
        timings: list[_Timing] = []
        rates = []
        for _ in range(config.repeats):
            requests = [_request(words, config.output_tokens, chance) for _ in range(streams)]
            started = clock()
            answers = await asyncio.gather(*(_ask(engine, request, clock) for request in requests))
            rates.append(sum(answer.output_tokens for answer in answers) / (clock() - started))
            timings += answers
            done += streams
            progress(done, total)
        levels.append(_level(streams, timings, rates))
    return SpeedReport(engine=engine.name, levels=tuple(levels))


def _request(words: int, output_tokens: int, chance: random.Random) -> ChatRequest:
    """Return a request that no cache knows; sampling keeps answers from ending early or repeating themselves."""
    text = " ".join(["Write a long story with these words:", str(chance.random()), *chance.choices(WORDS, k=words)])
    sampling = Sampling(max_output_tokens=output_tokens, temperature=1.0, seed=chance.getrandbits(31))
    return ChatRequest(messages=(Message(role="user", content=text),), sampling=sampling)


async def _ask(engine: LanguageEngine, request: ChatRequest, clock: Callable[[], float]) -> _Timing:
    started = clock()
    first: float | None = None
    usage = None
    async for piece in engine.stream(request):
        if first is None:
            first = clock() - started
        usage = piece.usage or usage
    last = clock() - started
    if usage is None or first is None:
        raise BackendError(f"the engine {engine.name} reported no usage, so its speed cannot be measured")
    return _Timing(first, last, usage.input_tokens, usage.output_tokens)


async def _calibrate(engine: LanguageEngine, prompt_tokens: int, chance: random.Random) -> int:
    """Return the number of words that makes a prompt of so many tokens; warms the engine up on the way."""
    few, many = prompt_tokens // 4, prompt_tokens // 2
    sizes = [(await engine.respond(_request(words, 2, chance))).usage.input_tokens for words in (few, many)]
    per_word = max(0.1, (sizes[1] - sizes[0]) / (many - few))
    return max(1, round(many + (prompt_tokens - sizes[1]) / per_word))


def _level(streams: int, timings: Sequence[_Timing], rates: Sequence[float]) -> StreamSpeed:
    firsts = [timing.first_seconds for timing in timings]
    steps = [timing.per_token_seconds for timing in timings if timing.output_tokens > 1] or [0.0]
    return StreamSpeed(
        streams=streams,
        requests=len(timings),
        input_tokens=statistics.fmean(timing.input_tokens for timing in timings),
        output_tokens=statistics.fmean(timing.output_tokens for timing in timings),
        time_to_first_token_p50_seconds=quantile(firsts, 0.5),
        time_to_first_token_p95_seconds=quantile(firsts, 0.95),
        time_per_output_token_p50_seconds=quantile(steps, 0.5),
        time_per_output_token_p95_seconds=quantile(steps, 0.95),
        output_tokens_per_second=statistics.median(rates),
    )


def quantile(values: Sequence[float], ratio: float) -> float:
    """Return the value below which a ratio of the values lies, between neighbours in proportion.

    >>> quantile([1.0, 2.0, 4.0], 0.5), quantile([1.0, 2.0], 0.95), quantile([3.0], 0.95)
    (2.0, 1.95, 3.0)
    """
    ordered = sorted(values)
    at = ratio * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
