"""Every cost belongs to a product, once; whose it is follows from what the books say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bessemer.core.errors import Unsupported
from bessemer.core.nouns import Boundary, Carbon, EnergyClass, Entry, Measurement, Subject, Usage
from bessemer.core.units import Money
from bessemer.meter import Hardware, Journal, Ledger, PriceBook, PriceHistory, open_ledger
from bessemer.products.profit import Profits, of_ledger

HOUR = 3600.0
PRICES = PriceHistory(books=(PriceBook(hardware=Hardware(micros_per_hour=36_000, source="a lease")),))
"""Ten micro-units for a second of the machine."""

FLOWS = {"r-docs": "docs", "r-shop": "shop"}


def entry(at: float, seconds: float, subject: Subject, **fields: object) -> Entry:
    request = subject.kind == "request"
    parts: dict[str, object] = {
        "id": f"{subject.kind}:{subject.id}",
        "subject": subject,
        "started_at": at,
        "status": "ok",
        "usage": Usage(input_tokens=30, output_tokens=10) if request else Usage(),
        "measurement": Measurement(
            seconds=seconds,
            joules=2,
            joules_low=1,
            joules_high=3,
            energy_class=EnergyClass.MODELLED,
            boundary=Boundary.HOST,
            source="test",
        ),
        "carbon": Carbon(grams=0, grams_low=0, grams_high=0, grid="world", grams_per_kilowatt_hour=1, source="test"),
        "energy_cost": Money(micros=5),
        "charge": Money(micros=900 if request else 0),
        "price_version": "unpriced@1",
    }
    return Entry(**{**parts, **fields})  # type: ignore[arg-type]


def step(name: str, run: str, at: float, seconds: float, **fields: object) -> Entry:
    return entry(at, seconds, Subject(kind="step", id=f"{run}/{name}/{at}", name=name, run=run), **fields)


def asked(id: str, model: str, at: float, seconds: float, **fields: object) -> Entry:
    return entry(at, seconds, Subject(kind="request", id=id, model=model, project="p"), **fields)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[object]:
    opened: list[Ledger] = []

    def fill(*entries: Entry) -> Ledger:
        with closing(Journal(tmp_path / "journal", "interval")) as journal:
            for each in entries:
                journal.append(each.model_dump(mode="json"))
        opened.append(open_ledger(tmp_path))
        return opened[-1]

    yield fill
    for ledger in opened:
        ledger.close()


def lines(found: Profits, product: str) -> dict[str, tuple[float, int, int]]:
    (one,) = (each for each in found.products if each.product == product)
    return {
        line.kind: (round(line.machine_seconds, 6), line.energy.micros, line.estimated_hardware.micros)
        for line in one.costs
    }


def test_a_product_bears_its_answers_its_making_and_its_part_of_what_is_shared(books) -> None:
    ledger = books(
        step("curate", "r-docs", 100, 4),
        step("train", "r-docs", 104, 10),
        step("train", "r-docs", 114, 6, status="error"),
        step("evaluate", "r-docs", 120, 2),
        step("train", "lost", 122, 8),  # of a run that nobody knows any more
        asked("one", "docs", 150, 4),  # after 20 idle seconds
        asked("two", "shop", 152, 4, usage=Usage(input_tokens=90, output_tokens=30)),
    )
    found = of_ledger(ledger, FLOWS, PRICES)
    assert (found.since, found.until, found.idle_seconds) == (100, pytest.approx(156), 20)
    assert lines(found, "docs") == {
        "answers": (3, 5, 30),  # two alone, two beside the other
        "data": (4, 5, 40),
        "training": (10, 5, 100),
        "other steps": (2, 5, 20),
        "failed steps": (6, 5, 60),
        "shared": (7, 1, 70),  # a quarter of 28 s and 5 micro-units: it served 40 of 160 tokens
    }
    assert lines(found, "shop") == {"answers": (3, 5, 30), "shared": (21, 4, 210)}
    docs = found.products[0]
    assert (docs.requests, docs.input_tokens, docs.output_tokens) == (1, 30, 10)
    assert docs.revenue == Money(micros=900)
    assert docs.marginal_cost == Money(micros=35)
    assert docs.loaded_cost == Money(micros=35 + 45 + 105 + 25 + 65 + 71)
    assert docs.marginal_profit == Money(micros=865)
    assert docs.loaded_profit == Money(micros=554)
    assert found.hardware == "a lease"


def test_all_of_the_machines_time_and_all_booked_energy_is_somebodys(books) -> None:
    entries = [asked(f"a{n}", "docs" if n % 3 else "shop", 1000 + n * 7 % 90, 1 + n % 13) for n in range(60)]
    entries += [step("train", "r-shop", 1100 + n, 5, status="ok" if n % 2 else "cancelled") for n in range(9)]
    found = of_ledger(books(*entries), FLOWS, PRICES)
    every = [line for product in found.products for line in product.costs]
    assert sum(line.machine_seconds for line in every) == pytest.approx(found.until - found.since)
    assert found.until == max(each.started_at + each.measurement.seconds for each in entries)
    assert sum(line.energy.micros for line in every) == 5 * len(entries)
    assert sum(line.joules for line in every) == pytest.approx(2 * len(entries))


def test_a_fine_tuned_model_bears_its_job_and_earns_what_the_training_was_charged(books) -> None:
    of_job = {"run": "r-tune", "project": "p", "model": "ft:docs:p::1"}
    ledger = books(
        entry(10, 5, Subject(kind="step", id="r-tune/train/10", name="train", **of_job)),
        entry(15, 0, Subject(kind="step", id="ftjob-1", name="fine_tuning", **of_job), charge=Money(micros=400)),
        asked("one", "ft:docs:p::1", 15, 2),
    )
    (tuned,) = of_ledger(ledger, {**FLOWS, "r-tune": "tune-ftjob-1"}, PRICES).products
    assert (tuned.product, tuned.revenue.micros, tuned.requests) == ("ft:docs:p::1", 1300, 1)
    assert lines(of_ledger(ledger, FLOWS, PRICES), "ft:docs:p::1")["training"] == (5, 5, 50)


def test_a_product_that_was_made_and_never_asked_is_a_loss(books) -> None:
    (product,) = of_ledger(books(step("train", "r-docs", 1, 10)), FLOWS, PRICES).products
    assert (product.product, product.revenue.micros, product.loaded_profit.micros) == ("docs", 0, -105)


def test_the_price_of_the_machine_is_that_of_the_time(books) -> None:
    dearer = PriceBook.model_validate(
        {"version": "b", "in_force_from": "1970-01-02", "hardware": {"micros_per_hour": 72_000}}
    )
    history = PriceHistory(books=(PRICES.books[0], dearer))
    ledger = books(asked("one", "docs", 24 * HOUR - 10, 4), asked("two", "docs", 24 * HOUR, 4))
    found = of_ledger(ledger, {}, history)
    assert lines(found, "docs")["answers"] == (8, 10, 40 + 80)


def test_only_what_began_since_counts(books) -> None:
    ledger = books(asked("one", "docs", 100, 4), asked("two", "docs", 200, 4))
    found = of_ledger(ledger, {}, PRICES, since=200)
    assert (found.since, found.products[0].requests, found.idle_seconds) == (200, 1, 0)


def test_steps_that_nobody_can_name_are_shown_all_the_same(books) -> None:
    (product,) = of_ledger(books(step("train", "lost", 1, 10)), {}, PRICES).products
    assert (product.product, product.loaded_cost.micros) == ("", 105)


def test_books_in_another_currency_are_refused(books) -> None:
    ledger = books(asked("one", "docs", 1, 1, charge=Money(micros=1, currency="EUR")))
    with pytest.raises(Unsupported, match="EUR"):
        of_ledger(ledger, {}, PRICES)


def test_a_book_without_a_price_of_the_machine_keeps_its_digest() -> None:
    """Entries were stamped with it before there was such a price."""
    assert "hardware" not in PriceBook(version="x").model_dump_json(exclude_none=True)
    book = PriceBook(version="x")
    assert book.digest() == PriceBook.model_validate(book.model_dump(exclude={"hardware"})).digest()
    assert book.digest() != PriceBook(version="x", hardware=Hardware(micros_per_hour=1)).digest()
