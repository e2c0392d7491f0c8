"""What a simulated hour takes from the grid: watts from load and weather, their price and their carbon.

Owns joining models of power and of weather to a time line. Knows no job. Electricity's price and carbon follow the
day; their mean is the site's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bessemer.twin import cooling, power
from bessemer.twin.hazards import constants
from bessemer.twin.site import Site

Array = NDArray[np.float64]

LOADS = np.linspace(0.0, 1.0, 11)
"""At which a model of power is asked; between them watts are interpolated."""


class Energy(Protocol):
    """Gives the power of a site, hour by hour."""

    def __call__(self, site: Site, load: Array, present: Array) -> tuple[Array, Array]:
        """Return IT watts and facility watts.

        Args:
            site: its servers, its power and its cooling.
            load: share of the present accelerators that work. Shape: (hours,).
            present: share of all accelerators that is switched on. Shape: (hours,).
        """


def weathered(watts: Callable[[Site, float], float], pue: Callable[[Site], Array]) -> Energy:
    """Return the power of a site from a model of its servers and one of its weather.

    Args:
        watts: IT watts of a site at a load between 0 and 1.
        pue: facility over IT power, for each hour of a year; it starts again where a simulation is longer.
    """

    def energy(site: Site, load: Array, present: Array) -> tuple[Array, Array]:
        table = [watts(site, float(each)) for each in LOADS]
        it_watts = np.interp(load, LOADS, table) * present
        return np.asarray(it_watts), np.asarray(it_watts * np.resize(pue(site), len(load)))

    return energy


def rates(site: Site, hours: int) -> tuple[Array, Array]:
    """Return the price in USD and the carbon in gCO2e of a kWh, hour by hour; the day's mean is the site's.

    A tenant's rent pays the electricity, so its price is nothing.

    Shape of each: (hours,). Source: a cosine with its peak in the evening, assumed; ``[daily_price]`` in
    ``catalogue/fitted_operations.toml``.
    """
    fitted = constants()["daily_price"]
    wave = np.cos(2 * np.pi * (np.arange(hours) + 0.5 - fitted["peak_hour"]) / 24)
    mean = 0.0 if site.money.tenure == "rented" else site.power.usd_per_kwh
    price = mean * (1 + fitted["price_swing_ratio"] * wave)
    return np.asarray(price), np.asarray(site.power.gco2e_per_kwh * (1 + fitted["carbon_swing_ratio"] * wave))


def site_energy(site: Site, load: Array, present: Array) -> tuple[Array, Array]:
    """Return IT and facility watts from the site's parts and a usual year of its weather, from January on.

    Refuses nothing: hours above what the grid gives are counted by who asks.
    """
    return weathered(_it_watts, hourly_pue)(site, load, present)


def hourly_pue(site: Site) -> Array:
    """Return facility over IT power, for each hour of a usual year; its mean is the site's. Shape: (8760,)."""
    return np.asarray((1 + cooling.hourly(site).cooling_ratio) * (1 + cooling.loss_ratio(site)))


def _it_watts(site: Site, load: float) -> float:
    return power.draw(site, load).it_watts
