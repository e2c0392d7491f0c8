from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.digest import canonical_json
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Usage
from bessemer.core.units import Money
from bessemer.meter import Price, PriceBook, load_price_book
from bessemer.meter.pricing import Customer, _without_unsaid

BOOK = PriceBook(
    version="2026-1",
    currency="EUR",
    default=Price(input=100_000, output=400_000),
    models={"big": Price(input=2_000_000, cached=500_000, output=8_000_000)},
    electricity={"micros_per_kilowatt_hour": 250_000},
)
counts = st.integers(0, 10**9)


@given(counts, counts, counts)
def test_a_charge_is_quantity_times_price_rounded_once(fresh: int, cached: int, output: int) -> None:
    usage = Usage(input_tokens=fresh + cached, cached_tokens=cached, output_tokens=output)
    exact = (Decimal(fresh) * 2_000_000 + Decimal(cached) * 500_000 + Decimal(output) * 8_000_000) / 10**6
    expected = int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    assert BOOK.charge(usage, "big") == Money(micros=expected, currency="EUR")


@given(counts, counts)
def test_units_are_charged_beside_tokens_and_a_book_without_them_keeps_its_digest(read: int, ranked: int) -> None:
    book = BOOK.model_copy(update={"models": {"shelf": Price(input=3, unit=250_001)}})
    exact = (Decimal(read) * 3 + Decimal(ranked) * 250_001) / 10**6
    expected = int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    assert book.charge(Usage(input_tokens=read, units=ranked), "shelf").micros == expected
    assert BOOK.charge(Usage(units=ranked), "big").micros == 0
    assert '"unit"' not in canonical_json(_without_unsaid(BOOK.model_dump(mode="json")))
    assert book.stamp() != book.model_copy(update={"models": {"shelf": Price(input=3)}}).stamp()


def test_an_unknown_model_takes_the_default_and_says_so() -> None:
    quote = BOOK.quote(Usage(input_tokens=1_000_000, cached_tokens=500_000), "unheard-of")
    assert quote.by_default and quote.price_version.endswith(" default")
    assert quote.charge.micros == 100_000  # cached tokens have no price of their own there
    assert not BOOK.quote(Usage(), "big").by_default


def test_a_checkpoint_has_the_price_of_its_model_unless_it_is_named_itself() -> None:
    model, usage = "ft:big:shop::1", Usage(input_tokens=1_000_000)
    early, late, other = f"{model}:ckpt-step-3", f"{model}:ckpt-step-5", "ft:big:shop::2:ckpt-step-3"
    prices = {model: Price(input=7), late: Price(input=9)}
    book = PriceBook(default=Price(input=1), models=prices)
    assert [book.charge(usage, name).micros for name in (model, early, late, other)] == [7, 7, 9, 1]
    assert [book.price(name)[1] for name in (model, early, late, other)] == [False, False, False, True]
    agreed = Customer(models={model: Price(input=3)})
    book = book.model_copy(update={"customers": {"shop": agreed, "all": Customer(default=Price(input=2))}})
    assert [book.price(early, project)[0].input for project in ("shop", "all", "docs")] == [3, 2, 7]


def test_usage_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not add up"):
        BOOK.charge(Usage(input_tokens=1, cached_tokens=2), "big")
    with pytest.raises(ConfigError, match="does not add up"):
        BOOK.charge(Usage(output_tokens=-1), "big")


def test_the_version_changes_with_any_figure() -> None:
    other = BOOK.model_copy(update={"default": Price(input=100_001, output=400_000)})
    assert BOOK.stamp() != other.stamp()
    assert BOOK.stamp().startswith("2026-1@")


def test_energy_costs_joules_times_tariff_times_pue() -> None:
    assert BOOK.energy_cost(3_600_000) == Money(micros=250_000, currency="EUR")
    assert BOOK.energy_cost(3_600_000, 1.5) == Money(micros=375_000, currency="EUR")
    assert BOOK.energy_cost(1).micros == 0


def test_the_shipped_book_is_marked_as_an_example() -> None:
    book = load_price_book()
    assert book.example and "example" in book.version
    assert book.electricity.micros_per_kilowatt_hour > 0


def test_a_book_that_is_wrong_says_where(tmp_path: Path) -> None:
    path = tmp_path / "price.toml"
    path.write_text('version = "1"\n[default]\ninptu = 3\n')
    with pytest.raises(ConfigError, match=r"default\.inptu.*did you mean 'input'"):
        load_price_book(path)
    path.write_text("version = ")
    with pytest.raises(ConfigError, match="not TOML"):
        load_price_book(path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_price_book(tmp_path / "none.toml")
