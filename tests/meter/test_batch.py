"""Requests booked many at once make the entries that requests booked one by one make."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bessemer.core.batching import Batching, BatchMeter
from bessemer.core.errors import BackendError, ConfigError
from bessemer.core.forwarding import Spent
from bessemer.core.nouns import Entry, Subject, Usage
from bessemer.meter import LocalMeter, MeterConfig, mispriced, open_ledger, open_meter, verify
from bessemer.meter.batch import BatchBooks

STRANGE = 'a "quoted" 100 % näme\n'


@pytest.fixture
def meter(tmp_path: Path):
    with open_meter(MeterConfig(durability="interval", sample_seconds=60), tmp_path) as opened:
        yield opened


def spent(number: int, **fields: object) -> Spent:
    return Spent(f"req_{number}", "p", "k", "m", **fields)  # type: ignore[arg-type]


def entries(folder: Path) -> list[Entry]:
    ledger = open_ledger(folder)
    try:
        return ledger.entries(limit=-1)
    finally:
        ledger.close()


def test_the_meter_has_that_side(meter: LocalMeter) -> None:
    assert isinstance(meter, Batching)
    assert isinstance(meter.batch, BatchMeter)


@pytest.mark.parametrize("status", ["ok", "cancelled", "error"])
def test_an_entry_is_the_one_that_the_meter_makes(meter: LocalMeter, tmp_path: Path, status: str) -> None:
    """Field by field but for what was measured; and what was measured adds up the same way."""
    one = Spent("one", STRANGE, "key", STRANGE, usage=(1_234_567, 76_543, 1000), status=status)  # type: ignore[arg-type]
    batch = meter.batch
    batch.begin(one)
    batch.book([one])
    subject = Subject(kind="request", id="two", project=STRANGE, key_id="key", model=STRANGE)
    other = meter.stop(
        meter.start(subject), Usage(input_tokens=1_234_567, output_tokens=76_543, cached_tokens=1000), status
    )  # type: ignore[arg-type]
    found = next(entry for entry in entries(tmp_path) if entry.id == "request:one")
    assert found.subject == other.subject.model_copy(update={"id": "one"})
    assert (found.usage, found.charge, found.price_version) == (other.usage, other.charge, other.price_version)
    same = {"energy_class", "boundary", "source"}
    assert found.measurement.model_dump(include=same) == other.measurement.model_dump(include=same)
    carbon = meter.grid.footprint(found.measurement)
    assert (found.carbon.grams, found.carbon.grams_low) == pytest.approx((carbon.grams, carbon.grams_low), rel=1e-8)
    assert (found.carbon.grams_high, found.carbon.source) == (pytest.approx(carbon.grams_high, rel=1e-8), carbon.source)
    assert one.charge_micros == found.charge.micros
    assert one.microjoules[0] == round(found.measurement.joules * 1e6)
    assert mispriced([found], meter.prices) == []


def test_a_record_is_a_whole_entry(meter: LocalMeter, tmp_path: Path) -> None:
    batch, each = meter.batch, spent(1, usage=(5, 3, 0), status="ok")
    batch.begin(each)
    batch.book([each])
    meter._journal.close()
    (path,) = (tmp_path / "journal").glob("*.jsonl")
    record = json.loads(path.read_text())
    assert Entry.model_validate(record["body"]).model_dump(mode="json") == record["body"]


def test_charges_are_the_price_books(meter: LocalMeter, tmp_path: Path) -> None:
    chance, batch = random.Random(7), meter.batch
    for number in range(300):
        read = chance.choice([chance.randrange(100), chance.randrange(10**7), 500_000])
        each = spent(number, usage=(read, chance.randrange(10**5), chance.randrange(read + 1)), status="ok")
        batch.begin(each)
        batch.book([each])
    found = entries(tmp_path)
    assert len(found) == 300
    assert mispriced(found, meter.prices) == []


PRICES = """
[[books]]
version = "spring"
[books.electricity]
micros_per_kilowatt_hour = 120_000
[books.default]
input = 100_001
output = 400_003
[books.customers.acme.models.m]
input = 70_007
cached = 1_003
output = 300_011

[[books]]
version = "summer"
in_force_from = 2026-07-01
[books.electricity]
micros_per_kilowatt_hour = 310_000
[books.default]
input = 90_001
output = 380_009
"""


def test_charges_are_those_of_the_version_in_force_and_of_the_customer(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    now = [datetime(2026, 6, 30, tzinfo=UTC).timestamp()]
    config = MeterConfig(sensors="model", durability="interval", price_book=str(tmp_path / "prices.toml"))
    with open_meter(config, tmp_path / "books", lambda: now[0]) as meter:
        for number in range(4):
            each = Spent(
                f"req_{number}", ("acme", "other")[number % 2], "k", "m", usage=(10**6, 10**6, 1000), status="ok"
            )
            meter.batch.begin(each)
            now[0] += 40_000 if number == 1 else 40  # the second begins in spring and ends in summer
            meter.batch.book([each])
            now[0] += 60_000 if number == 1 else 0
        history = meter.price_history
    found = {entry.subject.id: entry for entry in entries(tmp_path / "books")}
    versions = [found[f"req_{number}"].price_version.partition("@")[0] for number in range(4)]
    assert versions == ["spring", "spring", "summer", "summer"]
    assert mispriced(found.values(), history) == []
    charges = [found[f"req_{number}"].charge.micros for number in range(4)]
    assert len(set(charges)) == 3 and charges[0] < charges[2] == charges[3] < charges[1]


def test_the_joules_balance(meter: LocalMeter, tmp_path: Path, monkeypatch) -> None:
    """attributed + idle == meter, and the entries have all that was attributed: to the microjoule."""
    monkeypatch.setattr("bessemer.meter.batch.STALE_SECONDS", -1.0)
    chance, batch, open_now, number = random.Random(3), meter.batch, [], 0
    for _ in range(400):
        if open_now and chance.random() < 0.5:
            ended = [open_now.pop(chance.randrange(len(open_now))) for _ in range(min(len(open_now), 3))]
            batch.book(ended)
        else:
            number += 1
            open_now.append(spent(number, usage=(3, 2, 0), status="ok"))
            batch.begin(open_now[-1])
        if chance.random() < 0.1:
            meter.books()
    batch.book(open_now)
    books = meter.books()
    assert books.attributed + books.idle == books.meter
    found = entries(tmp_path)
    assert sum(round(entry.measurement.joules * 1e6) for entry in found) == books.attributed.total
    assert books.attributed.total > 0
    assert all(e.measurement.joules_low <= e.measurement.joules <= e.measurement.joules_high for e in found)


def test_a_disk_that_refuses_counts_nothing_and_the_same_again_is_right(meter: LocalMeter, tmp_path: Path) -> None:
    batch, both = meter.batch, [spent(1, usage=(3, 2, 0), status="ok"), spent(2, usage=(3, 2, 0), status="ok")]
    for each in both:
        batch.begin(each)
    append, meter._journal.append_many = meter._journal.append_many, _refuse  # type: ignore[method-assign]
    with pytest.raises(BackendError):
        batch.book(both)
    meter._journal.append_many = append  # type: ignore[method-assign]
    assert entries(tmp_path) == []
    both[1].status = "error"
    batch.book(both)
    first, second = sorted(entries(tmp_path), key=lambda entry: entry.id)
    assert (first.status, second.status, second.charge.micros) == ("ok", "error", 0)
    assert verify(tmp_path / "journal").records == 2


def _refuse(bodies: object) -> None:
    raise BackendError("the disk is full")


def test_a_usage_that_does_not_add_up_is_refused(meter: LocalMeter) -> None:
    batch, wrong = meter.batch, spent(1, usage=(3, 2, 4))
    batch.begin(wrong)
    with pytest.raises(ConfigError):
        batch.book([wrong])


def test_whether_it_waits_is_the_durability(meter: LocalMeter, tmp_path: Path) -> None:
    assert not BatchBooks(meter).waits
    with open_meter(MeterConfig(durability="fsync"), tmp_path / "other") as safe:
        assert BatchBooks(safe).waits
