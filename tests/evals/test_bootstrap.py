"""The intervals: what must hold for any data, and how often they cover a truth that is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.evals import Column, difference_interval, mean_interval

SETTINGS = {"resamples": 300, "seed": 1}

numbers = st.floats(-100, 100, allow_nan=False, width=32)
rows = st.lists(
    st.tuples(numbers, numbers, st.floats(0.5, 50, width=32), st.sampled_from("abcdef")), min_size=2, max_size=40
).filter(lambda rows: len({row[3] for row in rows}) > 1)


def columns(rows: list[tuple[float, float, float, str]]) -> tuple[Column, Column, list[str]]:
    before, after, weights, groups = zip(*rows, strict=True)
    return Column(before, weights), Column(after, weights), list(groups)


def close(interval, value: float, low: float, high: float) -> bool:
    return [interval.value, interval.low, interval.high] == pytest.approx([value, low, high], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(rows, numbers)
def test_what_holds_for_any_data(rows, shift) -> None:
    before, after, groups = columns(rows)
    found = difference_interval(before, after, groups, **SETTINGS)

    back = difference_interval(after, before, groups, **SETTINGS)
    assert close(back, -found.value, -found.high, -found.low), "swapping the models mirrors the interval"

    shifted = Column([value + shift for value in after.values], after.weights)
    moved = difference_interval(before, shifted, groups, **SETTINGS)
    assert close(moved, found.value + shift, found.low + shift, found.high + shift)
    assert close(difference_interval(after, after, groups, **SETTINGS), 0, 0, 0), "a model is no better than itself"

    heavier = [Column(c.values, [3 * weight for weight in c.weights]) for c in (before, after)]
    assert close(difference_interval(*heavier, groups, **SETTINGS), found.value, found.low, found.high)

    again = columns(rows[::-1])
    assert close(difference_interval(*again, **SETTINGS), found.value, found.low, found.high), "order says nothing"

    single = mean_interval(after, groups, **SETTINGS)
    assert min(after.values) - 1e-6 <= single.low <= single.high <= max(after.values) + 1e-6


@settings(max_examples=30, deadline=None)
@given(rows)
def test_asking_the_same_again_makes_nothing_surer(rows) -> None:
    before, after, groups = columns(rows)
    found = difference_interval(before, after, groups, **SETTINGS)
    thrice = difference_interval(*columns(rows * 3), **SETTINGS)
    assert close(thrice, found.value, found.low, found.high)


def test_more_confidence_is_wider_and_a_seed_repeats() -> None:
    values = np.random.default_rng(3).normal(size=50)
    column, groups = Column(list(values), [1.0] * 50), [str(i // 2) for i in range(50)]
    narrow, wide = (mean_interval(column, groups, confidence=c) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert mean_interval(column, groups, confidence=0.8) == narrow
    assert mean_interval(column, groups, confidence=0.8, seed=7) != narrow


def test_one_group_has_no_interval() -> None:
    column = Column([1.0, 2.0, 3.0], [1.0] * 3)
    assert mean_interval(column, ["os"] * 3) is None
    assert difference_interval(column, column, ["os"] * 3) is None


def test_many_groups_are_drawn_in_parts_alike(monkeypatch) -> None:
    values = list(np.random.default_rng(5).normal(size=30))
    column, groups = Column(values, [1.0] * 30), [str(i) for i in range(30)]
    whole = mean_interval(column, groups, resamples=500)
    monkeypatch.setattr("bessemer.evals.bootstrap._CELLS_AT_ONCE", 30 * 7)
    assert mean_interval(column, groups, resamples=500) == whole


Draw = Callable[[np.random.Generator, int], tuple[Column, list[str]]]


def questions(random: np.random.Generator, count: int) -> tuple[Column, list[str]]:
    """Right or wrong answers to 1 to 8 questions from each module, modules of different difficulty; truth 0.6."""
    sizes = random.integers(1, 9, count)
    chances = random.beta(3, 2, count)
    values = np.concatenate([random.random(size) < chance for size, chance in zip(sizes, chances, strict=True)])
    groups = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
    return Column(list(values.astype(float)), [1.0] * len(values)), groups


def texts(random: np.random.Generator, count: int) -> tuple[Column, list[str]]:
    """Bits per byte of texts whose lengths differ tenfold; truth 1.0."""
    sizes = random.lognormal(6, 0.8, count)
    return Column(list(random.gamma(9, 1 / 9, count)), list(sizes)), [str(i) for i in range(count)]


def coverage(draw: Draw, truth: float, count: int, trials: int = 500) -> float:
    """Return how many of the intervals of simulated data cover the truth, as a ratio (standard error 0.01)."""
    random = np.random.default_rng(11)
    covered = 0
    for trial in range(trials):
        interval = mean_interval(*draw(random, count), resamples=20_000 // count, seed=trial)
        covered += interval.low <= truth <= interval.high
    return covered / trials


@pytest.mark.parametrize(("draw", "truth"), [(questions, 0.6), (texts, 1.0)])
@pytest.mark.parametrize("count", [8, 20, 60])
def test_an_interval_covers_the_truth_as_often_as_it_says(draw, truth, count) -> None:
    assert 0.915 <= coverage(draw, truth, count) <= 0.98


def test_questions_of_one_module_taken_for_independent_are_too_sure() -> None:
    def ungrouped(random: np.random.Generator, count: int) -> tuple[Column, list[str]]:
        column, _ = questions(random, count)
        return column, [str(i) for i in range(len(column.values))]

    assert coverage(ungrouped, 0.6, 20, trials=200) < 0.91
