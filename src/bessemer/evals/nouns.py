"""The nouns of evaluation: what is asked, what came back, and what a whole run of questions amounts to.

Owns Sample, Task, Score, Metric and Report; all are frozen and survive a JSON round trip. Knows neither how an
answer is graded nor how an interval is computed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat, model_validator

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Interval, Message, Noun, Usage

Better = Literal["higher", "lower"]
"""Which way a metric improves."""


class Sample(Noun):
    """One question with its reference answer.

    Attributes:
        id: unique in its task; answers of two models are paired by it.
        messages: the conversation that the model continues.
        target: the reference answer.
        group: what is not independent of each other shares a group (the module that questions were made from).
        rule: what kind of question it is, such as ``signature``.
    """

    id: str
    messages: Annotated[tuple[Message, ...], Field(min_length=1)]
    target: str
    group: str
    rule: str = ""


class Task(Noun):
    """Samples, and the names of the scorers that grade the answers; `max_output_tokens` cuts an answer off."""

    name: str
    samples: Annotated[tuple[Sample, ...], Field(min_length=1)]
    scorers: Annotated[tuple[str, ...], Field(min_length=1)] = ("exact_match", "token_f1")
    max_output_tokens: Annotated[int, Field(ge=1)] = 64

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Task:
        if len({sample.id for sample in self.samples}) < len(self.samples):
            raise ValueError(f"task '{self.name}' has two samples with one id")
        return self


class Score(Noun):
    """What one sample came to.

    Attributes:
        values: metric -> value.
        weight: the sample's share in a metric's mean: 1 for an answer, bytes for a text's bits per byte; 0 takes
            it out, with `error` saying why.
        error: empty, or why the engine gave no answer.
    """

    sample_id: str
    group: str
    rule: str = ""
    output: str = ""
    values: dict[str, FiniteFloat]
    weight: NonNegativeFloat = 1.0
    usage: Usage = Usage()
    error: str = ""


class Metric(Noun):
    """A metric over all samples: the weighted mean of the scores, that is, the sum of w x v over the sum of w.

    Attributes:
        interval: bootstrap confidence interval over groups; None where fewer than two groups were scored.
        samples: how many count (their weight is not zero).
        groups: how many groups they come from.
    """

    name: str
    better: Better
    value: FiniteFloat
    interval: Interval | None
    samples: int
    groups: int


class Report(Noun):
    """What a model achieved at a task, down to every answer; `seconds` is wall time."""

    task: str
    model: str
    metrics: tuple[Metric, ...]
    scores: tuple[Score, ...]
    seconds: float

    @property
    def usage(self) -> Usage:
        """Tokens of all samples together."""
        used = [score.usage for score in self.scores]
        return Usage(
            input_tokens=sum(u.input_tokens for u in used),
            output_tokens=sum(u.output_tokens for u in used),
            cached_tokens=sum(u.cached_tokens for u in used),
        )

    @property
    def failures(self) -> tuple[Score, ...]:
        """The samples for which the engine gave no answer, each with its reason."""
        return tuple(score for score in self.scores if score.error)

    def metric(self, name: str) -> Metric:
        """Return one metric.

        Raises:
            NotFound: the report has no metric of that name.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = ", ".join(metric.name for metric in self.metrics)
        raise NotFound(f"report '{self.task}' has no metric '{name}'", hint=f"Known: {known}")

    def breakdown(self, by: Literal["rule", "group"] = "rule") -> dict[str, dict[str, float]]:
        """Return rule (or group) -> metric -> weighted mean, sorted by name."""
        parts: dict[str, list[Score]] = {}
        for score in self.scores:
            if score.weight:
                parts.setdefault(score.rule if by == "rule" else score.group, []).append(score)
        return {
            part: {metric.name: _mean(scores, metric.name) for metric in self.metrics}
            for part, scores in sorted(parts.items())
        }


def _mean(scores: list[Score], metric: str) -> float:
    return sum(s.weight * s.values[metric] for s in scores) / sum(s.weight for s in scores)
