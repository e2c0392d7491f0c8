"""What another policy would have earned, estimated from the logs of the one that ran.

Owns the estimators: inverse propensity (IPS), self-normalised (SNIPS) and doubly robust (DR), each with a bootstrap
interval over users. Knows no policy: it is handed, for each logged decision, the probabilities of both and the reward.

The logging policy must have been able to do what the other would: where it never explores, nothing can be said, and the
effective sample size tells how little is left. Log with exploration (see `softmax_propensities`).
Sources: Horvitz & Thompson 1952 (IPS); Swaminathan & Joachims 2015, NeurIPS (SNIPS); Dudík, Langford & Li 2011,
"Doubly Robust Policy Evaluation and Learning", ICML, arXiv:1103.4601 (DR); Kish 1965 (effective sample size).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Interval
from bessemer.evals.bootstrap import Column, mean_interval


@dataclass(frozen=True, slots=True)
class Logged:
    """One decision that was made and what came of it.

    Attributes:
        user: whose; decisions of one user are not independent.
        reward: what came of it, such as 1 for a click.
        logged: probability with which it was made, above 0.
        target: probability with which the other policy would have made it.
        predicted: reward that a model expects of it; for `DR` only.
        expected: reward that the model expects of the other policy here, over all that it might do; for `DR` only.
    """

    user: str
    reward: float
    logged: float
    target: float
    predicted: float = 0.0
    expected: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean reward of the other policy, by three estimators.

    Attributes:
        ips: unbiased where propensities are right; varies most.
        snips: a little biased, varies less, and cannot leave the range of rewards.
        dr: unbiased if propensities or the model are right.
        logged: what the logging policy earned.
        effective: how many decisions of the target policy the log is worth.
        clipped: share of decisions whose weight was cut to `most`.
    """

    ips: Interval
    snips: Interval
    dr: Interval
    logged: Interval
    effective: float
    clipped: float


def estimate(
    log: Sequence[Logged], *, most: float = float("inf"), confidence: float = 0.95, resamples: int = 10_000
) -> Estimate:
    """Return what a policy would have earned.

    Args:
        log: decisions of at least two users.
        most: weights are cut to this, which trades variance for bias.
        confidence: of the intervals.
        resamples: draws of the bootstrap, over users.

    Raises:
        ConfigError: a probability is none, or there are fewer than two users.
    """
    for number, each in enumerate(log):
        if not (0 < each.logged <= 1 and 0 <= each.target <= 1):
            raise ConfigError(
                f"decision {number} was logged with probability {each.logged:g} and wanted with {each.target:g}",
                hint="Log the probability with which each item was shown; it is above 0, as it was shown.",
            )
    users = [each.user for each in log]
    raw = [each.target / each.logged for each in log]
    weights = [min(weight, most) for weight in raw]
    ones = [1.0] * len(log)

    def interval(values: Sequence[float], of: Sequence[float] = ones) -> Interval:
        found = mean_interval(Column(values, of), users, confidence=confidence, resamples=resamples)
        if found is None:
            raise ConfigError("the log is of fewer than two users: nothing can be said", hint="Log more users.")
        return found

    if not sum(weights):
        raise ConfigError("the other policy would have done nothing of what was done", hint="Log with exploration.")
    paired = list(zip(log, weights, strict=True))
    # A weight of 0 would leave the ratio of sums undefined in a draw of such users alone.
    floor = max(weights) * 1e-12
    return Estimate(
        ips=interval([weight * each.reward for each, weight in paired]),
        snips=interval([each.reward for each in log], [max(weight, floor) for weight in weights]),
        dr=interval([each.expected + weight * (each.reward - each.predicted) for each, weight in paired]),
        logged=interval([each.reward for each in log]),
        effective=sum(weights) ** 2 / sum(weight**2 for weight in weights),
        clipped=sum(weight > most for weight in raw) / len(log),
    )


def softmax_propensities(scores: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Return the probability with which each item is shown first when one is drawn by its score.

    Args:
        scores: of the items.
        temperature: near 0 always shows the best, which leaves nothing to learn from; large ones draw evenly.

    >>> [round(p, 2) for p in softmax_propensities([2.0, 1.0, 0.0])]
    [0.67, 0.24, 0.09]
    """
    best = max(scores)
    found = [exp((score - best) / temperature) for score in scores]
    return [each / sum(found) for each in found]
