"""Estimated money follows the closed forms, and uncertain inputs give honest bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import NotFound
from bessemer.twin import clouds, money
from bessemer.twin.interval import Interval
from bessemer.twin.uncertainty import draw, propagate, tornado


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_without_interest_a_present_value_is_a_sum(flows: list[float]) -> None:
    assert money.present_value(flows, 0.0) == pytest.approx(sum(flows), abs=1e-3)


@given(st.floats(1.0, 1e6), st.floats(1.0, 30.0), st.floats(0.001, 0.5))
def test_the_annuity_s_present_value_is_the_capital(capital: float, years: float, interest: float) -> None:
    whole = max(1, round(years))
    payments = [0.0] + [money.annuity(capital, whole, interest)] * whole
    assert money.present_value(payments, interest) == pytest.approx(capital, rel=1e-9)


@given(st.floats(10.0, 1e6), st.floats(0.05, 0.9), st.integers(2, 15))
def test_the_rate_of_return_makes_the_value_nothing(paid: float, share: float, years: int) -> None:
    flows = [-paid] + [paid * (1 + share) / years] * years
    assert money.present_value(flows, money.return_ratio(flows)) == pytest.approx(0, abs=paid * 1e-6)


def test_break_even_is_where_both_cost_the_same() -> None:
    ratio = money.break_even_ratio(1.5, 4.0)
    assert pytest.approx(4.0 * ratio) == 1.5


def test_an_unknown_provider_names_those_that_there_are() -> None:
    with pytest.raises(NotFound) as caught:
        clouds.offer("H100", "Lamda")
    assert "Lambda" in caught.value.hint


def test_draws_hold_eighty_percent_in_their_bounds() -> None:
    for bounds in (Interval(10.0, 8.0, 15.0), Interval(0.0, -1.0, 3.0)):
        values = draw(bounds, 100_000, np.random.default_rng(1))
        inside = float(np.mean((values >= bounds.low) & (values <= bounds.high)))
        assert inside == pytest.approx(0.8, abs=0.01)
        assert float(np.median(values)) == pytest.approx(bounds.mid, abs=0.05)


def test_the_largest_bar_explains_most_of_a_linear_model() -> None:
    inputs = {"large": Interval(0.0, -3.0, 3.0), "small": Interval(0.0, -1.0, 1.0)}
    swings = tornado(lambda at: at["large"] + at["small"], inputs)
    assert [swing.name for swing in swings] == ["large", "small"]
    whole = propagate(lambda at: at["large"] + at["small"], inputs, draws=50_000)
    assert whole.high == pytest.approx((3.0**2 + 1.0**2) ** 0.5, rel=0.03)


def test_a_known_input_gives_a_known_answer() -> None:
    exact = {"a": Interval.exactly(2.0), "b": Interval.exactly(5.0)}
    assert propagate(lambda at: at["a"] * at["b"], exact) == Interval(10.0, 10.0, 10.0)
