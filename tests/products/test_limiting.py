"""What a request may cost at most, and what the books say of requests whose process died."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.nouns import Subject, Usage
from bessemer.meter import MeterConfig, PriceBook, open_meter
from bessemer.meter.pricing import Customer, Price
from bessemer.products.home import Home
from bessemer.products.limiting import charged_of, worst_tariff

SUBJECT = Subject(kind="request", id="r", project="p", model="m")
tokens = st.integers(0, 100_000)
micros = st.integers(0, 10**9)


@given(
    most=st.tuples(tokens, tokens, tokens), own=tokens, ratios=st.tuples(*[st.integers(0, 100)] * 4), price=st.data()
)
def test_nothing_within_the_bounds_costs_more_than_the_worst_case(most, own, ratios, price) -> None:
    drawn = {name: price.draw(micros) for name in ("input", "output", "unit")}
    book = PriceBook(models={"m": Price(**drawn, cached=price.draw(st.none() | micros))})
    read, written, units = most
    bound = worst_tariff([book], SUBJECT, own, 0.0).worst(read, written, units)
    took = (read + own) * ratios[0] // 100
    usage = Usage(
        input_tokens=took,
        cached_tokens=took * ratios[1] // 100,
        output_tokens=written * ratios[2] // 100,
        units=units * ratios[3] // 100,
    )
    assert book.charge_request(usage, SUBJECT).micros <= bound


def test_the_worst_case_is_the_customer_s_own_price_under_any_version() -> None:
    agreed = {"p": Customer(default=Price(input=9, output=9))}
    books = [PriceBook(models={"m": Price(input=1, output=1)}, customers=who) for who in (agreed, {})]
    assert worst_tariff(books, SUBJECT, 0, 0.0).worst(10**6, 10**6) == 18
    assert worst_tariff(books, SUBJECT.model_copy(update={"project": "q"}), 0, 0.0).worst(10**6, 10**6) == 2


@pytest.fixture
def home(tmp_path) -> Home:
    made = Home(tmp_path)
    with open_meter(MeterConfig(sensors="model"), made.books) as meter:
        for name, status in (("ok", "ok"), ("cancelled", "cancelled"), ("failed", "error")):
            subject = Subject(kind="request", id=name, project="p", model="m")
            meter.stop(meter.start(subject), Usage(input_tokens=10**6, output_tokens=10**6), status)
    return made


def test_the_books_say_what_was_charged_and_that_the_rest_was_not(home) -> None:
    found = charged_of(home, ("ok", "cancelled", "failed", "never booked"))
    assert found["ok"] == found["cancelled"] > 0
    assert (found["failed"], found["never booked"]) == (0, 0)


def test_of_a_damaged_journal_nobody_knows(home) -> None:
    (segment,) = [path for path in (home.books / "journal").iterdir() if path.stat().st_size > 300]
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b"failed", b"forged")]))
    assert charged_of(home, ("ok", "failed", "never booked")) == {}


def test_of_a_stream_that_is_cut_and_not_booked_yet_nobody_knows(home) -> None:
    with open_meter(MeterConfig(sensors="model"), home.books) as meter:
        for name in ("streams", "cancelled"):
            handle = meter.start(Subject(kind="request", id=name, project="p", model="m"))
            meter.keep(handle)(Usage(input_tokens=1, output_tokens=1))
        found = charged_of(home, ("ok", "streams", "cancelled", "never booked"))
    assert found.keys() == {"ok", "cancelled", "never booked"}
    assert found["ok"] == found["cancelled"] > 0
