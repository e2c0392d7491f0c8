"""What it takes to carry heat away: fans, pumps, chillers and water, hour by hour, and the PUE that follows.

Owns the balance of heat. Knows no server: all is counted by the watt of IT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.twin.facility import facility
from bessemer.twin.interval import Interval
from bessemer.twin.site import Cooling, Power, Site
from bessemer.twin.weather import HOURS, year

Array = NDArray[np.float64]
LIQUID_RATIO = {"direct_liquid": 0.8, "immersion": 0.95}
"""Share of the heat that liquid takes where a site does not say. Source: assumed, usual for such servers."""


@dataclass(frozen=True, slots=True)
class Hourly:
    """Cooling of 8,760 hours, each a ratio to the watts of IT.

    Attributes:
        fan_ratio: fans of rooms and doors.
        pump_ratio: pumps of coolant loops.
        rejection_ratio: towers or dry coolers.
        chiller_ratio: compressors.
        rest_ratio: lights and controls.
        heat_ratio: what leaves, reused heat included: IT and the four above.
        reused_ratio: heat that others take.
        water_litres_per_kwh: evaporated and drained, by the kilowatt-hour of IT.
    """

    fan_ratio: Array
    pump_ratio: Array
    rejection_ratio: Array
    chiller_ratio: Array
    rest_ratio: float
    heat_ratio: Array
    reused_ratio: Array
    water_litres_per_kwh: Array

    @property
    def cooling_ratio(self) -> Array:
        """Return all that cooling draws."""
        return self.fan_ratio + self.pump_ratio + self.rejection_ratio + self.chiller_ratio + self.rest_ratio


def hourly(site: Site) -> Hourly:
    """Return the cooling of each hour of a typical year.

    Source: energy balance; chillers by a share of Carnot's efficiency (ASHRAE Fundamentals, refrigeration cycles).
    """
    cooling, known = site.cooling, facility("cooling")
    zero = np.zeros(HOURS)
    if cooling.kind == "none":
        return Hourly(zero, zero, zero, zero, 0.0, zero + 1.0, zero, zero)
    liquid = liquid_ratio(cooling)
    weather = year(cooling.climate)
    fans = zero + _fans(cooling, liquid, known)
    pumps = zero + known["cdu_pump_ratio"] * (1.0 if cooling.kind == "rear_door" else liquid)
    warm = 1.0 + fans + pumps
    reused = cooling.heat_reuse_ratio * warm
    dry = cooling.rejection == "dry"
    reach = (
        weather.dry_celsius + known["dry_approach_kelvin"]
        if dry
        else (weather.wet_celsius + known["wet_approach_kelvin"])
    )
    if dry and cooling.kind == "air":
        reach = weather.dry_celsius + 1.0  # outside air itself, one degree warmer behind its fans
    short = np.clip((reach - cooling.supply_celsius) / known["return_kelvin"], 0.0, 1.0)
    chilled = (warm - reused) * short
    cold = cooling.supply_celsius - known["evaporator_kelvin"] + 273.15
    lift = np.maximum(reach + known["condenser_kelvin"] + 273.15 - cold, 5.0)
    chiller = chilled * lift / (known["chiller_carnot_ratio"] * cold)
    rejected = warm - reused + chiller
    outside = dry and cooling.kind == "air"
    rejection = zero if outside else rejected * known["dry_ratio" if dry else "tower_ratio"]
    water = zero if dry else rejected * water_litres_per_joule() * 3.6e6
    return Hourly(fans, pumps, rejection, chiller, known["rest_ratio"], warm + chiller + rejection, reused, water)


def liquid_ratio(cooling: Cooling) -> float:
    """Return the share of the heat that liquid takes from the servers."""
    return cooling.liquid_ratio or LIQUID_RATIO.get(cooling.kind, 0.0)


def _fans(cooling: Cooling, liquid: float, known: dict[str, float]) -> float:
    if cooling.kind == "rear_door":
        return known["rear_door_fan_ratio"]
    if cooling.kind == "air" and cooling.rejection == "dry":
        return known["outside_fan_ratio"]
    return known["crah_fan_ratio"] * (1 - liquid)


def water_litres_per_joule() -> float:
    """Return the water that a tower takes for a joule of heat: evaporation, and drained to keep salts down.

    Source: make-up = evaporation times c / (c - 1) at c cycles of concentration (ASHRAE Handbook, cooling towers).
    """
    known = facility("water")
    evaporated = known["latent_ratio"] / known["latent_joules_per_kilogram"]
    return evaporated * known["cycles"] / (known["cycles"] - 1)


def chain_efficiency(power: Power) -> float:
    """Return the share of the grid's power that reaches the servers' supplies."""
    return power.ups_efficiency * power.transformer_efficiency * power.distribution_efficiency


def loss_ratio(site: Site) -> float:
    """Return what is lost between grid and use, by the watt that is used."""
    return 1 / chain_efficiency(site.power) - 1


def cooling_ratio(site: Site) -> float:
    """Return what cooling and lights draw by the watt of IT, over a typical year."""
    return float(hourly(site).cooling_ratio.mean())


def pue(site: Site) -> Interval:
    """Return facility over IT energy of a typical year at steady load; cooling is fed by the same chain.

    Source: ISO/IEC 30134-2.
    """
    known = facility("cooling")
    middle = (1 + cooling_ratio(site)) * (1 + loss_ratio(site))
    liquid = site.cooling.kind in ("direct_liquid", "immersion")
    away = known["liquid_interval" if liquid else "air_interval"]
    return Interval(middle, max(1.0, middle - away), middle + away)


def water_litres_per_kwh(site: Site) -> Interval:
    """Return the litres that the site's towers take by the kilowatt-hour of IT. Source: WUE, ISO/IEC 30134-9."""
    middle = float(hourly(site).water_litres_per_kwh.mean())
    return Interval(middle, 0.7 * middle, 1.3 * middle)
