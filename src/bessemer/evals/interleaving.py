"""Two rankers on live users: by halves of the users (A/B), or both at once in one list (interleaving).

Owns the assignment, the drafting of lists and the statistics, which are the gate's: paired or grouped bootstrap over
users, and a verdict in plain sentences. Knows no server: it is handed rankings and what was clicked.

Interleaving needs far fewer users than A/B, as each user compares both; it tells which is preferred, not by how much
they do more. Source of the draft and its credit: Radlinski, Kurup & Joachims 2008, "How Does Clickthrough Data Reflect
Retrieval Quality?", CIKM (team draft).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Interval, RuleOutcome
from bessemer.evals.bootstrap import FEW_GROUPS, Column, _numpy, mean_interval

_MANY_VALUES = 10_000
"""With more values than this the means of draws are normal to more digits than anybody is told."""
_CELLS_AT_ONCE = 500_000


def arm_of(experiment: str, user: str, challenger_ratio: float = 0.5) -> bool:
    """Return whether a user belongs to the challenger's arm: the same answer anywhere and always.

    Args:
        experiment: its name; another one divides the users anew, independently of this one.
        user: whose arm.
        challenger_ratio: share of all users.
    """
    told = hashlib.sha256(f"{experiment}\0{user}".encode()).digest()
    return int.from_bytes(told[:8], "big") / 2**64 < challenger_ratio


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A list made of two; `teams` says for each item whose it is: 0 the incumbent's, 1 the challenger's."""

    items: tuple[str, ...]
    teams: tuple[int, ...]


def team_draft(incumbent: Sequence[str], challenger: Sequence[str], n: int, seed: str) -> Interleaved:
    """Return a list in which two rankings take turns, a coin deciding who is first in each turn.

    Args:
        incumbent: its ranking, the best first.
        challenger: likewise.
        n: items of the list.
        seed: of the coin; the id of the answer, so that the list can be made again.
    """
    coin = Random(seed)
    lists, counts, taken = (incumbent, challenger), [0, 0], dict[str, int]()
    while len(taken) < n:
        left = [next((item for item in ranking if item not in taken), None) for ranking in lists]
        if left == [None, None]:
            break
        team = 0 if counts[0] < counts[1] else 1 if counts[1] < counts[0] else coin.randrange(2)
        if left[team] is None:
            team = 1 - team
        item = left[team]
        assert item is not None
        taken[item] = team
        counts[team] += 1
    return Interleaved(tuple(taken), tuple(taken.values()))


def preferences(shown: Sequence[tuple[str, Interleaved, Sequence[str]]]) -> dict[str, float]:
    """Return, for each user who clicked, (the challenger's clicks - the incumbent's) / clicks: from -1 to 1.

    >>> preferences([("ada", Interleaved(("a", "b", "c"), (0, 1, 1)), ["a", "b", "c"])])
    {'ada': 0.3333333333333333}
    """
    clicks: dict[str, list[int]] = {}
    for user, made, clicked in shown:
        teams = dict(zip(made.items, made.teams, strict=True))
        won = clicks.setdefault(user, [0, 0])
        for item in set(clicked) & teams.keys():
            won[teams[item]] += 1
    return {user: (won[1] - won[0]) / sum(won) for user, won in clicks.items() if sum(won)}


def judge_interleaving(
    shown: Sequence[tuple[str, Interleaved, Sequence[str]]], *, confidence: float = 0.95, resamples: int = 10_000
) -> RuleOutcome:
    """Return whether users prefer the challenger: by the mean over users of (its clicks - the incumbent's) / clicks.

    Args:
        shown: for each list: the user, the list, the items that were clicked.
        confidence: of the interval over users that must lie above 0.
        resamples: draws of the bootstrap.

    Raises:
        ConfigError: nothing was clicked.
    """
    voting = preferences(shown)
    if not voting:
        raise ConfigError("no shown item was clicked: nobody has preferred anything", hint="Wait for more events.")
    values = list(voting.values())
    column = Column(values, [1.0] * len(values))
    interval = mean_interval(column, list(voting), confidence=confidence, resamples=resamples)
    passed = interval is not None and interval.low > 0
    span = f" [{interval.low:+.3f}, {interval.high:+.3f}] at {confidence * 100:g} %" if interval else ""
    rough = f"; only {len(values)} users: the interval is rough" if len(values) < FEW_GROUPS else ""
    claim = "the challenger is preferred" if passed else "not shown to be preferred"
    return RuleOutcome(
        rule="interleaving",
        metric="preference",
        passed=passed,
        before=0.0,
        after=column.mean(),
        difference=interval,
        sentence=f"preference {column.mean():+.3f}{span} of {len(values)} users who clicked: {claim}{rough}",
    )


def judge_halves(
    outcomes: Mapping[str, float],
    experiment: str,
    *,
    challenger_ratio: float = 0.5,
    metric: str = "clicks",
    confidence: float = 0.95,
    resamples: int = 10_000,
) -> RuleOutcome:
    """Return whether users of the challenger's arm do better: the difference of means of two groups of users.

    Args:
        outcomes: for each user who was shown anything, the mean of what is counted.
        experiment: its name, which says whose arm each is.
        challenger_ratio: share of all users.
        metric: what is counted; higher is better.
        confidence: of the interval that must lie above 0.
        resamples: draws of the bootstrap, over the users of each arm.

    Raises:
        ConfigError: an arm has fewer than two users.
    """
    arms: tuple[list[float], list[float]] = ([], [])
    for user in sorted(outcomes):
        arms[arm_of(experiment, user, challenger_ratio)].append(outcomes[user])
    return judge_arms(*arms, metric=metric, confidence=confidence, resamples=resamples)


def judge_arms(
    incumbent: Sequence[float],
    challenger: Sequence[float],
    *,
    metric: str = "clicks",
    confidence: float = 0.95,
    resamples: int = 10_000,
) -> RuleOutcome:
    """Return whether the users of one arm do better than those of the other: the difference of means.

    Args:
        incumbent: for each user of this arm, the mean of what is counted.
        challenger: likewise.
        metric: what is counted; higher is better.
        confidence: of the interval that must lie above 0.
        resamples: draws of the bootstrap, over the users of each arm.

    Raises:
        ConfigError: an arm has fewer than two users.
    """
    np, arms = _numpy(), [_numpy().asarray(arm, float) for arm in (incumbent, challenger)]
    if min(len(arm) for arm in arms) < 2:
        raise ConfigError("an arm has fewer than two users", hint="Wait for more users, or divide them more evenly.")
    before, after = (float(arm.mean()) for arm in arms)
    random = np.random.default_rng(0)
    draws = [_mean_draws(arm, resamples, random) for arm in arms]
    low, high = np.quantile(draws[1] - draws[0], [(1 - confidence) / 2, (1 + confidence) / 2])
    passed = bool(low > 0)
    claim = "better than the incumbent" if passed else "not shown to be better than the incumbent"
    users = f"{len(arms[1])} users beside {len(arms[0])}"
    return RuleOutcome(
        rule="halves",
        metric=metric,
        passed=passed,
        before=before,
        after=after,
        difference=Interval(value=after - before, low=float(low), high=float(high), confidence=confidence),
        sentence=(
            f"{metric} {before:.3f} and {after:.3f} of {users}, {after - before:+.3f} [{low:+.3f}, {high:+.3f}] "
            f"at {confidence * 100:g} %: {claim}"
        ),
    )


def _mean_draws(values: Any, resamples: int, random: Any) -> Any:
    """Return the means of draws with replacement; shape (resamples,).

    How often each value is drawn is multinomial: clicks have few values, and a million users cost no more than ten.
    """
    np = _numpy()
    of, (distinct, counts) = len(values), np.unique(values, return_counts=True)
    if len(distinct) > _MANY_VALUES:
        return random.normal(values.mean(), values.std() / np.sqrt(of), resamples)
    at_once = max(1, _CELLS_AT_ONCE // len(distinct))
    return np.concatenate(
        [
            random.multinomial(of, counts / of, size=min(at_once, resamples - start)) @ distinct / of
            for start in range(0, resamples, at_once)
        ]
    )
