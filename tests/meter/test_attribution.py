"""Attributed and idle make up the meter, exactly, whatever happens in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.nouns import Usage
from bessemer.meter import StepCost, attribution
from bessemer.meter.attribution import Attribution
from bessemer.meter.energy import Energy

amounts = st.integers(0, 10**12)
energies = st.builds(Energy, amounts, amounts, amounts, amounts)
events = st.lists(
    st.tuples(st.sampled_from(["open", "close", "read", "claim"]), energies, st.integers(0, 40), st.integers(0, 40)),
    max_size=60,
)


@given(events)
def test_conservation(steps: list[tuple[str, Energy, int, int]]) -> None:
    reading = Energy(7, 7, 7, 7)
    meter = Attribution(reading, 0)
    spans: list[str] = []
    claimed = closed = Energy()
    for number, (what, delta, a, b) in enumerate(steps):
        reading += delta
        meter.advance(reading, number)
        if what == "open":
            spans.append(f"s{number}")
            meter.open(spans[-1])
        elif what == "close" and spans:
            energy, _ = meter.close(spans.pop(a % len(spans)))
            closed += energy
        elif what == "claim":
            claimed += meter.claim(min(a, b), max(a, b) + 0.5, modelled_limit=delta.modelled)
        assert meter.attributed + meter.idle == meter.meter == reading - Energy(7, 7, 7, 7)
        assert min(meter.idle.measured, meter.idle.modelled, meter.idle.low, meter.idle.high) >= 0
    for span in spans:
        closed += meter.close(span)[0]
    assert closed + claimed == meter.attributed


def test_overlapping_spans_share_evenly_and_nothing_is_left_over() -> None:
    meter = Attribution(Energy(), 0)
    meter.advance(Energy(measured=5), 1)
    meter.open("a")
    meter.advance(Energy(measured=15), 2)
    meter.open("b")
    meter.advance(Energy(measured=26), 3)  # 11 for two: one has the odd microjoule
    assert meter.close("a") == (Energy(measured=15), True)
    meter.advance(Energy(measured=36), 4)
    assert meter.close("b") == (Energy(measured=16), True)
    assert meter.idle == Energy(measured=5)


def test_a_followed_span_has_its_part_of_the_fixed_energy_and_what_its_tokens_cost() -> None:
    cost = StepCost(prefill=1, decode=2, attention=0, fixed_watts=0.00001)  # 10 microjoules a second
    meter = Attribution(Energy(), 0, cost)
    usage = {name: Usage() for name in "abc"}
    for name in usage:
        meter.open(name)
    for name in "ab":
        meter.follow(name, lambda name=name: usage[name])
    meter.follow("gone", Usage)
    usage["a"] = Usage(input_tokens=50, cached_tokens=20)  # 30 of work
    usage["b"] = Usage(output_tokens=15)  # the same
    meter.advance(Energy(measured=90), 3)  # 30 fixed, 60 by work
    usage["a"] = Usage(input_tokens=50, cached_tokens=20, output_tokens=4)
    meter.advance(Energy(measured=150), 6)  # 30 fixed, the rest is of the one that worked
    closed = {name: meter.close(name)[0].measured for name in usage}
    assert closed == {"a": 10 + 30 + 10 + 30, "b": 10 + 30 + 10, "c": 10 + 10}
    assert meter.idle == Energy()


def test_a_span_alone_is_not_shared() -> None:
    meter = Attribution(Energy(), 0)
    meter.open("a")
    meter.advance(Energy(measured=9), 1)
    assert meter.close("a") == (Energy(measured=9), False)


def test_a_claim_takes_its_part_of_the_time_and_only_once() -> None:
    meter = Attribution(Energy(), 0)
    meter.advance(Energy(measured=1000, low=900, high=1100), 10)
    assert meter.claim(5, 10, 0) == Energy(measured=500, low=450, high=550)
    assert meter.claim(0, 5, 0).measured == 250  # half of what is left of that piece
    assert meter.claim(20, 30, 0) == Energy()


def test_a_claim_takes_of_the_model_only_what_processor_time_explains() -> None:
    meter = Attribution(Energy(), 0)
    meter.advance(Energy(measured=1000, modelled=1000, low=1000, high=3000), 10)
    claim = meter.claim(0, 10, modelled_limit=500)
    assert claim == Energy(measured=1000, modelled=500, low=750, high=2250)


def test_pieces_of_idle_time_are_bounded_and_nothing_is_lost() -> None:
    meter = Attribution(Energy(), 0)
    count = attribution.IDLE_PIECES * 2 + 3
    for second in range(1, count + 1):
        meter.advance(Energy(measured=second), second)
    assert len(meter._pieces) <= attribution.IDLE_PIECES
    assert meter.claim(0, count, 0).measured == count == meter.meter.measured


def test_a_clock_that_steps_back_loses_nothing() -> None:
    meter = Attribution(Energy(), 100)
    meter.advance(Energy(measured=10), 50)
    assert meter.idle.measured == 10
    assert meter.claim(50, 51, 0).measured == 10
