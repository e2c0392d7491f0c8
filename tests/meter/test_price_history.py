from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Subject, Usage
from bessemer.meter import (
    MeterConfig,
    PriceBook,
    PriceHistory,
    load_price_book,
    load_price_history,
    mispriced,
    open_ledger,
)
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
        ({"project": "acme", "model": "big", "batch": True}, 500_000),
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


LEFT_OUT = """
version = "summer"
[default]
input = 90_000
cached = 45_000
output = 380_000
batch = {input = 45_000, output = 190_000}
unit = 250_000_000
training = 1_200_000
tiers.priority = {input = 180_000, output = 760_000}
tiers.flex = {output = 200_000}
[models.mine]
input = 1_000
output = 2_000
training = 7_000
[customers.acme.default]
input = 70_000
output = 300_000
[customers.globex.models.mine]
output = 5
tiers.priority = {output = 6}
"""
TUNED = "ft:mine:acme:support:x1"


@pytest.fixture
def sparing(tmp_path: Path) -> PriceHistory:
    (tmp_path / "sparing.toml").write_text(LEFT_OUT)
    return load_price_history(tmp_path / "sparing.toml")


@pytest.mark.parametrize(
    ("of", "input", "cached", "output", "unit", "training"),
    [
        ({"service_tier": "priority"}, 180_000, 180_000, 760_000, 250_000_000, 1_200_000),
        ({"service_tier": "flex"}, 90_000, 45_000, 200_000, 250_000_000, 1_200_000),
        ({"batch": True}, 45_000, 45_000, 190_000, 250_000_000, 1_200_000),
        ({"project": "acme"}, 70_000, 70_000, 300_000, 250_000_000, 1_200_000),
        ({"project": "acme", "batch": True}, 45_000, 45_000, 190_000, 250_000_000, 1_200_000),
        ({"project": "acme", "service_tier": "priority"}, 180_000, 180_000, 760_000, 250_000_000, 1_200_000),
        ({"project": "acme", "service_tier": "flex"}, 70_000, 70_000, 200_000, 250_000_000, 1_200_000),
        ({"project": "acme", "model": "mine"}, 70_000, 70_000, 300_000, 0, 7_000),
        ({"project": "globex", "model": "mine"}, 1_000, 1_000, 5, 0, 7_000),
        ({"project": "globex", "model": "mine", "service_tier": "priority"}, 1_000, 1_000, 6, 0, 7_000),
        ({"model": TUNED}, 1_000, 1_000, 2_000, 0, 7_000),
        ({"model": TUNED, "project": "globex"}, 1_000, 1_000, 5, 0, 7_000),
        ({"model": "ft:other:p::x"}, 90_000, 45_000, 380_000, 250_000_000, 1_200_000),
    ],
)
def test_what_a_price_leaves_out_is_the_standard_one(
    sparing: PriceHistory, of: dict[str, Any], input: int, cached: int, output: int, unit: int, training: int
) -> None:
    (book,) = sparing.books
    asked = Subject(**{"kind": "request", "id": "r", "model": "any", **of})
    usages = (
        MILLION,
        Usage(input_tokens=10**6, cached_tokens=10**6),
        Usage(output_tokens=10**6),
        Usage(units=10**6),
    )
    assert [book.charge_request(usage, asked).micros for usage in usages] == [input, cached, output, unit]
    step = asked.model_copy(update={"kind": "step"})
    assert book.charge_request(MILLION, step).micros == training
    book.quote_request(Usage(), asked)


def test_a_fine_tuned_model_s_own_price_comes_before_its_base_s() -> None:
    prices = {"mine": {"input": 1}, TUNED: {"input": 2}}
    book = PriceBook.model_validate({"models": prices, "customers": {"acme": {"models": {"mine": {"input": 3}}}}})
    assert [book.price(TUNED, project)[0].input for project in ("", "acme")] == [2, 3]


def test_what_was_booked_as_a_book_was_read_earlier_is_judged_so(sparing: PriceHistory) -> None:
    (book,) = sparing.books
    earlier = sparing.stamped("summer@3577c35c293c default")  # as a gateway of 2026-11-28 booked it
    assert earlier is not None and book.stamp() != earlier.stamp() == "summer@3577c35c293c"
    ranked = Subject(kind="request", id="r", model="recommend", service_tier="priority")
    assert (earlier.charge_request(Usage(units=10), ranked).micros, earlier.price(TUNED)[0]) == (0, earlier.default)
    assert earlier.charge_request(MILLION, Subject(kind="request", id="r", model="mine", project="globex")).micros == 0
    batch = Subject(kind="request", id="r", model="any", project="acme", batch=True, service_tier="priority")
    assert earlier.charge_request(MILLION, batch).micros == 70_000
    again = PriceHistory.model_validate_json(sparing.model_dump_json(exclude_unset=True))
    assert [each.stamp() for each in again.books] == [book.stamp()]
    free = LEFT_OUT.replace("output = 760_000}", "output = 760_000, unit = 0}")
    said = PriceBook.model_validate(tomllib.loads(free))
    assert (
        said.charge_request(Usage(units=10), ranked).micros == 0 != book.charge_request(Usage(units=10), ranked).micros
    )
    assert said.stamp() != book.stamp(), "a rule that is said is another price than one that is left out"
