"""Trials of agents: a question, a world, and the state that the world must be in afterwards. Words alone solve nothing.

Each trial is tried several times. ``solved`` is the share of attempts that end as wanted; ``pass^k`` the chance that k
attempts in a row all do: what somebody needs to know who relies on it.
Source: Yao et al. 2024, tau-bench (arXiv 2406.12045), section 4: the unbiased estimate C(c, k) / C(n, k).

Owns the grading. Knows not what an agent is made of: it is handed a function from a world to an engine.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Annotated, Any, Literal

from pydantic import Field

from bessemer.core.acting import Act, acts_of
from bessemer.core.config import Config
from bessemer.core.errors import BessemerError, ConfigError
from bessemer.core.nouns import ChatRequest, Delta, Message, Noun, Sampling, Usage
from bessemer.core.protocols import Engine
from bessemer.evals.bootstrap import Column, mean_interval
from bessemer.evals.nouns import Metric, Report, Score
from bessemer.evals.worlds import State, World, differences

AgentIn = Callable[[World], Engine[ChatRequest, Any, Delta]]
"""From a world to the agent whose tools act in it."""

OnProgress = Callable[[float, float], None]


class Trial(Noun):
    """One task of an agent.

    Attributes:
        id: unique.
        group: trials that resemble each other share one.
        question: what the agent is asked.
        start: of the world.
        end: that the world must have; None is the start, unchanged.
        says: words that must stand in the answer, in upper or lower case; 12 does not stand in 1234.
        calls: tools that must be called without error, in this order, others between them or not.
        never: tools that must not be called.
        split: ``train`` or ``heldout``.
    """

    id: str
    group: str
    question: str
    start: State = State()
    end: State | None = None
    says: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    split: Literal["train", "heldout"] = "heldout"


class Attempt(Noun):
    """What came of one attempt.

    Attributes:
        solved: the world ended as wanted, the answer says what it must, and no tool was called that must not be.
        wrong: what was not as wanted, in sentences.
        usage: of the whole answer.
        steps: how often the model was asked.
    """

    solved: bool
    wrong: tuple[str, ...] = ()
    answer: str = ""
    usage: Usage = Usage()
    steps: int = 0
    seconds: float = 0.0


class TrialsConfig(Config):
    """How often each trial is tried, and how.

    Attributes:
        attempts: of each trial, with seeds of their own.
        k: of pass^k; at most `attempts`.
        temperature: of the model; 0 makes all attempts alike where an engine repeats itself.
        max_output_tokens: of an act of the model.
        concurrency: attempts at once.
    """

    attempts: Annotated[int, Field(ge=1, le=100)] = 1
    k: Annotated[int, Field(ge=1, le=100)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_output_tokens: Annotated[int, Field(ge=1)] = 128
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8


@dataclass(frozen=True, slots=True)
class Tried:
    """The report of all trials, and each attempt of each."""

    report: Report
    attempts: dict[str, tuple[Attempt, ...]]


def pass_hat(solved: int, attempts: int, k: int) -> float:
    """Return the estimated chance that k attempts all succeed, of which so many of so many did.

    >>> pass_hat(4, 4, 4), pass_hat(3, 4, 2), pass_hat(1, 4, 2)
    (1.0, 0.5, 0.0)
    """
    return comb(solved, k) / comb(attempts, k)


def grade(trial: Trial, found: State, answer: str, acts: Sequence[Act]) -> list[str]:
    """Return in sentences what an attempt did not do as wanted; nothing if it solved the trial."""
    wrong = differences(trial.end or trial.start, found)
    wrong += [f"the answer does not say '{text}'" for text in trial.says if not _says(answer, text)]
    made = [act.name for act in acts if act.kind == "tool"]
    wrong += [f"'{name}' was called" for name in trial.never if name in made]
    left = iter(act.name for act in acts if act.kind == "tool" and not act.error)
    wrong += [f"'{name}' was not called in its place" for name in trial.calls if name not in left]
    return wrong


def _says(answer: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", answer, re.IGNORECASE) is not None


async def run_trials(
    agent: AgentIn,
    trials: Sequence[Trial],
    config: TrialsConfig | None = None,
    progress: OnProgress | None = None,
    model: str = "",
) -> Tried:
    """Return what an agent achieves at trials, each attempt in a world of its own.

    Args:
        agent: makes the agent for a world; closed after the attempt.
        trials: ids are unique.
        config: how often, and how.
        progress: told (done, total) after every attempt.
        model: what the report calls it.

    Raises:
        ConfigError: there are no trials, two have one id, or k is more than there are attempts.
    """
    chosen = config or TrialsConfig()
    if not trials or len({trial.id for trial in trials}) < len(trials):
        raise ConfigError(f"{len(trials)} trials: at least one is needed, and every id once")
    if chosen.k > chosen.attempts:
        raise ConfigError(f"pass^{chosen.k} needs {chosen.k} attempts, there are {chosen.attempts}", hint="Lower k.")
    began, room, done = time.monotonic(), asyncio.Semaphore(chosen.concurrency), 0

    async def one(trial: Trial, number: int) -> Attempt:
        nonlocal done
        async with room:
            attempt = await _attempt(agent, trial, chosen, number)
        done += 1
        if progress:
            progress(done, len(trials) * chosen.attempts)
        return attempt

    jobs = [asyncio.gather(*(one(trial, number) for number in range(chosen.attempts))) for trial in trials]
    attempts = {t.id: tuple(found) for t, found in zip(trials, await asyncio.gather(*jobs), strict=True)}
    return Tried(_report(trials, attempts, chosen, model, time.monotonic() - began), attempts)


async def _attempt(agent: AgentIn, trial: Trial, config: TrialsConfig, number: int) -> Attempt:
    began = time.monotonic()
    pieces: list[Delta] = []
    error = ""
    with World(trial.start) as world:
        engine = agent(world)
        seed = number if config.temperature and "seed" in engine.capabilities else None
        sampling = Sampling(max_output_tokens=config.max_output_tokens, temperature=config.temperature, seed=seed)
        request = ChatRequest(messages=(Message(role="user", content=trial.question),), sampling=sampling)
        try:
            async for piece in engine.stream(request):
                pieces.append(piece)
        except BessemerError as raised:
            error = f"{raised.code}: {raised.message}"
        finally:
            await engine.close()
        acts, answer = acts_of(pieces), "".join(piece.text for piece in pieces)
        wrong = [error] if error else grade(trial, world.state(), answer, acts)
    return Attempt(
        solved=not wrong,
        wrong=tuple(wrong),
        answer=answer,
        usage=next((piece.usage for piece in reversed(pieces) if piece.usage), Usage()),
        steps=sum(act.kind == "model" for act in acts),
        seconds=time.monotonic() - began,
    )


def _report(
    trials: Sequence[Trial], attempts: dict[str, tuple[Attempt, ...]], config: TrialsConfig, model: str, seconds: float
) -> Report:
    scores = []
    hat = f"pass^{config.k}"
    for trial in trials:
        found = attempts[trial.id]
        solved = sum(attempt.solved for attempt in found)
        usage = Usage(
            input_tokens=sum(attempt.usage.input_tokens for attempt in found),
            output_tokens=sum(attempt.usage.output_tokens for attempt in found),
        )
        values = {"solved": solved / len(found), hat: pass_hat(solved, len(found), config.k)}
        wrong = next((attempt for attempt in found if not attempt.solved), found[0])
        scores.append(
            Score(
                sample_id=trial.id,
                group=trial.group,
                rule=trial.group,
                output=wrong.answer,
                values=values,
                usage=usage,
            )
        )
    groups = [score.group for score in scores]
    metrics = tuple(_metric(name, [score.values[name] for score in scores], groups) for name in ("solved", hat))
    return Report(task="trials", model=model, metrics=metrics, scores=tuple(scores), seconds=seconds)


def _metric(name: str, values: list[float], groups: list[str]) -> Metric:
    column, many = Column(values, [1.0] * len(values)), len(set(groups))
    interval = mean_interval(column, groups)
    if interval and len(set(values)) == 1 and values[0] in (0.0, 1.0):
        # No draw of equal values differs from another. Source: Clopper & Pearson 1934, each group taken for one trial.
        bound = 1 - (0.5 * (1 - interval.confidence)) ** (1 / many)
        ends = {"high": bound} if values[0] == 0.0 else {"low": 1 - bound}
        interval = interval.model_copy(update=ends)
    return Metric(
        name=name,
        better="higher",
        value=column.mean(),
        interval=interval,
        samples=len(values),
        groups=many,
    )
