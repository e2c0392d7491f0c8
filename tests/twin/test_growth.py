"""Growth in stages: stopping is a right, and certain stages are a plain present value."""

from __future__ import annotations

import numpy as np
import pytest

from bessemer.twin import money
from bessemer.twin.growth import Stage, cash_flow, committed_usd, option_usd, staged_usd, values_usd


def test_the_right_to_stop_is_never_worth_less_than_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        stages = [Stage("s", *rng.uniform(0, (100, 3, 1, 20))) for _ in range(3)]
        assert option_usd(stages, float(rng.uniform(0, 1000)), float(rng.uniform(0, 0.3))) >= -1e-9


def test_certain_stages_are_a_plain_present_value() -> None:
    stages = [Stage("pilot", 10.0, 1.0, 1.0), Stage("production", 50.0, 1.0, 1.0)]
    assert committed_usd(stages, 100.0, 0.1) == pytest.approx(money.present_value([-10.0, -50.0, 100.0], 0.1))
    assert option_usd(stages, 100.0, 0.1) == pytest.approx(0.0)


def test_values_and_cash_flow_agree_with_the_tree() -> None:
    stages = [Stage("pilot", 10.0, 1.0, 0.5, 2.0), Stage("production", 50.0, 1.0, 0.9)]
    values = values_usd(stages, 200.0, 0.1)
    assert values[0] == staged_usd(stages, 200.0, 0.1)
    assert values[1] == staged_usd(stages[1:], 200.0, 0.1)
    assert values[-1] == 200.0
    flows = cash_flow(stages, [30.0, 40.0])
    assert flows == [(0.0, -10.0), (1.0, -50.0), (3.0, 30.0), (4.0, 40.0)]
    certain = [Stage(each.name, each.estimated_usd, each.years, 1.0) for each in stages]
    payoff = money.present_value([0.0, 30.0, 40.0], 0.1)
    assert committed_usd(certain, payoff, 0.1) == pytest.approx(sum(usd / 1.1**at for at, usd in flows))
