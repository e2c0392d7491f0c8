"""Growth in stages, and the sums that money and uncertainty rest on."""

from __future__ import annotations

import numpy as np
import pytest

from bessemer.core.errors import NotFound
from bessemer.twin import clouds, money
from bessemer.twin.growth import Stage, committed_usd, option_usd
from bessemer.twin.interval import Interval
from bessemer.twin.uncertainty import draw, propagate, tornado


def test_the_right_to_stop_is_never_worth_less_than_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        stages = [Stage("s", *rng.uniform(0, (100, 3, 1, 20))) for _ in range(3)]
        assert option_usd(stages, float(rng.uniform(0, 1000)), float(rng.uniform(0, 0.3))) >= -1e-9


def test_certain_stages_are_a_plain_present_value() -> None:
    stages = [Stage("pilot", 10.0, 1.0, 1.0), Stage("production", 50.0, 1.0, 1.0)]
    assert committed_usd(stages, 100.0, 0.1) == pytest.approx(money.present_value([-10.0, -50.0, 100.0], 0.1))


def test_the_rate_of_return_brings_the_present_value_to_nothing() -> None:
    flows = [-100.0, 30.0, 50.0, 60.0]
    assert money.present_value(flows, 0.0) == sum(flows)
    assert money.present_value(flows, money.return_ratio(flows)) == pytest.approx(0.0, abs=1e-6)


def test_the_largest_bar_explains_the_most_variance_of_a_linear_model() -> None:
    inputs = {"a": Interval(0.0, -1.0, 1.0), "b": Interval(0.0, -1.0, 1.0), "c": Interval(0.0, -1.0, 1.0)}
    weights = {"a": 1.0, "b": 5.0, "c": 2.0}

    def model(values):  # type: ignore[no-untyped-def]
        return sum(weights[name] * values[name] for name in weights)

    rng = np.random.default_rng(1)
    variances = {name: float(np.var(weights[name] * draw(inputs[name], 4000, rng))) for name in weights}
    assert [bar.name for bar in tornado(model, inputs)] == sorted(variances, key=lambda name: -variances[name])
    assert propagate(model, inputs, seed=3) == propagate(model, inputs, seed=3)


def test_an_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(NotFound) as raised:
        clouds.offer("H100-SXM-80GB", "Lamda")
    assert "Lambda" in raised.value.hint
