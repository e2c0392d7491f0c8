from __future__ import annotations

import math

import numpy as np
import pytest

from bessemer.core.errors import ConfigError
from bessemer.evals.ranking import Heldout, evaluate_ranking
from bessemer.evals.splits import last_split, random_split

COUNTS = np.asarray([4, 2, 1, 1])


def held(**changes) -> Heldout:
    given = {
        "users": ["a", "b", "c"],
        "wanted": [np.asarray([2, 3]), np.asarray([0]), np.asarray([], int)],
        "seen": [np.asarray([0]), np.asarray([], int), np.asarray([1])],
        "counts": COUNTS,
    }
    return Heldout(**given | changes)


def scores(users: np.ndarray) -> np.ndarray:
    return np.asarray([[9.0, 3.0, 1.0, 2.0], [0.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])[users]


def test_metrics_are_those_of_a_pencil() -> None:
    made = evaluate_ranking(scores, held(groups=["old", "new", "new"]), k=2, resamples=1_000)
    values = {score.sample_id: score.values for score in made.report.scores}
    assert made.shown.tolist() == [[1, 3], [1, 2]]  # item 0 was seen by a; c has nothing held out
    ideal = 1 + 1 / math.log2(3)
    assert values["a"]["ndcg@2"] == pytest.approx((1 / math.log2(3)) / ideal)
    assert (values["a"]["recall@2"], values["a"]["hit@2"], values["b"]["ndcg@2"]) == (0.5, 1.0, 0.0)
    assert values["a"]["novelty@2"] == pytest.approx((-math.log2(2 / 3) - math.log2(1 / 3)) / 2)
    assert made.coverage_ratio == 3 / 4
    assert made.report.breakdown()["new"]["recall@2"] == 0
    interval = made.report.metric("recall@2").interval
    assert interval and interval.low <= 0.25 <= interval.high


def test_equal_scores_rank_by_number_and_what_is_left_fills_the_rest() -> None:
    made = evaluate_ranking(lambda users: np.zeros((len(users), 4)), held(), k=4, resamples=1_000)
    assert made.shown.tolist() == [[1, 2, 3, -1], [0, 1, 2, 3]]


def test_categories_shown_as_they_were_liked_are_calibrated() -> None:
    categories = [0, 0, 1, 1]
    history = [np.asarray([0, 2]), np.asarray([0]), np.asarray([0])]
    told = evaluate_ranking(scores, held(categories=categories, history=history), k=2, resamples=1_000)
    values = {score.sample_id: score.values["miscalibration@2"] for score in told.report.scores}
    assert values["a"] == pytest.approx(0, abs=1e-9)
    assert values["b"] == pytest.approx(math.log(1 / (0.99 * 0.5 + 0.01)))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_and_nothing_held_out_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match="no number"):
        evaluate_ranking(lambda users: np.full((len(users), 4), wrong), held())
    with pytest.raises(ConfigError, match="held out"):
        evaluate_ranking(scores, held(wanted=[np.zeros(0, int)] * 3))


def test_splits_hold_out_of_each_user_what_they_say() -> None:
    users = np.repeat([0, 1, 2], [20, 10, 2])
    split = random_split(users, seed=3)
    total = split.fit.astype(int) + split.valid + split.test
    assert (total == 1).all()
    assert [np.bincount(users[part], minlength=3).tolist() for part in (split.valid, split.test)] == [[2, 1, 0]] * 2
    assert (random_split(users, seed=3).test == split.test).all() and (
        random_split(users, seed=4).test != split.test
    ).any()
    last = last_split(users)
    assert np.flatnonzero(last.test).tolist() == [19, 29] and np.flatnonzero(last.valid).tolist() == [18, 28]
