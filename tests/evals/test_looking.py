"""Who wins, whenever somebody looks: against many simulated experiments of which the truth is known."""

from __future__ import annotations

import dataclasses
import time
from random import Random

import numpy as np
import pytest

from bessemer.core.errors import ConfigError
from bessemer.evals.foreseeing import Place, foresee_places
from bessemer.evals.interleaving import Interleaved, judge_arms, team_draft
from bessemer.evals.online import LEAST_USERS, anytime_interval, read_arms, read_drafts, size_chance


def looks(difference: float, seed: int) -> tuple[bool, bool]:
    """Look at one A/B test of 3,000 users after every 60th; return whether the challenger or incumbent ever won.

    First by the sequence, then by what holds for one look only.
    """
    random, users = np.random.default_rng(seed), np.arange(1, 1_501)
    arms = [random.poisson(0.3 + difference * arm, 1_500).astype(float) for arm in (0, 1)]
    means = [np.cumsum(arm) / users for arm in arms]
    variances = [np.cumsum(arm**2) / users - mean**2 for arm, mean in zip(arms, means, strict=True)]
    always = once = False
    for at in range(30, 1_500, 30):
        value, error = means[1][at] - means[0][at], float(np.sqrt((variances[0][at] + variances[1][at]) / (at + 1)))
        found = anytime_interval(value, error, 2 * (at + 1))
        always |= not found.low <= 0 <= found.high
        once |= abs(value) > 1.96 * error
    return always, once


def test_looking_often_is_safe_with_the_sequence_and_is_not_with_a_fixed_interval() -> None:
    found = np.asarray([looks(0.0, seed) for seed in range(300)]).mean(axis=0)
    assert found[0] <= 0.05, found
    assert found[1] > 0.2, found
    assert np.mean([looks(0.12, seed)[0] for seed in range(60)]) > 0.9, "and it finds what is there"


def test_an_ab_test_is_read() -> None:
    random = Random(3)
    arms = [[random.gauss(1 + 0.5 * arm, 1) for _ in range(150)] for arm in (0, 1)]
    found = read_arms(*arms, metric="clicks")
    assert found.winner == "challenger" and found.sentence.startswith("the challenger wins (at all looks together +0.")
    assert found.anytime.low < found.fixed.low < found.fixed.value == pytest.approx(found.anytime.value)
    assert read_arms(*arms[::-1]).winner == "incumbent"
    assert read_arms(arms[0], arms[0]).winner == "undecided"
    assert read_arms(arms[0][:90], arms[1], challenger_ratio=0.5).winner == "mismatch"
    assert read_arms(arms[0][:90], arms[1], challenger_ratio=0.6).winner == "challenger"
    few = read_arms(arms[0][:20], arms[1][:20])
    assert (few.winner, few.sentence.split(" (")[0]) == (
        "undecided",
        f"too early: 20 users in the smaller arm, of at least {LEAST_USERS}",
    )
    assert read_arms([], [1.0]).anytime is None and "fewer than two users" in read_arms([], [1.0]).sentence


def test_a_small_arm_is_not_taken_for_a_loser() -> None:
    """Nothing differs; every 25 users somebody looks. One in twenty may be wrong, and is less often, as arms go."""
    wrong = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        small, clicks = random.random(1_200) < 0.1, (random.random(1_200) < 0.05).astype(float)
        for at in range(50, 1_201, 25):
            arms = clicks[:at][~small[:at]], clicks[:at][small[:at]]
            if read_arms(*arms, challenger_ratio=0.1, resamples=50).winner in ("challenger", "incumbent"):
                wrong += 1
                break
    assert wrong <= 3, wrong


def test_an_arm_that_nobody_comes_into_is_told_at_once() -> None:
    found = read_arms([0.1] * 10_000, [])
    assert (found.winner, found.anytime) == ("mismatch", None) and found.sentence.startswith("not to be trusted")
    one_sided = [(f"u{n}", Interleaved(("a", "b"), (1, 0)), []) for n in range(60)]
    assert read_drafts(one_sided).winner == "mismatch", "nobody clicked, and the coin is not even"
    assert read_arms([0.0] * 2, [0.0] * 2, challenger_ratio=0.05).winner == "undecided", "that few say nothing"
    assert read_arms([], [1.0] * 2, challenger_ratio=0.05).winner == "undecided"


def test_a_million_users_cost_little() -> None:
    """Draws of so many users one by one take a minute, and gigabytes."""
    began = time.process_time()
    values = np.random.default_rng(0).poisson(0.3, 1_000_000).astype(float)
    found = judge_arms(values, values[::2], resamples=10_000).difference
    exact = 1.96 * np.sqrt(values.var() / 1_000_000 + values[::2].var() / 500_000)
    assert (found.high - found.low) / 2 == pytest.approx(exact, rel=0.05)
    every = np.random.default_rng(0).normal(0.3, 1, 40_000)
    half = judge_arms(every[::2], every[1::2]).difference
    assert (half.high - half.low) / 2 == pytest.approx(1.96 * np.sqrt(2 / 20_000), rel=0.05)
    assert time.process_time() - began < 5


def test_interleaving_is_read_and_its_coin_is_checked() -> None:
    good, poor = [f"g{n}" for n in range(10)], [f"p{n}" for n in range(10)]
    shown = [(f"u{n}", made := team_draft(poor, good, 6, str(n)), made.items[:4]) for n in range(80)]
    assert read_drafts(shown).winner == "undecided"
    assert read_drafts([(u, m, [i for i in c if i[0] == "g"]) for u, m, c in shown]).winner == "challenger"
    assert read_drafts([each for each in shown if each[1].teams[0]]).winner in ("mismatch", "undecided")
    assert read_drafts([each for each in shown if each[1].teams[0]]).chance < 0.001
    assert read_drafts([]).winner == "undecided"


GAINS = [0.6, 0.3, 0.25, 0.2, 0.1, 0.05, 0.05, 0.05]
"""How often each of eight items is taken up where it stands first; half as often further down."""


def places(trial: int, users: int = 300, share: float = 0.4, depth: int = 6) -> list[Place]:
    """Log a ranker that puts the best item fifth, with chance in the order; the candidate puts it first."""
    random, found = Random(trial), []
    usual, wanted = [4, 1, 2, 3, 0, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]
    for user in range(users):
        order = list(range(depth))
        if random.random() < share:
            random.shuffle(order)
        for place, number in enumerate(order[:4]):
            item = usual[number]
            found.append(
                Place(
                    user=f"u{user}",
                    place=place,
                    item=str(item),
                    reward=float(random.random() < GAINS[item] / (1 + (place > 0))),
                    propensity=(1 - share) * (place == number) + share / depth,
                    incumbent=str(usual[place]),
                    candidate=str(wanted[place]),
                    supported=True,
                )
            )
    return found


def test_a_log_tells_what_a_candidate_would_have_earned() -> None:
    truth = (GAINS[0] + sum(GAINS[1:4]) / 2) / 4, (GAINS[4] + sum(GAINS[1:4]) / 2) / 4
    covered, values = {"dr": 0, "snips": 0, "ips": 0, "incumbent": 0, "difference": 0}, []
    for trial in range(40):
        found = foresee_places(places(trial), resamples=300)
        told = {name: (getattr(found.candidate, name), truth[0]) for name in ("dr", "snips", "ips")}
        told |= {"incumbent": (found.incumbent.dr, truth[1]), "difference": (found.difference, truth[0] - truth[1])}
        for name, (interval, true) in told.items():
            covered[name] += interval.low <= true <= interval.high
        values.append(found.candidate.dr.value)
    assert sum(values) / 40 == pytest.approx(truth[0], abs=0.015)
    assert min(covered.values()) >= 34, covered  # 38 are expected
    assert sum(foresee_places(places(t), resamples=300).difference.low > 0 for t in range(20)) > 15, "it finds it"
    same = [dataclasses.replace(each, candidate=each.incumbent) for each in places(0)]
    assert foresee_places(same, resamples=300).difference.high == 0.0
    none = [dataclasses.replace(each, candidate=None, supported=False) for each in places(0)]
    with pytest.raises(ConfigError, match="nothing of what was done"):
        foresee_places(none)


def test_the_chance_of_sizes_is_that_of_drawing_them() -> None:
    random = Random(0)
    drawn = [sum(random.random() < 0.3 for _ in range(400)) for _ in range(2_000)]
    wrong = sum(size_chance(count, 400, 0.3) < 0.05 for count in drawn) / 2_000
    assert wrong == pytest.approx(0.05, abs=0.02)
    few = [sum(random.random() < 0.05 for _ in range(20)) for _ in range(2_000)]
    assert sum(size_chance(count, 20, 0.05) < 0.01 for count in few) / 2_000 <= 0.01
    assert size_chance(19, 20, 0.95) == size_chance(1, 20, 0.05)
    assert size_chance(0, 0, 0.5) == 1.0
