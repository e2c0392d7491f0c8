"""The carbon of making a site: accelerators, servers, network, storage, power and cooling plant, building.

Owns the sum and its spread over the years that each part serves. All of it is modelled, from published footprints in
``catalogue/embodied_carbon.csv``; what electricity emits is counted elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from bessemer.core.errors import NotFound
from bessemer.twin.accelerators import accelerator
from bessemer.twin.catalogue import Row, number, table
from bessemer.twin.interval import Interval
from bessemer.twin.power import draw, rated_watts
from bessemer.twin.site import Nodes, Site
from bessemer.twin.topology import bill

HOURS_PER_YEAR = 8760.0
SMALL_HOST_WATTS = 200.0
"""Of a machine without accelerators, below which it counts as a laptop. Assumed."""


@dataclass(frozen=True, slots=True)
class Part:
    """What making one kind of part emitted, and over how many years it is spread."""

    name: str
    kgco2e: Interval
    life_years: float

    @property
    def kgco2e_per_hour(self) -> Interval:
        """The share of one hour, used or not."""
        return self.kgco2e.scaled(1 / self.life_years / HOURS_PER_YEAR)


def embodied(site: Site) -> tuple[Part, ...]:
    """Return the parts of a site with what making them emitted; those that it lacks are left out.

    Hardware is spread over the site's own life, plant and building over theirs. A machine that stands in a room without
    cooling of its own takes no plant and no building.

    Source: ``catalogue/embodied_carbon.csv``; straight-line spreading as in Software Carbon Intensity, ISO 21031.
    """
    it_watts = draw(site, 1.0).it_watts if site.cooling.kind != "none" else 0.0
    kept, local = site.storage, sum(nodes.count * nodes.nvme_bytes for nodes in site.nodes)
    shared = 0.0 if kept.tier == "local" else kept.capacity_bytes
    flash, disk = (local, shared) if kept.tier == "object" else (local + shared, 0.0)
    amounts = [
        ("accelerators", added([_boards(nodes) for nodes in site.nodes])),
        ("servers", added([_host(nodes) for nodes in site.nodes])),
        ("network", _made("switch", bill(site).switches)),
        ("storage", added([_made("flash", flash / 1e12), _made("disk", disk / 1e12)])),
        ("power and cooling plant", _made("plant", it_watts)),
        ("building", _made("building", it_watts)),
    ]
    lives = {"power and cooling plant": _life("plant"), "building": _life("building")}
    years = site.money.life_years
    return tuple(Part(name, made, lives.get(name, years)) for name, made in amounts if made.mid)


def kgco2e_per_hour(site: Site) -> Interval:
    """Return what an hour of a site carries of its making, in kg CO2e; the parts' bounds add up."""
    return added([part.kgco2e_per_hour for part in embodied(site)])


def added(intervals: list[Interval]) -> Interval:
    """Return a sum whose bounds are the sums of the bounds: such figures are wrong in the same direction."""
    return Interval(*(sum(getattr(each, bound) for each in intervals) for bound in ("mid", "low", "high")))


def _boards(nodes: Nodes) -> Interval:
    """Return the accelerators of some servers: published, or by rated power. What no catalogue has is in its server."""
    count = float(nodes.count * nodes.accelerators)
    try:
        device = accelerator(nodes.accelerator)
    except NotFound:
        return Interval.exactly(0.0)
    if any(row["part"] == "accelerator" and row["name"] == device.name for row in table("embodied_carbon")):
        return _made("accelerator", count, device.name)
    return _made("accelerator", count * rated_watts(device).mid)


def _host(nodes: Nodes) -> Interval:
    is_small = nodes.accelerators <= 1 and nodes.host_watts < SMALL_HOST_WATTS
    return _made("laptop" if is_small else "server", nodes.count)


def _row(part: str, name: str = "") -> Row:
    return next(row for row in table("embodied_carbon") if (row["part"], row["name"]) == (part, name))


def _life(part: str) -> float:
    return number(_row(part), "life_years") or 0.0


def _made(part: str, amount: float, name: str = "") -> Interval:
    row = _row(part, name)
    return Interval(*(float(row[column]) for column in ("kgco2e", "kgco2e_low", "kgco2e_high"))).scaled(amount)
