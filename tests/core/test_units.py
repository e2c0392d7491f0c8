"""Money is exact, and quantities read well at every size."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bessemer.core.units import Money, charge_micros, show_bytes, show_joules, show_seconds

micros = st.integers(-(10**15), 10**15)
quantities = st.integers(0, 10**12)
prices = st.integers(0, 10**10)


@given(st.lists(micros, max_size=20))
def test_a_sum_of_money_is_the_sum_of_its_micros(amounts) -> None:
    total = sum((Money(micros=amount) for amount in amounts), Money())
    assert total == Money(micros=sum(amounts))


def test_currencies_do_not_mix() -> None:
    with pytest.raises(ValueError, match="cannot add EUR to USD"):
        Money(micros=1) + Money(micros=1, currency="EUR")


@pytest.mark.parametrize("wrong", [{"micros": 1.5}, {"micros": 1, "currency": "usd"}, {"micros": 1, "cents": 1}])
def test_money_is_whole_and_its_currency_a_code(wrong) -> None:
    with pytest.raises(ValidationError):
        Money.model_validate(wrong)


@given(micros)
def test_money_shows_its_amount_to_the_last_place_shown(amount) -> None:
    shown, currency = str(Money(micros=amount)).replace(",", "").split()
    places = Decimal(1).scaleb(Decimal(shown).as_tuple().exponent)
    assert currency == "USD"
    assert abs(Decimal(shown) - Decimal(amount) / 1_000_000) <= places / 2
    if abs(amount) < 1_000_000:
        assert Decimal(shown) * 1_000_000 == amount, "small amounts are shown in full"


@given(quantities, prices)
def test_a_charge_is_off_by_half_a_micro_at_most(quantity, price) -> None:
    assert abs(charge_micros(quantity, price) - Fraction(quantity * price, 1_000_000)) <= Fraction(1, 2)


@given(quantities, quantities, prices)
def test_a_larger_quantity_never_costs_less(quantity, more, price) -> None:
    assert charge_micros(quantity + more, price) >= charge_micros(quantity, price)


@given(st.integers(0, 10**6), prices)
def test_whole_millions_are_charged_exactly(millions, price) -> None:
    assert charge_micros(millions * 1_000_000, price) == millions * price


def test_halves_go_to_even_so_that_many_charges_do_not_drift() -> None:
    assert [charge_micros(quantity, 500_000) for quantity in (1, 3, 5, 7)] == [0, 2, 2, 4]


def test_exact_beyond_what_a_float_or_a_default_decimal_holds() -> None:
    assert charge_micros(10**18 + 1, 10**14 + 1_000_000) == (10**18 + 1) * (10**14 + 1_000_000) // 10**6


DURATIONS = [
    (0, "0.0 ms"),
    (0.0042, "4.2 ms"),
    (1, "1.0 s"),
    (59.94, "59.9 s"),
    (60, "1 min 00 s"),
    (3599, "59 min 59 s"),
    (3600, "1 h 00 min"),
    (90_061, "25 h 01 min"),
]
SIZES = [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1.5e9, "1.5 GB"), (3e18, "3000 PB")]
ENERGIES = [(0, "0 J"), (0.5, "500 mJ"), (1, "1 J"), (3.6e6, "3.6 MJ"), (-2000, "-2 kJ")]


@pytest.mark.parametrize(("seconds", "shown"), DURATIONS)
def test_durations(seconds, shown) -> None:
    assert show_seconds(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), SIZES)
def test_sizes(count, shown) -> None:
    assert show_bytes(count) == shown


@pytest.mark.parametrize(("joules", "shown"), ENERGIES)
def test_energies(joules, shown) -> None:
    assert show_joules(joules) == shown


def just_below(bound: float) -> st.SearchStrategy[float]:
    return st.floats(0, 0.06).map(lambda less: bound * (1 - less / 60))


@given(st.floats(0, 10**6) | just_below(1) | just_below(60) | just_below(3600) | just_below(7200))
def test_no_duration_shows_a_unit_that_is_full(seconds) -> None:
    assert not re.search(r"\b(1000\.0 ms|60\.0 s|60 s|60 min|0 h)", show_seconds(seconds))


@given(st.floats(0, 1e17) | just_below(1e3) | just_below(1e6) | just_below(1e9) | just_below(1))
def test_no_size_or_energy_shows_a_unit_that_is_full(amount) -> None:
    for shown in (show_bytes(amount), show_joules(amount)):
        assert not re.match(r"(1000(\.0)?|1e\+03) ", shown), shown
