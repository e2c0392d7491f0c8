"""Estimated money follows the closed forms, and uncertain inputs give honest bounds."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError, NotFound
from bessemer.twin import clouds, money
from bessemer.twin.answer import with_part
from bessemer.twin.interval import Interval
from bessemer.twin.plan import plan
from bessemer.twin.site import load_site
from bessemer.twin.uncertainty import draw, propagate, tornado
from bessemer.twin.workload import Training


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_without_interest_a_present_value_is_a_sum(flows: list[float]) -> None:
    assert money.present_value(flows, 0.0) == pytest.approx(sum(flows), abs=1e-3)


@given(st.floats(1.0, 1e6), st.floats(1.0, 30.0), st.floats(0.001, 0.5))
def test_the_annuity_s_present_value_is_the_capital(capital: float, years: float, interest: float) -> None:
    whole = max(1, round(years))
    payments = [0.0] + [money.annuity(capital, whole, interest)] * whole
    assert money.present_value(payments, interest) == pytest.approx(capital, rel=1e-9)


def test_an_unknown_provider_names_those_that_there_are() -> None:
    with pytest.raises(NotFound) as caught:
        clouds.offer("H100", "Lamda")
    assert "Lambda" in caught.value.hint


def test_a_tenant_of_nobody_is_told_each_provider_once() -> None:
    with pytest.raises(ConfigError) as caught:
        clouds.offer("H100", "")
    assert "no provider" in caught.value.message
    assert caught.value.hint.count("AWS") == caught.value.hint.count("Lambda") == 1


def test_what_aws_asks_without_a_commitment_is_no_reservation() -> None:
    asked = {(each.term, each.usd_per_hour): each for each in clouds.offers("H100") if each.provider == "AWS"}
    assert asked["on_demand", 6.88].month == "2025-06"
    assert not {term for term, _ in asked if term.startswith("reserved")}


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


def test_an_owner_is_told_of_old_prices_as_a_tenant_is() -> None:
    site, job = load_site("superpod-h100-127"), Training(model="Llama-3.1-8B", tokens=1e9)
    told = plan(site, job, date(2026, 11, 23)).warnings
    assert any("more than a year old" in line and "servers of H100" in line and "2024-08" in line for line in told)
    assert any("electricity" in line for line in told)
    early = plan(site, job, date(2024, 9, 1)).warnings
    assert not any("more than a year old" in line for line in early)


def test_what_is_declared_is_not_old() -> None:
    site, day = load_site("superpod-h100-127"), date(2026, 11, 23)
    bought = with_part(with_part(site, "money", capital_usd=6e7), "power", usd_per_kwh=0.10)
    assert money.stale(bought, day) == []
    assert money.stale(with_part(site, "money", tenure="rented", provider="AWS"), day) == []
    assert money.price_months(load_site("oci-131072"))["servers of B200-SXM, by the watt of others"] == "2024-08"
    assert set(money.price_months(load_site("dgx-h100"))) == {"electricity", "servers of H100-SXM-80GB"}


def test_a_building_is_told_of_where_one_is_paid() -> None:
    told = {name: money.bill(load_site(name), Interval.exactly(1e4)).assumptions for name in ("dgx-h100", "colossus")}
    assert "bought at catalogue prices, without network and building" in told["dgx-h100"]
    assert "bought at catalogue prices, a building included" in told["colossus"]


def test_an_old_price_that_a_newer_one_replaced_is_not_warned_of() -> None:
    told = clouds.stale(clouds.offers("H100"), date(2026, 11, 23))
    assert not any("2025-06" in line for line in told)
    assert sum("without a date" in line for line in told) == 1
    assert any(
        "AWS (on_demand) is from 2026-03" in line for line in clouds.stale(clouds.offers("H100"), date(2027, 6, 1))
    )
