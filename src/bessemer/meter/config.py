"""How a machine is metered: what a declaration may say of it.

Owns the shape. Opens nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.meter.journal import Durability
from bessemer.meter.shares import StepCost


class MeterConfig(Config):
    """How energy is metered, priced and turned into carbon.

    Attributes:
        region: of the grid: an ISO 3166 country code, ``EU`` or ``world``.
        power_usage_effectiveness: facility energy over metered energy; applied to cost and carbon, not to joules.
        price_book: path of a TOML price book; empty is the shipped example.
        durability: of what was booked, ``interval`` may lose the last 20 ms or so when power is lost, ``fsync``
            nothing; a killed process loses nothing in either.
        sensors: ``auto`` takes hardware counters and models the rest; ``measured`` leaves the rest out; ``model``
            leaves the counters out.
        sample_seconds: how often the sensors are read between events, so that no counter wraps unseen.
        step_cost: by what the joules of requests that are open together are split between them.
    """

    region: Annotated[str, Field(min_length=1)] = "world"
    power_usage_effectiveness: Annotated[float, Field(ge=1, le=5)] = 1.0
    price_book: str = ""
    durability: Durability = "interval"
    sensors: Literal["auto", "measured", "model"] = "auto"
    sample_seconds: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    step_cost: StepCost = StepCost()
