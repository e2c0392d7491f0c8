"""Running evaluations: ask an engine, grade what comes back, and report it with intervals.

Owns concurrency and what happens when the engine fails. Knows not where the engine runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log
from typing import Any, TypeVar

from bessemer.core.errors import BackendError, BessemerError, Cancelled, ConfigError, Unsupported
from bessemer.core.nouns import ChatRequest, Completion, Sampling, ScoreRequest, ScoreResult
from bessemer.core.protocols import Engine
from bessemer.evals.bootstrap import Column, mean_interval
from bessemer.evals.nouns import Better, Metric, Report, Sample, Score, Task
from bessemer.evals.scorers import SCORERS, Scorer

Item = TypeVar("Item")
Answer = TypeVar("Answer")
OnProgress = Callable[[float, float], None]
"""Told (done, total) after every sample."""

TOLERATED_FAILURES_RATIO = 0.1
"""Share of samples that may fail before a report would say more about the engine's health than about the model."""


async def run_task(
    engine: Engine[ChatRequest, Completion, Any],
    task: Task,
    progress: OnProgress | None = None,
    concurrency: int = 8,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Return what an engine achieves at a task, decoding greedily.

    A sample on which the engine fails scores 0 on every metric, and its score keeps the reason; the gate leaves out
    those on which the base failed.

    Args:
        engine: answers chat requests.
        task: the samples, and the names of their scorers.
        progress: told (done, total) after every sample.
        concurrency: samples in flight at once.
        clock: seconds, from any origin.

    Raises:
        NotFound: no scorer has one of the names.
        BackendError: the engine failed on more than a tenth of the samples.
    """
    scorers: dict[str, Scorer] = {name: SCORERS.load(name) for name in task.scorers}
    sampling = Sampling(max_output_tokens=task.max_output_tokens)

    async def ask(sample: Sample) -> Completion:
        completion = await engine.respond(ChatRequest(messages=sample.messages, sampling=sampling))
        if completion.finish_reason in ("error", "cancelled"):
            raise BackendError(f"the engine ended its answer with '{completion.finish_reason}'")
        return completion

    started = clock()
    answers = await _each(task.samples, ask, progress, concurrency)
    scores = [_grade(sample, answer, scorers) for sample, answer in zip(task.samples, answers, strict=True)]
    return _report(task.name, engine.name, scores, dict.fromkeys(task.scorers, "higher"), clock() - started)


async def bits_per_byte(
    engine: Engine[ScoreRequest, ScoreResult, Any],
    texts: Sequence[tuple[str, str]],
    progress: OnProgress | None = None,
    concurrency: int = 4,
    groups: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Return how well an engine predicts texts: the metric ``bits_per_byte``, lower is better.

    For one text it is -ln p(tokens 2..n | what stands before each) / ln 2 / bytes. A text's first token has nothing
    before it, so its bits are not counted; `bytes` are the UTF-8 bytes of tokens 2..n where the engine says how many
    those are, else of the whole text (which understates a text by its first token's share, alike for models of one
    tokenizer). Over all texts it is the sum of bits over the sum of bytes: every byte counts the same, and models
    with different tokenizers can be compared. A text that the engine cannot score keeps the reason and counts for
    nothing.

    Source: Gao et al. 2020, "The Pile", arXiv:2101.00027, section 3.1.

    Args:
        engine: has the capability ``score``.
        texts: (id, text), ids unique.
        progress: told (done, total) after every text.
        concurrency: texts in flight at once.
        groups: id -> group, for the interval; a text that has none is a group of its own.
        clock: seconds, from any origin.

    Raises:
        Unsupported: the engine cannot score.
        ConfigError: there are no texts, or two have one id.
        BackendError: the engine failed on more than a tenth of the texts.
    """
    if "score" not in engine.capabilities:
        raise Unsupported(
            f"engine '{engine.name}' cannot score a text", hint="Use an engine with the capability 'score'."
        )
    if not texts or len({name for name, _ in texts}) < len(texts):
        raise ConfigError(f"{len(texts)} texts to score: at least one is needed, and every id once")
    group_of = groups or {}

    async def measure(item: tuple[str, str]) -> ScoreResult:
        return await engine.respond(ScoreRequest(text=item[1]))

    started = clock()
    results = await _each(texts, measure, progress, concurrency)
    scores = [
        _bits(name, group_of.get(name, name), text, result) for (name, text), result in zip(texts, results, strict=True)
    ]
    return _report("bits_per_byte", engine.name, scores, {"bits_per_byte": "lower"}, clock() - started)


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str


async def _each(
    items: Sequence[Item], ask: Callable[[Item], Awaitable[Answer]], progress: OnProgress | None, concurrency: int
) -> list[Answer | _Failure]:
    """Return an answer, or why there is none, for each item, in order.

    Raises:
        BackendError: too many items failed; the rest are not asked.
    """
    answers: dict[int, Answer | _Failure] = {}
    waiting = iter(enumerate(items))
    failures = 0

    async def work() -> None:
        nonlocal failures
        for index, item in waiting:
            try:
                answers[index] = await ask(item)
            except Cancelled:
                raise
            except Exception as error:  # an engine is somebody else's code: whatever it raises is its answer
                answers[index] = _Failure(f"{type(error).__name__}: {error}")
                failures += 1
                if failures > _tolerated(len(items)):
                    raise _too_many(failures, len(items), error) from error
            if progress:
                progress(len(answers), len(items))

    workers = [asyncio.create_task(work()) for _ in range(min(concurrency, len(items)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [answers[index] for index in range(len(items))]


def _tolerated(count: int) -> int:
    """Return how many of some items may fail: a tenth, rounded up, but never all of them."""
    return min(ceil(TOLERATED_FAILURES_RATIO * count), count - 1)


def _too_many(failures: int, count: int, last: Exception) -> BackendError:
    hint = last.hint if isinstance(last, BessemerError) else ""
    return BackendError(
        f"the engine failed on {failures} of {count} samples, the last time with: {last}",
        hint=hint or "Ask the engine one of the questions by itself; its own log may say more.",
    )


def _grade(sample: Sample, answer: Completion | _Failure, scorers: Mapping[str, Scorer]) -> Score:
    if isinstance(answer, _Failure):
        return Score(
            sample_id=sample.id,
            group=sample.group,
            rule=sample.rule,
            values=dict.fromkeys(scorers, 0.0),
            error=answer.reason,
        )
    values = {name: scorer(answer.text, sample) for name, scorer in scorers.items()}
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"scorer '{name}' gave {value} on sample '{sample.id}': it must lie between 0 and 1")
    return Score(
        sample_id=sample.id,
        group=sample.group,
        rule=sample.rule,
        output=answer.text,
        values=values,
        usage=answer.usage,
    )


def _bits(name: str, group: str, text: str, result: ScoreResult | _Failure) -> Score:
    if isinstance(result, _Failure):
        return Score(sample_id=name, group=group, values={"bits_per_byte": 0.0}, weight=0, error=result.reason)
    size = len(text.encode()) if result.scored_bytes is None else result.scored_bytes
    if not size or not result.scored_tokens:
        reason = "a single token: nothing stands before it"
        return Score(sample_id=name, group=group, values={"bits_per_byte": 0.0}, weight=0, error=reason)
    bits = -result.logprob_sum / log(2)
    return Score(sample_id=name, group=group, values={"bits_per_byte": bits / size}, weight=size, usage=result.usage)


def _report(task: str, model: str, scores: Sequence[Score], metrics: Mapping[str, Better], seconds: float) -> Report:
    counted = [score for score in scores if score.weight]
    if not counted:
        raise ConfigError(f"none of {len(scores)} samples of '{task}' can be scored: {scores[0].error}")
    found = tuple(_metric(name, better, counted) for name, better in metrics.items())
    return Report(task=task, model=model, metrics=found, scores=tuple(scores), seconds=seconds)


def _metric(name: str, better: Better, scores: Sequence[Score]) -> Metric:
    column = Column([score.values[name] for score in scores], [score.weight for score in scores])
    groups = [score.group for score in scores]
    return Metric(
        name=name,
        better=better,
        value=column.mean(),
        interval=mean_interval(column, groups),
        samples=len(scores),
        groups=len(set(groups)),
    )
