"""How much of a meter's energy each open request caused: a fixed part shared equally, the rest by the work it did.

    cost(S) = fixed + scale x (sum over S of prefill x tokens + decode x tokens + attention x pairs)   of requests S
    share   = fixed / requests + scale x own work

That is the Shapley value of this cost: a term that depends on one request alone is that request's, and what is there
however many ask is shared equally by all that do. `scale` is what makes the cost of all of them the meter's reading,
so only the ratios of the terms matter.

Source: Shapley, A Value for n-Person Games, 1953 (additivity and symmetry give both parts).

Owns the arithmetic, in whole microjoules. Knows no clock and no sensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.nouns import Usage
from bessemer.meter.energy import Energy

_WHOLE = 10**9
"""Weights become whole numbers by it, so that shares are exact."""

Weight = Annotated[float, Field(ge=0, le=1e6)]


class StepCost(Config):
    """What a request's work costs, each term in proportion to the others, and what is there without any.

    The defaults count arithmetic: the same for a token read or written, 2 per parameter, and 2 per layer and width for
    each pair of tokens, here of a network 1,024 wide with 12 x layers x width^2 parameters. A device that is
    bound by memory has other ratios: measure them.
    Source: Kaplan et al., Scaling Laws for Neural Language Models, 2020, section 2.1.

    Attributes:
        prefill: of a token of the input that came from no cache.
        decode: of a token of the output.
        attention: of a pair of tokens, one of which reads the other's keys and values.
        fixed_watts: taken however little is asked; None is what the power model has for this machine at rest.
    """

    prefill: Weight = 1.0
    decode: Weight = 1.0
    attention: Weight = 1 / (12 * 1024)
    fixed_watts: Annotated[float, Field(ge=0)] | None = None

    def work(self, before: Usage, now: Usage) -> int:
        """Return the work between two states of a request, 0 or more, in billionths of the weights' unit."""
        prefill = max(0, _fresh(now) - _fresh(before))
        decode = max(0, now.output_tokens - before.output_tokens)
        pairs = max(0, _pairs(now) - _pairs(before))
        terms = ((self.prefill, prefill), (self.decode, decode), (self.attention, pairs))
        return sum(round(weight * _WHOLE) * count for weight, count in terms)


def split(energy: Energy, fixed: int, works: Sequence[int]) -> list[Energy]:
    """Return each one's share; the shares sum to the energy exactly, and each is within a microjoule of its exact one.

    Args:
        energy: of the time in which all of them were open.
        fixed: how much of it is there however little is asked, in microjoules; all of it if nobody did any work.
        works: what each did, at least one.

    >>> [share.total for share in split(Energy(measured=100), 40, [1, 3])]
    [35, 65]
    """
    whole, count, sum_of_works = max(1, energy.total), len(works), sum(works)
    fixed = whole if not sum_of_works else max(0, min(fixed, whole))
    both = max(1, sum_of_works)
    ends = list(accumulate(fixed * both + (whole - fixed) * count * work for work in works))
    steps = [[part * end // ends[-1] for end in (0, *ends)] for part in _parts(energy)]
    return [Energy(*(step[at + 1] - step[at] for step in steps)) for at in range(count)]


def _parts(energy: Energy) -> tuple[int, int, int, int]:
    return energy.measured, energy.modelled, energy.low, energy.high


def _fresh(usage: Usage) -> int:
    return usage.input_tokens - usage.cached_tokens


def _pairs(usage: Usage) -> int:
    """Return how often a token read an earlier one's keys and values: each computed token reads all before it."""
    return _before(usage.total_tokens) - _before(usage.cached_tokens)


def _before(tokens: int) -> int:
    return tokens * (tokens - 1) // 2
