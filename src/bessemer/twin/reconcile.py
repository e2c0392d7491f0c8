"""Predicts the stages of our own runs, and learns from what they really took.

A stage of a kind takes `scale * (overhead + amount * rate)`: overhead and rate come from the catalogue, the scale is
the median of what earlier runs on this machine took over what they should have. Owns the scale, the residuals and the
planner's running error. Knows no ledger: what was done is handed in.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bessemer.core.errors import NotFound
from bessemer.twin.catalogue import table, unknown
from bessemer.twin.interval import Interval
from bessemer.twin.uncertainty import EIGHTY

REMEMBERED = 20
"""Runs of a kind that count: machines change, so the oldest are forgotten."""

LEAST_SIGMA = 0.05
"""A stage is never surer than this: two runs of the same work on one machine differ by a few percent."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage to be done, or that was done.

    Attributes:
        kind: name in the catalogue of stages, such as ``train``.
        amount: of the kind's unit, such as tokens.
        seconds: what it took; 0 while nobody knows.
        joules: what it took; 0 while nobody knows.
    """

    kind: str
    amount: float
    seconds: float = 0.0
    joules: float = 0.0


@dataclass(frozen=True, slots=True)
class Residual:
    """What was predicted of a stage before it ran, and what happened."""

    stage: Stage
    seconds: Interval
    joules: Interval

    @property
    def error_ratio(self) -> float:
        """Predicted over actual seconds, less one."""
        return self.seconds.mid / self.stage.seconds - 1

    @property
    def energy_error_ratio(self) -> float:
        """Predicted over actual joules, less one."""
        return self.joules.mid / self.stage.joules - 1 if self.stage.joules else math.nan


@dataclass(frozen=True, slots=True)
class _Kind:
    overhead: float
    rate: float
    watts: float
    sigma: float


def kinds() -> list[str]:
    """Return the kinds of stages that can be predicted."""
    return [row["kind"] for row in table("stages")]


def unit_kinds() -> list[str]:
    """Return the kinds of which a run has one, whatever its data."""
    return [row["kind"] for row in table("stages") if row["unit"] in ("models", "gates", "benchmarks")]


def predict(stage: Stage, history: Sequence[Stage]) -> Residual:
    """Return what a stage will take in seconds and joules, as a residual whose stage may not have happened yet.

    Args:
        stage: its kind and amount.
        history: stages that were done on this machine, oldest first.

    Raises:
        NotFound: no such kind of stage.
    """
    kind = _kind(stage.kind)
    done = [each for each in history if each.kind == stage.kind and each.seconds > 0][-REMEMBERED:]
    ratios = [each.seconds / _usual(kind, each.amount) for each in done]
    scale, sigma = _learnt(ratios, kind.sigma)
    seconds = scale * _usual(kind, stage.amount)
    watts, watts_sigma = _learnt([each.joules / each.seconds / kind.watts for each in done if each.joules], 0.4)
    joules = seconds * kind.watts * watts
    return Residual(stage, _spread(seconds, sigma), _spread(joules, math.hypot(sigma, watts_sigma)))


def replay(history: Sequence[Stage]) -> list[Residual]:
    """Return the residual of each stage that was done, predicted from those before it alone."""
    return [predict(stage, history[:index]) for index, stage in enumerate(history)]


def running_error(residuals: Iterable[Residual]) -> dict[str, tuple[int, float]]:
    """Return kind -> (how many, median absolute error as a ratio)."""
    errors: dict[str, list[float]] = {}
    for residual in residuals:
        errors.setdefault(residual.stage.kind, []).append(abs(residual.error_ratio))
    return {kind: (len(found), statistics.median(found)) for kind, found in errors.items()}


def _kind(name: str) -> _Kind:
    for row in table("stages"):
        if row["kind"] == name:
            columns = ("overhead_seconds", "seconds_per_unit", "watts", "log_sigma")
            return _Kind(*(float(row[column]) for column in columns))
    missing: NotFound = unknown("kind of stage", name, kinds())
    raise missing


def _usual(kind: _Kind, amount: float) -> float:
    return kind.overhead + kind.rate * amount


def _learnt(ratios: Sequence[float], sigma: float) -> tuple[float, float]:
    """Return the scale and how sure it is: the catalogue counts until there is a first run."""
    if not ratios:
        return 1.0, sigma
    middle = statistics.median(ratios)
    away = [abs(math.log(ratio / middle)) for ratio in ratios]
    # Of n draws, the median deviation underestimates; few draws are trusted less. Source: 1.4826 * MAD, Huber 1981.
    learnt = 1.4826 * statistics.median(away) * math.sqrt(1 + 1 / len(ratios))
    weight = 1 / (1 + len(ratios))
    return middle, max(LEAST_SIGMA, weight * sigma + (1 - weight) * learnt)


def _spread(value: float, sigma: float) -> Interval:
    away = math.exp(EIGHTY * sigma)
    return Interval(value, value / away, value * away)
