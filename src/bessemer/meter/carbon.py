"""Grams of CO2-equivalent of an energy, from the yearly average of the grid that it came from.

Owns `grids.csv`. A yearly average says nothing about the hour in which a request ran; the bounds in the table are
assumed (one fifth down, one quarter up, at least 15 g down and 30 g up) for method, imports and the drift since.
Knows no sensor.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Carbon, Measurement
from bessemer.core.units import JOULES_PER_KILOWATT_HOUR


@dataclass(frozen=True, slots=True)
class Grid:
    """The yearly average intensity of a region's electricity, in grams of CO2-equivalent for a kilowatt-hour."""

    region: str
    name: str
    grams_per_kilowatt_hour: float
    low: float
    high: float
    year: int
    source: str

    def footprint(self, measurement: Measurement, power_usage_effectiveness: float = 1.0) -> Carbon:
        """Return the carbon of a measurement: kilowatt-hours x PUE x intensity, bounds with bounds.

        Args:
            measurement: the energy at the meter.
            power_usage_effectiveness: facility energy over metered energy, at least 1.
        """
        factor = power_usage_effectiveness / JOULES_PER_KILOWATT_HOUR
        pue = "" if power_usage_effectiveness == 1 else f"; PUE {power_usage_effectiveness:g}"
        return Carbon(
            grams=measurement.joules * factor * self.grams_per_kilowatt_hour,
            grams_low=measurement.joules_low * factor * self.low,
            grams_high=measurement.joules_high * factor * self.high,
            grid=self.region,
            grams_per_kilowatt_hour=self.grams_per_kilowatt_hour,
            source=f"{self.name}, {self.year}: {self.source}{pue}",
        )


@cache
def grids() -> dict[str, Grid]:
    """Return the table, by region: ISO 3166 codes of countries, ``EU`` and ``world``."""
    with (files("bessemer.meter") / "grids.csv").open(encoding="utf-8") as file:
        return {
            row["region"]: Grid(
                row["region"],
                row["name"],
                float(row["grams_per_kwh"]),
                float(row["low"]),
                float(row["high"]),
                int(row["year"]),
                row["source"],
            )
            for row in csv.DictReader(file)
        }


def find_grid(region: str) -> Grid:
    """Return a region's grid, by its code or its name, in any case.

    Raises:
        ConfigError: the table has no such region.

    >>> find_grid("fr").name
    'France'
    """
    table = {key.lower(): grid for grid in grids().values() for key in (grid.region, grid.name)}
    if found := table.get(region.strip().lower()):
        return found
    near = difflib.get_close_matches(region.lower(), table, n=1, cutoff=0.6)
    known = f"Did you mean '{table[near[0]].region}' ({table[near[0]].name})? " if near else ""
    raise ConfigError(
        f"no grid intensity for the region '{region}'",
        hint=f"{known}Use 'world' or one of: {', '.join(grids())}",
    )
