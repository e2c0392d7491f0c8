"""Growth in stages: stopping is a right, and certain stages are a plain present value."""

from __future__ import annotations

import numpy as np
import pytest

from bessemer.twin import money
from bessemer.twin.growth import Stage, committed_usd, option_usd


def test_the_right_to_stop_is_never_worth_less_than_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        stages = [Stage("s", *rng.uniform(0, (100, 3, 1, 20))) for _ in range(3)]
        assert option_usd(stages, float(rng.uniform(0, 1000)), float(rng.uniform(0, 0.3))) >= -1e-9


def test_certain_stages_are_a_plain_present_value() -> None:
    stages = [Stage("pilot", 10.0, 1.0, 1.0), Stage("production", 50.0, 1.0, 1.0)]
    assert committed_usd(stages, 100.0, 0.1) == pytest.approx(money.present_value([-10.0, -50.0, 100.0], 0.1))
    assert option_usd(stages, 100.0, 0.1) == pytest.approx(0.0)
