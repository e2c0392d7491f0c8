"""Predicts the stages of our own runs, and learns from what they really took.

A stage of a kind takes `scale * (overhead * e^tilt + amount * rate * e^-tilt)`: overhead and rate come from the
catalogue; scale and tilt are learnt from earlier runs on this machine. Runs of one size teach the scale, which is the
median of what they took over what they should have; runs of several sizes teach the tilt too, so that a prediction
follows the amount as this machine does. Owns both, the residuals and the planner's running error. Knows no ledger: what
was done is handed in.
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

NOISE = 0.1
"""How far two runs of the same work lie apart, as a logarithm; how much a residual counts against a tilt. Assumed."""

TILT_SIGMA = 0.7
"""How far the tilt of another machine may lie from the catalogue's: a factor of two on either part. Assumed."""

TILTS = tuple(step / 20 for step in range(-40, 41))
"""Those that are tried."""

LEAST_SIGMA = 0.05
"""A stage is never surer than this: two runs of the same work on one machine differ by a few percent."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage to be done, or that was done.

    Attributes:
        kind: name in the catalogue of stages, such as ``train``.
        amount: of the kind's unit, such as tokens, as it is known before the stage runs.
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
    tilt = _tilt(kind, done)
    ratios = [each.seconds / _usual(kind, each.amount, tilt) for each in done]
    scale, sigma = _learnt(ratios, kind.sigma, constants=2 if tilt else 1)
    seconds = scale * _usual(kind, stage.amount, tilt)
    watts, watts_sigma = _learnt([each.joules / each.seconds / kind.watts for each in done if each.joules], 0.4)
    joules = seconds * kind.watts * watts
    return Residual(stage, _spread(seconds, sigma), _spread(joules, math.hypot(sigma, watts_sigma)))


def replay(history: Sequence[Stage]) -> list[Residual]:
    """Return the residual of each stage that was done, predicted from those before it alone."""
    return [predict(stage, history[:index]) for index, stage in enumerate(history)]


def running_error(residuals: Iterable[Residual]) -> dict[str, tuple[int, float, float]]:
    """Return kind -> (how many, median absolute error of the seconds as a ratio, the same of the joules)."""
    kept: dict[str, list[Residual]] = {}
    for residual in residuals:
        kept.setdefault(residual.stage.kind, []).append(residual)
    return {
        kind: (
            len(found),
            statistics.median(abs(each.error_ratio) for each in found),
            statistics.median(abs(each.energy_error_ratio) for each in found),
        )
        for kind, found in kept.items()
    }


def _kind(name: str) -> _Kind:
    for row in table("stages"):
        if row["kind"] == name:
            columns = ("overhead_seconds", "seconds_per_unit", "watts", "log_sigma")
            return _Kind(*(float(row[column]) for column in columns))
    missing: NotFound = unknown("kind of stage", name, kinds())
    raise missing


def _usual(kind: _Kind, amount: float, tilt: float = 0.0) -> float:
    return kind.overhead * math.exp(tilt) + kind.rate * amount * math.exp(-tilt)


def _tilt(kind: _Kind, done: Sequence[Stage]) -> float:
    """Return the likeliest tilt: residuals around their median as Laplace does it, which single outliers do not bend.

    Runs of one size say nothing about it, and the catalogue's stays.
    """

    def unlikely(tilt: float) -> float:
        away = [math.log(each.seconds / _usual(kind, each.amount, tilt)) for each in done]
        middle = statistics.median(away)
        return sum(abs(each - middle) for each in away) / NOISE + (tilt / TILT_SIGMA) ** 2 / 2

    return min(TILTS, key=unlikely) if done and kind.overhead and kind.rate else 0.0


def _learnt(ratios: Sequence[float], sigma: float, constants: int = 1) -> tuple[float, float]:
    """Return the scale and how sure it is after so many `constants` were learnt; the catalogue counts until then."""
    if not ratios:
        return 1.0, sigma
    middle = statistics.median(ratios)
    away = [abs(math.log(ratio / middle)) for ratio in ratios]
    # What the constants were learnt from lies too near to them. Source: 1.4826 * MAD, Huber 1981; n / (n - constants).
    learnt = 1.4826 * statistics.median(away) * math.sqrt(len(ratios) / max(1, len(ratios) - constants))
    weight = 1 / (1 + len(ratios))
    return middle, max(LEAST_SIGMA, weight * sigma + (1 - weight) * learnt)


def _spread(value: float, sigma: float) -> Interval:
    away = math.exp(EIGHTY * sigma)
    return Interval(value, value / away, value * away)
