"""Who wins, whenever somebody looks: against many simulated experiments of which the truth is known."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from bessemer.evals.interleaving import team_draft
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
    assert (few.winner, few.sentence.split(" (")[0]) == ("undecided", f"too early: 40 users, of at least {LEAST_USERS}")
    assert read_arms([], [1.0]).anytime is None and "fewer than two users" in read_arms([], [1.0]).sentence


def test_interleaving_is_read_and_its_coin_is_checked() -> None:
    good, poor = [f"g{n}" for n in range(10)], [f"p{n}" for n in range(10)]
    shown = [(f"u{n}", made := team_draft(poor, good, 6, str(n)), made.items[:4]) for n in range(80)]
    assert read_drafts(shown).winner == "undecided"
    assert read_drafts([(u, m, [i for i in c if i[0] == "g"]) for u, m, c in shown]).winner == "challenger"
    assert read_drafts([each for each in shown if each[1].teams[0]]).winner in ("mismatch", "undecided")
    assert read_drafts([each for each in shown if each[1].teams[0]]).chance < 0.001
    assert read_drafts([]).winner == "undecided"


def test_the_chance_of_sizes_is_that_of_drawing_them() -> None:
    random = Random(0)
    drawn = [sum(random.random() < 0.3 for _ in range(400)) for _ in range(2_000)]
    wrong = sum(size_chance(count, 400, 0.3) < 0.05 for count in drawn) / 2_000
    assert wrong == pytest.approx(0.05, abs=0.02)
    assert size_chance(0, 0, 0.5) == 1.0
