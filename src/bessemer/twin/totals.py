"""The totals of a site beside what was published of it.

Owns the adding up. The parts come from ``topology``, ``power`` and ``cooling``.
"""

from __future__ import annotations

from dataclasses import dataclass

from bessemer.twin import money
from bessemer.twin.cooling import water_litres_per_kwh
from bessemer.twin.embodied import added, embodied
from bessemer.twin.interval import Interval
from bessemer.twin.power import draw, rated_watts
from bessemer.twin.site import Site
from bessemer.twin.topology import bill


@dataclass(frozen=True, slots=True)
class Total:
    """One total. `published` is None where nobody said; `difference` is modelled over published, less one.

    Attributes:
        name: with the unit last.
        modelled: what the planner counts.
        published: what others said of the same.
        source: who said it; empty where nobody did.
    """

    name: str
    modelled: Interval
    published: float | None = None
    source: str = ""

    @property
    def difference(self) -> float | None:
        """Return the relative difference, or None."""
        return self.modelled.mid / self.published - 1 if self.published else None


def totals(site: Site, load: float = 1.0) -> list[Total]:
    """Return a site's totals at a load, each beside what the site publishes under the same name.

    Raises:
        ConfigError: the network cannot join the site's endpoints.
        NotFound: an accelerator or a climate is in no catalogue.
    """
    fabric, power, made = bill(site), draw(site, load), embodied(site)
    bought = money.capital(site, draw(site, 1.0).facility_watts.mid)
    exactly = Interval.exactly
    found = {
        "accelerators": exactly(float(site.accelerators)),
        "exaflops_bf16": exactly(_flop_per_second(site, "bf16") / 1e18),
        "exaflops_fp8": exactly(_flop_per_second(site, "fp8") / 1e18),
        "switches": exactly(float(fabric.switches)),
        "leaf_switches": exactly(float(fabric.leaf)),
        "spine_switches": exactly(float(fabric.spine)),
        "petabytes": exactly(site.storage.capacity_bytes / 1e15),
        "megawatts_rated": exactly(_rated_watts(site) / 1e6),
        "megawatts_it": Interval(power.it_watts, 0.9 * power.it_watts, 1.1 * power.it_watts).scaled(1e-6),
        "megawatts": power.facility_watts.scaled(1e-6),
        "pue": power.pue,
        "water_cubic_metres_per_day": water_litres_per_kwh(site).scaled(power.it_watts * 24 / 1e6),
        "fabric_usd": exactly(fabric.usd),
        "capital_usd": _spread(sum(bought.values())),
        "staff_usd_per_year": exactly(money.staff_usd_per_year(site, power.facility_watts.mid)),
        "gco2e_per_kwh": exactly(site.power.gco2e_per_kwh),
        "tonnes_co2e_per_day": power.facility_watts.scaled(24e-3 * site.power.gco2e_per_kwh / 1e6),
        "embodied_tonnes_co2e": added([part.kgco2e for part in made]).scaled(1e-3),
        "embodied_tonnes_co2e_per_day": added([part.kgco2e_per_hour for part in made]).scaled(24e-3),
    }
    found |= {f"capital: {name}": _spread(usd) for name, usd in bought.items()}
    found |= {f"embodied carbon: {part.name}": part.kgco2e.scaled(1e-3) for part in made}
    return [Total(name, value, site.published.get(name), _source(site, name)) for name, value in found.items()]


def _source(site: Site, name: str) -> str:
    """Return who published a total: the source of that value, else of them all."""
    if name not in site.published:
        return ""
    return site.sources.get(f"published.{name}") or site.sources.get("published", "")


def _spread(usd: float) -> Interval:
    return Interval(usd, usd * (1 - money.SPREAD), usd * (1 + money.SPREAD))


def _flop_per_second(site: Site, precision: str) -> float:
    fitted = [nodes for nodes in site.nodes if nodes.accelerators]
    return sum(n.count * n.accelerators * n.device.flop_per_second(precision) for n in fitted)


def _rated_watts(site: Site) -> float:
    """Return the servers' plates added up; from their parts where there is no plate."""
    watts = 0.0
    for nodes in site.nodes:
        boards = 0.0
        if nodes.accelerators:
            boards = nodes.accelerators * rated_watts(nodes.device).mid
        watts += nodes.count * (nodes.rated_watts or (boards + nodes.host_watts) / site.power.supply_efficiency)
    return watts
