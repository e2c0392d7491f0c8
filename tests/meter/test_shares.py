"""Shares of a step's energy are exact, and are the Shapley value of its cost."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, permutations

from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.nouns import Usage
from bessemer.meter import StepCost
from bessemer.meter.energy import Energy
from bessemer.meter.shares import split

amounts = st.integers(0, 10**15)
works = st.lists(st.integers(0, 10**15), min_size=1, max_size=5)
tokens = st.integers(0, 10**6)


@given(st.builds(Energy, amounts, amounts, amounts, amounts), amounts, works)
def test_shares_sum_to_the_whole_in_every_part(energy: Energy, fixed: int, work: list[int]) -> None:
    shares = split(energy, fixed, work)
    total = Energy()
    for share in shares:
        assert min(share.measured, share.modelled, share.low, share.high) >= 0
        total += share
    assert total == energy
    assert len(shares) == len(work)


@given(amounts, amounts, works)
def test_a_share_is_the_shapley_value_of_the_steps_cost(whole: int, fixed: int, work: list[int]) -> None:
    """By its definition: the mean, over all orders of coming, of what one adds to the cost of those before."""
    everyone = range(len(work))
    held = whole if sum(work) == 0 else min(fixed, whole)
    scale = Fraction(whole - held, max(1, sum(work)))

    def cost(some: tuple[int, ...]) -> Fraction:
        return held + scale * sum(work[each] for each in some) if some else Fraction(0)

    orders = list(permutations(everyone))
    value = dict.fromkeys(everyone, Fraction(0))
    for order in orders:
        for before, after in pairwise(order[:end] for end in range(len(order) + 1)):
            value[after[-1]] += (cost(after) - cost(before)) / len(orders)
    for each, share in enumerate(split(Energy(measured=whole), fixed, work)):
        assert abs(share.measured - value[each]) < 1


@given(tokens, tokens, tokens, tokens, tokens)
def test_work_done_in_pieces_is_the_work_done_at_once(read: int, cached: int, first: int, then: int, more: int) -> None:
    cached = min(cached, read)
    states = [
        Usage(input_tokens=read, cached_tokens=cached, output_tokens=count)
        for count in (first, first + then, first + then + more)
    ]
    cost = StepCost(prefill=1, decode=3, attention=0.001)
    pieces = cost.work(Usage(), states[0]) + sum(cost.work(a, b) for a, b in pairwise(states))
    assert pieces == cost.work(Usage(), states[-1])


def test_the_terms_are_tokens_read_tokens_written_and_pairs_of_tokens() -> None:
    now = Usage(input_tokens=5, cached_tokens=2, output_tokens=2)
    assert StepCost(prefill=1, decode=0, attention=0).work(Usage(), now) == 3 * 10**9
    assert StepCost(prefill=0, decode=1, attention=0).work(Usage(), now) == 2 * 10**9
    assert StepCost(prefill=0, decode=0, attention=1).work(Usage(), now) == (2 + 3 + 4 + 5 + 6) * 10**9


def test_a_usage_that_goes_back_is_no_work() -> None:
    cost = StepCost(prefill=1, decode=1, attention=1)
    assert cost.work(Usage(input_tokens=9, output_tokens=9), Usage(input_tokens=3)) == 0


@given(amounts, amounts)
def test_the_bounds_of_a_share_bound_it(whole: int, width: int) -> None:
    energy = Energy(whole, width, max(0, whole - width), whole + 2 * width)
    for share in split(energy, whole // 3, [5, 0, 7, 1]):
        told = share.joules()
        assert told["joules_low"] <= told["joules"] <= told["joules_high"]
