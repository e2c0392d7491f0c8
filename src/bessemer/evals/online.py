"""Who wins an experiment on live users, whenever somebody looks.

Owns the verdict. Two intervals are told. The gate's bootstrap is for one look at a time that was set beforehand:
whoever looks daily and stops at the first good one is wrong far more often than it says. The other, a confidence
sequence, holds for all looks together, is wider for that, and decides. Before anything else the arms' sizes must fit
the declared share: where they do not, users were lost on the way, and no difference can be trusted.

Sources: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory and asymptotic
confidence sequences", Annals of Statistics 52(6), arXiv:2103.06476 (the sequence, and for which number of users it is
tightest); Fabijan et al. 2019, "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, exp, lgamma, log, log1p, sqrt
from statistics import fmean, variance
from typing import Literal

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Interval, RuleOutcome
from bessemer.evals.bootstrap import _numpy
from bessemer.evals.interleaving import Interleaved, judge_arms, judge_interleaving, preferences

Winner = Literal["challenger", "incumbent", "undecided", "mismatch"]
LEAST_USERS = 50
"""With fewer users, in an A/B test of either arm, nothing is decided: the sequence holds for large numbers only."""
TIGHTEST_USERS = 1_000
"""At so many users the sequence is as narrow as it can be, beside the others that hold for all looks."""
LEAST_CHANCE = 0.001
"""Arms' sizes that are less likely than this are a mistake, not chance. Source: Fabijan et al. 2019."""

_FEW_EXPECTED = 10


@dataclass(frozen=True, slots=True)
class Reading:
    """What an experiment says now.

    Attributes:
        fixed: the gate's interval, for one look at a time set beforehand; None where there is too little.
        anytime: the interval that holds for all looks together; None likewise.
        chance: of sizes of the arms at least as uneven as they are, if users are divided as declared.
        winner: by `anytime`; ``mismatch`` where `chance` is too small.
        sentence: the same in words.
    """

    fixed: Interval | None
    anytime: Interval | None
    chance: float
    winner: Winner
    sentence: str


def read_arms(
    incumbent: Sequence[float],
    challenger: Sequence[float],
    *,
    challenger_ratio: float = 0.5,
    metric: str = "clicks",
    confidence: float = 0.95,
    resamples: int = 2_000,
) -> Reading:
    """Return what an A/B test says; see `judge_arms`.

    The sequence takes the variance of all users together, as if the arms were alike. That of a small arm by itself says
    too little where few users do anything: an arm without a click yet would have none, and be sure of itself.
    """
    users, least = len(incumbent) + len(challenger), min(len(incumbent), len(challenger))
    chance = size_chance(len(challenger), users, challenger_ratio)
    try:
        outcome = judge_arms(incumbent, challenger, metric=metric, confidence=confidence, resamples=resamples)
    except ConfigError as error:
        return _nothing_yet(error, chance)
    together = float(_numpy().var([*incumbent, *challenger], ddof=1))
    spread = sqrt(together * (1 / len(incumbent) + 1 / len(challenger)))
    value = fmean(challenger) - fmean(incumbent)
    interval = anytime_interval(value, spread, users, confidence=confidence)
    early = f"{least} users in the smaller arm, of at least {LEAST_USERS}" if least < LEAST_USERS else ""
    return _reading(outcome, interval, early, chance)


def read_drafts(
    shown: Sequence[tuple[str, Interleaved, Sequence[str]]], *, confidence: float = 0.95, resamples: int = 2_000
) -> Reading:
    """Return what interleaving says; see `judge_interleaving`. The coin that says who begins must be even."""
    firsts = [made.teams[0] for _, made, _ in shown if made.teams]
    chance = size_chance(sum(firsts), len(firsts), 0.5)
    try:
        outcome = judge_interleaving(shown, confidence=confidence, resamples=resamples)
    except ConfigError as error:
        return _nothing_yet(error, chance)
    values = list(preferences(shown).values())
    spread = sqrt(variance(values) / len(values)) if len(values) > 1 else float("inf")
    interval = anytime_interval(fmean(values), spread, len(values), confidence=confidence)
    early = f"{len(values)} users who clicked, of at least {LEAST_USERS}" if len(values) < LEAST_USERS else ""
    return _reading(outcome, interval, early, chance)


def anytime_interval(
    value: float, standard_error: float, users: int, *, confidence: float = 0.95, tightest: int = TIGHTEST_USERS
) -> Interval:
    """Return an interval of which those at all times hold the truth together, with this confidence.

    Args:
        value: the estimate.
        standard_error: of it.
        users: it is of.
        confidence: that no interval, however often one looks, misses the truth.
        tightest: users at which it is narrowest.

    >>> found = anytime_interval(0.1, 0.03, 1_000)
    >>> round(found.low, 3), round(0.1 - 1.96 * 0.03, 3)
    (0.009, 0.041)
    """
    told = -2 * log(1 - confidence)
    rest = users * (told + log(told + 1)) / tightest  # users x rho squared
    half = standard_error * sqrt(2 * (rest + 1) / rest * log(sqrt(rest + 1) / (1 - confidence)))
    return Interval(value=value, low=value - half, high=value + half, confidence=confidence)


def size_chance(count: int, of: int, ratio: float) -> float:
    """Return the chance of a share at least as far from the wanted one: chi-squared with one degree of freedom.

    Where fewer than ten are expected on either side, chi-squared is no good: twice the smaller tail of the binomial.

    >>> round(size_chance(540, 1_000, 0.5), 3)
    0.011
    >>> round(size_chance(2, 4, 0.05), 3)
    0.028
    """
    if not of or not 0 < ratio < 1:
        return 1.0
    if ratio > 0.5:
        return size_chance(of - count, of, 1 - ratio)
    if of * ratio < _FEW_EXPECTED:
        below = sum(_binomial(each, of, ratio) for each in range(count))
        return min(1.0, 2 * min(below + _binomial(count, of, ratio), 1 - below))
    return erfc(abs(count - of * ratio) / sqrt(2 * of * ratio * (1 - ratio)))


def _binomial(count: int, of: int, ratio: float) -> float:
    ways = lgamma(of + 1) - lgamma(count + 1) - lgamma(of - count + 1)
    return exp(ways + count * log(ratio) + (of - count) * log1p(-ratio))


def _nothing_yet(error: ConfigError, chance: float) -> Reading:
    """Return the reading where nothing can be computed; an arm that nobody comes into is just where sizes tell most."""
    if chance < LEAST_CHANCE:
        return Reading(None, None, chance, "mismatch", f"{_uneven(chance)} ({error.message})")
    return Reading(None, None, chance, "undecided", f"too early: {error.message}")


def _uneven(chance: float) -> str:
    return f"not to be trusted: so uneven arms come by chance once in {1 / max(chance, 1e-12):,.0f}"


def _reading(outcome: RuleOutcome, anytime: Interval, early: str, chance: float) -> Reading:
    def read(winner: Winner, said: str) -> Reading:
        span = f"[{anytime.low:+.3f}, {anytime.high:+.3f}]"
        told = f"{said} (at all looks together {anytime.value:+.3f} {span}; at one look set beforehand: "
        return Reading(outcome.difference, anytime, chance, winner, f"{told}{outcome.sentence})")

    if chance < LEAST_CHANCE:
        return read("mismatch", _uneven(chance))
    if early:
        return read("undecided", f"too early: {early}")
    if anytime.low > 0:
        return read("challenger", "the challenger wins")
    if anytime.high < 0:
        return read("incumbent", "the incumbent wins")
    return read("undecided", "undecided")
