"""A typical year at a place, hour by hour: dry bulb and wet bulb. Modelled, not measured.

Owns the making of 8,760 hours from a climate's means and percentiles. Knows no building.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bessemer.twin.catalogue import Row, table, unknown

Array = NDArray[np.float64]
HOURS = 8760


@dataclass(frozen=True, slots=True)
class Year:
    """Temperatures of 8,760 hours in degrees Celsius, the first at midnight of the first of January."""

    dry_celsius: Array
    wet_celsius: Array


@cache
def year(station: str) -> Year:
    """Return a typical year at a station of the climate catalogue.

    The hours of the year are ranked by season, hour of day and weather of some days; the ranks take the values that the
    station's percentiles say. So mean and percentiles are the station's, the order of the hours is modelled.

    Raises:
        NotFound: the catalogue has no such station; names the nearest.
    """
    rows = {row["station"]: row for row in (*table("climate"), *table("climate_assumed"))}
    if station not in rows:
        raise unknown("climate", station, rows)
    row = rows[station]
    quantile = (np.argsort(np.argsort(_course())) + 0.5) / HOURS
    wet = _wet(row, quantile)
    dry = _dry(row, quantile)
    return Year(np.maximum(dry, wet), wet)


def _course() -> Array:
    """Return how warm each hour is beside the others, north of the equator; the weather of days has one seed."""
    hours = np.arange(HOURS)
    season = -np.cos(2 * np.pi * (hours / 24 - 20) / 365)
    daily = -np.cos(2 * np.pi * (hours % 24 - 4) / 24)
    days = np.random.default_rng(8760).normal(size=HOURS // 24 + 2)
    smooth = (days[:-1] + days[1:])[: HOURS // 24]
    return np.asarray(season + 0.45 * daily + 0.35 * np.repeat(smooth, 24))


def _wet(row: Row, quantile: Array) -> Array:
    """Return wet bulbs through median, 99th percentile and maximum; the minimum is what gives the mean."""
    middle, high, most = (float(row[f"wetbulb_{name}_c"]) for name in ("p50", "p99", "max"))
    mean = float(row["wetbulb_mean_c"])
    # Triangle below the median, triangle to the 99th percentile, and the last hundredth: areas under straight lines.
    above = 0.49 * (middle + high) / 2 + 0.01 * (high + most) / 2
    least = 4 * (mean - above) - middle
    return np.asarray(np.interp(quantile, [0.0, 0.5, 0.99, 1.0], [least, middle, high, most]))


def _dry(row: Row, quantile: Array) -> Array:
    mean, high = float(row["drybulb_mean_c"]), float(row["drybulb_p99_6_c"])
    return np.asarray(np.interp(quantile, [0.0, 0.996, 1.0], [2 * mean - high, high, high + 0.01 * (high - mean)]))
