"""The planner learns this machine's pace from its runs, and says how far off it was."""

from __future__ import annotations

import numpy as np
import pytest

from bessemer.core.errors import NotFound
from bessemer.twin.reconcile import Stage, predict, replay, running_error


def runs(count: int, scale: float, noise: float, seed: int = 0) -> list[Stage]:
    rng = np.random.default_rng(seed)
    amounts = rng.integers(20_000, 60_000, count)
    factors = scale * np.exp(noise * rng.standard_normal(count))
    return [
        Stage("train", float(a), float(f * (17 + 0.0066 * a)), 20.0 * float(f * (17 + 0.0066 * a)))
        for a, f in zip(amounts, factors, strict=True)
    ]


def test_three_runs_teach_another_machine_s_pace() -> None:
    history = runs(13, scale=3.1, noise=0.05)
    residuals = replay(history)
    assert abs(residuals[0].error_ratio) > 0.5, "the first run knows only the catalogue"
    late = residuals[3:]
    assert float(np.median([abs(r.error_ratio) for r in late])) < 0.15
    assert float(np.median([abs(r.energy_error_ratio) for r in late])) < 0.15
    assert running_error(late)["train"][0] == 10


def test_the_interval_narrows_with_runs_and_holds_most_of_them() -> None:
    history = runs(200, scale=0.7, noise=0.1, seed=3)
    residuals = replay(history)
    widths = [r.seconds.high / r.seconds.low for r in residuals]
    assert widths[0] > widths[3] > widths[50]
    covered = [r.stage.seconds in r.seconds for r in residuals[20:]]
    assert 0.6 < float(np.mean(covered)) < 0.95


def test_a_stage_is_predicted_from_its_own_kind_only() -> None:
    history = runs(5, scale=3.0, noise=0.0)
    assert predict(Stage("gate", 1), history).seconds.mid == pytest.approx(0.48)


def test_nothing_is_predicted_from_itself() -> None:
    history = runs(4, scale=3.0, noise=0.0)
    again = replay([*history, Stage("train", 30_000, 1e9)])
    assert again[:4] == replay(history)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        predict(Stage("trian", 1), [])
    assert "train" in caught.value.hint


def sized(count: int, noise: float, seed: int, overhead: float, rate: float) -> list[Stage]:
    """Return runs of one machine that take `overhead` and `rate` times the catalogue, of many sizes."""
    rng = np.random.default_rng(seed)
    return [
        Stage("train", float(a), float(s), 13.0 * float(s))
        for a in rng.integers(1_000, 6_000, count)
        for s in [(overhead * 17.0 + rate * 0.0066 * a) * np.exp(noise * rng.standard_normal())]
    ]


@pytest.mark.parametrize(("overhead", "rate"), [(1, 1), (4, 1), (2, 0.5), (0.4, 1.5)])
def test_three_runs_of_several_sizes_teach_the_overhead_apart_from_the_rate(overhead: float, rate: float) -> None:
    late = [r for seed in range(20) for r in replay(sized(13, 0.05, seed, overhead, rate))[3:]]
    assert float(np.median([abs(r.error_ratio) for r in late])) < 0.07
    far = predict(Stage("train", 40_000), sized(20, 0.0, 1, overhead, rate)).seconds.mid
    assert far == pytest.approx(overhead * 17.0 + rate * 0.0066 * 40_000, rel=0.05)


def test_one_run_that_was_disturbed_does_not_bend_the_rest() -> None:
    calm = sized(9, 0.0, 2, 1.0, 1.0)
    disturbed = [*calm[:4], Stage("train", calm[4].amount, 5 * calm[4].seconds), *calm[5:]]
    for amount in (1_000, 6_000):
        want = predict(Stage("train", amount), calm).seconds.mid
        assert predict(Stage("train", amount), disturbed).seconds.mid == pytest.approx(want, rel=0.05)


def test_runs_of_one_size_leave_the_catalogue_s_shape() -> None:
    history = [Stage("train", 2_000, 3 * (17.0 + 0.0066 * 2_000))] * 5
    assert predict(Stage("train", 20_000), history).seconds.mid == pytest.approx(3 * (17.0 + 0.0066 * 20_000))
