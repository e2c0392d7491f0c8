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
        Stage("train", float(a), float(f * (30 + 0.0062 * a)), 20.0 * float(f * (30 + 0.0062 * a)))
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
