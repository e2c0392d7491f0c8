from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Subject, Usage
from bessemer.meter import MeterConfig, PriceBook, load_price_book, load_price_history, mispriced, open_ledger
from bessemer.meter.opening import open_meter

BOOKS = """
[[books]]
version = "spring"
[books.default]
input = 1_000_000
output = 2_000_000

[[books]]
version = "summer"
in_force_from = 2026-07-01
[books.default]
input = 3_000_000
output = 4_000_000
cached = 1_000_000
batch = {input = 500_000, output = 700_000}
tiers.priority = {input = 9_000_000, output = 9_000_000}
[books.customers.acme.models.big]
input = 10
output = 20
[books.customers.globex.default]
input = 30
output = 40
"""
JULY = datetime(2026, 7, 1, tzinfo=UTC).timestamp()
MILLION = Usage(input_tokens=1_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "price.toml").write_text(BOOKS)
    return tmp_path / "price.toml"


def test_a_version_is_in_force_from_its_day_at_midnight_utc(path: Path) -> None:
    history = load_price_history(path)
    assert [history.at(when).version for when in (0, JULY - 1, JULY, JULY + 1e9)] == [
        *("spring", "spring", "summer", "summer")
    ]
    assert load_price_book(path, JULY - 1).version == "spring"


@pytest.mark.parametrize(
    ("subject", "micros"),
    [
        ({}, 3_000_000),
        ({"batch": True}, 500_000),
        ({"batch": True, "service_tier": "priority"}, 500_000),
        ({"service_tier": "priority"}, 9_000_000),
        ({"service_tier": "unpriced"}, 3_000_000),
        ({"project": "acme", "model": "big"}, 10),
        ({"project": "acme", "model": "big", "batch": True}, 10),
        ({"project": "acme", "model": "small"}, 3_000_000),
        ({"project": "globex", "model": "small"}, 30),
    ],
)
def test_batches_tiers_and_projects_have_their_own_prices(path: Path, subject: dict[str, object], micros: int) -> None:
    book = load_price_history(path).at(JULY)
    asked = Subject.model_validate({"kind": "request", "id": "r", **subject})
    assert book.quote_request(MILLION, asked).charge.micros == micros
    assert book.charge_request(MILLION, asked, "error").micros == 0


def test_a_book_without_the_later_keys_keeps_its_digest() -> None:
    assert load_price_book().stamp() == "example-1@d86609df32bf"  # as entries recorded it before there were tiers
    tiered = PriceBook.model_validate({"default": {"tiers": {"flex": {"input": 1}}}})
    assert tiered.stamp() != PriceBook().stamp()


def test_what_was_booked_under_any_version_is_checked_by_that_version(path: Path, tmp_path: Path) -> None:
    now = [JULY - 1]
    with open_meter(MeterConfig(price_book=str(path), sensors="model"), tmp_path, clock=lambda: now[0]) as meter:
        early = meter.start(Subject(kind="request", id="early"))
        now[0] = JULY + 1
        first = meter.stop(early, MILLION)
        second = meter.stop(meter.start(Subject(kind="request", id="late", batch=True)), MILLION)
    assert (first.charge.micros, second.charge.micros) == (1_000_000, 500_000)
    assert first.price_version.startswith("spring@") and second.price_version.startswith("summer@")
    ledger = open_ledger(tmp_path)
    ledger.sync()
    history = load_price_history(path)
    assert mispriced(ledger.entries(), history) == []
    wrong = second.model_copy(update={"charge": first.charge})
    assert mispriced([first, wrong], history) == [wrong]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("2026-07-01", "2026-13-01"), "not TOML"),
        (("in_force_from = 2026-07-01\n", ""), r"books\.1\.in_force_from: needs a day later"),
        (('"summer"', '"spring"'), r"books\.1\.version: two books are version 'spring'"),
        (('version = "summer"', 'version = "summer"\ncurrency = "EUR"'), r"books\.1\.currency: all versions need one"),
    ],
)
def test_versions_that_contradict_each_other_are_refused(path: Path, change: tuple[str, str], said: str) -> None:
    path.write_text(BOOKS.replace(*change))
    with pytest.raises(ConfigError, match=said):
        load_price_history(path)
