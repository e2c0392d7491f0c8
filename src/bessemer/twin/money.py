"""What a site costs its owner or tenant: capital, power, people; by the hour, over years, and beside renting.

Owns estimated money. All of it is estimated: billed money is counted elsewhere, in whole micro-units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from bessemer.twin import clouds, topology
from bessemer.twin.catalogue import Row, table
from bessemer.twin.clouds import offer
from bessemer.twin.defaults import defaults
from bessemer.twin.interval import Interval
from bessemer.twin.site import Nodes, Site

HOURS_PER_YEAR = 8760.0
SPREAD = 0.15
"""How far 80 % of capital prices lie from the catalogue's. Assumed: quotes for one server differ by as much."""

NODE_SHARE_OF_TOTAL = 0.8
"""Accelerators, server and adapters as a share of what is installed, without the building. Source: 310,000 of 394,000
USD a server at 1,024 accelerators, the catalogue's H100 cost sheet."""

USD_PER_WATT_UNPRICED = 45.0
"""Price of a server that the catalogue has no price for, by the rated power of its accelerators. Source: an HGX H100
server, 310,000 USD over 8 x 700 W, rounded down; the neighbours' prices per watt are within a third of it."""

UNPRICED_MONTH = "2024-08"
"""Of that price."""

HELD = {"node": 8, "rack": 72}
"""Kind of a price -> accelerators that it holds."""

ALONE = 8
"""Accelerators up to which a site is a server alone, without network and building of its own."""


@dataclass(frozen=True, slots=True)
class Bill:
    """Estimated dollars an hour, by what they are for. Rented: `rent` alone, and people.

    Attributes:
        capital: what was bought, written off with interest.
        power: energy at the meter.
        people: staff.
        rent: of accelerators.
        accelerators: among which it is shared.
        assumptions: what was taken for granted.
    """

    capital: Interval
    power: Interval
    people: float
    rent: float
    accelerators: int
    assumptions: tuple[str, ...]

    @property
    def usd_per_hour(self) -> Interval:
        """All of it."""
        fixed = self.people + self.rent
        parts = (self.capital, self.power)
        return Interval(*(sum(getattr(part, name) for part in parts) + fixed for name in ("mid", "low", "high")))

    @property
    def usd_per_accelerator_hour(self) -> Interval:
        """For each accelerator, used or not."""
        return self.usd_per_hour.scaled(1 / max(1, self.accelerators))


def annuity(capital: float, years: float, discount_ratio: float) -> float:
    """Return the equal yearly payments that are worth `capital` today.

    Source: the standard annuity formula, capital * r / (1 - (1 + r)^-n); its limit at r = 0.

    >>> annuity(100.0, 4.0, 0.0)
    25.0
    """
    if discount_ratio == 0:
        return capital / years
    return capital * discount_ratio / (1 - float((1 + discount_ratio) ** -years))


def present_value(flows: Sequence[float], discount_ratio: float) -> float:
    """Return the net present value of yearly flows in USD, the first one now.

    >>> present_value([-100.0, 60.0, 60.0], 0.0)
    20.0
    """
    return sum(flow / (1 + discount_ratio) ** year for year, flow in enumerate(flows))


def node_usd(nodes: Nodes) -> float:
    """Return the price of one server with its adapters, from the catalogue or by its accelerators' rated power."""
    if nodes.accelerators == 0:
        return 1500.0  # a laptop or a small server; assumed
    device, row = nodes.device, _server_price(nodes)
    if row is not None:
        return float(row["usd"]) * nodes.accelerators / HELD[row["kind"]]
    return USD_PER_WATT_UNPRICED * (device.power_watts or 500.0) * nodes.accelerators


def _server_price(nodes: Nodes) -> Row | None:
    name = nodes.device.name
    return next((row for row in table("prices") if row["accelerator"] == name and row["kind"] in HELD), None)


def _building_price() -> Row:
    return next(row for row in table("prices") if row["kind"] == "building_megawatt")


def price_months(site: Site) -> dict[str, str]:
    """Return the month of each catalogue price that an owned site's bill rests on; empty where the source has none.

    What is declared (capital, electricity) and what a tenant pays is not among them. Servers without a price of their
    own are priced by the watt of the H100 server.
    """
    if site.money.tenure == "rented":
        return {}
    paths = {each.path: each.month for each in defaults(site)}
    found = {"electricity": paths["power.usd_per_kwh"]} if "power.usd_per_kwh" in paths else {}
    fitted = [nodes for nodes in site.nodes if nodes.accelerators]
    if site.money.capital_usd or not fitted:
        return found
    for nodes in fitted:
        row = _server_price(nodes)
        name = f"servers of {nodes.device.name}" if row else f"servers of {nodes.device.name}, by the watt of others"
        found[name] = row["date"] if row else UNPRICED_MONTH
    if site.accelerators <= ALONE:
        return found
    if site.fabric.kind != "none":
        found["network"] = ""
    return found | {"buildings": _building_price()["date"]}


def stale(site: Site, today: date) -> list[str]:
    """Return the warnings on an owned site's prices: those more than a year old as one, those without a date as one."""
    months = price_months(site)
    old = [f"{name} ({month})" for name, month in months.items() if month and clouds.is_stale(month, today)]
    undated = [name for name, month in months.items() if not month]
    found = [f"prices more than a year old: {', '.join(old)}"] if old else []
    return found + ([f"prices without a date in their source: {', '.join(undated)}"] if undated else [])


def capital(site: Site, facility_watts: float) -> dict[str, float]:
    """Return what the parts of a site cost to buy, in USD: one sum as declared, or each from the catalogue.

    Network and storage are counted; racks, cables to them and installing are what the published share of servers leaves
    over. A server alone takes neither network nor building.
    """
    if site.money.capital_usd:
        return {"all, as declared": site.money.capital_usd}
    servers = sum(nodes.count * node_usd(nodes) for nodes in site.nodes)
    if site.accelerators <= ALONE:
        return {"servers": servers}
    price = float(_building_price()["usd"])
    hall, plant = price * facility_watts * site.power.diversity_ratio / 1e6, part("plant_ratio")
    network, storage = topology.bill(site).usd, store_usd(site, site.storage.capacity_bytes)
    return {
        "servers": servers,
        "network": network,
        "storage": storage,
        "racks and installation": max(0.0, servers / NODE_SHARE_OF_TOTAL - servers - network - storage),
        "power and cooling plant": hall * plant,
        "building": hall * (1 - plant),
    }


def capital_usd(site: Site, facility_watts: float) -> float:
    """Return what everything at a site costs to buy, in USD."""
    return sum(capital(site, facility_watts).values())


def store_usd(site: Site, size_bytes: float) -> float:
    """Return what so much shared storage of a site's kind costs; a server's own disks are in its price."""
    if site.storage.tier == "local":
        return 0.0
    return size_bytes / 1e12 * part("disk_usd" if site.storage.tier == "object" else "flash_usd")


def staff_usd_per_year(site: Site, facility_watts: float) -> float:
    """Return what people cost: as declared, or by the power of an owned site, from what others told of theirs.

    Up to a small site people grow with its power, from there on by a power law through a small and a large site.
    Source: ``catalogue/capital_parts.csv``.
    """
    if site.money.staff_usd_per_year or site.money.tenure == "rented":
        return site.money.staff_usd_per_year
    megawatts, small = facility_watts / 1e6, part("staff_small_megawatts")
    ratio = part("staff_large_people") / part("staff_small_people")
    exponent = math.log(ratio) / math.log(part("staff_large_megawatts") / small)
    people = part("staff_small_people") * (megawatts / small) ** (exponent if megawatts > small else 1.0)
    return people * part("staff_usd_per_year") if site.accelerators else 0.0


def part(name: str) -> float:
    """Return a number of ``catalogue/capital_parts.csv``."""
    return next(float(row["value"]) for row in table("capital_parts") if row["name"] == name)


def _bought(site: Site) -> str:
    if site.money.capital_usd:
        return "bought at the declared price"
    return "bought at catalogue prices, " + (
        "a building included" if site.accelerators > ALONE else "without network and building"
    )


def bill(site: Site, facility_watts: Interval) -> Bill:
    """Return what a site costs by the hour while it draws some power.

    Args:
        site: owned or rented.
        facility_watts: drawn from the grid, cooling and losses included.
    """
    money = site.money
    power = facility_watts.scaled(site.power.usd_per_kwh / 1000)
    people = staff_usd_per_year(site, facility_watts.mid) / HOURS_PER_YEAR
    if money.tenure == "rented":
        rent = sum(n.count * n.accelerators * offer(n.accelerator, money.provider).usd_per_hour for n in site.nodes)
        nothing = Interval.exactly(0.0)
        return Bill(
            nothing, nothing, people, rent, site.accelerators, (f"rented from {money.provider}, power included",)
        )
    yearly = annuity(capital_usd(site, facility_watts.mid), money.life_years, money.discount_ratio)
    hourly = yearly / HOURS_PER_YEAR
    told = (
        f"written off over {money.life_years:g} years at {money.discount_ratio:.0%} interest",
        _bought(site),
        "people as declared" if money.staff_usd_per_year else "people by what sites of such a power told of theirs",
    )
    spread = Interval(hourly, hourly * (1 - SPREAD), hourly * (1 + SPREAD))
    return Bill(spread, power, people, 0.0, site.accelerators, told)
