"""What a factory knows of its product that a planner does not: which answers are accepted, prices, and growth.

Owns the noun. It is handed in: the planner reads no books, no lake and no price book.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from bessemer.core.config import Config
from bessemer.twin.interval import Interval


class Expected(Config):
    """What is taken for granted until the factory's own runs say otherwise.

    Attributes:
        accepted_ratio: share of the answers that pass their grader or that their user accepts.
        lake_bytes_per_day: how fast the lake grows; 0: nobody said.
    """

    accepted_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    lake_bytes_per_day: Annotated[float, Field(ge=0)] = 0.0


ALL = Interval.exactly(1.0)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is known beside site and work, each with where it is from.

    Attributes:
        accepted_ratio: share of the answers that are accepted.
        accepted: what that means, and whether it is measured or assumed.
        input_usd_per_million_tokens: what customers are charged.
        output_usd_per_million_tokens: what customers are charged.
        prices: the price book; empty: there is none in USD, and no revenue is told.
        lake_bytes: that the lake holds.
        lake_bytes_per_day: that it grows by; 0: not known.
        growth: whether that is measured or assumed.
    """

    accepted_ratio: Interval = ALL
    accepted: str = "assumed: every answer is accepted"
    input_usd_per_million_tokens: float = 0.0
    output_usd_per_million_tokens: float = 0.0
    prices: str = ""
    lake_bytes: float = 0.0
    lake_bytes_per_day: float = 0.0
    growth: str = ""


UNKNOWN = Terms()
"""Of a factory that said nothing."""
