"""Watts from chip to grid: boards, servers, network, storage, the losses on the way, caps, swings and cuts.

Owns the balance of power. How heat leaves is in ``cooling``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError
from bessemer.twin.accelerators import Accelerator, accelerators
from bessemer.twin.answer import main_nodes
from bessemer.twin.cooling import cooling_ratio, loss_ratio, pue
from bessemer.twin.facility import facility
from bessemer.twin.interval import Interval
from bessemer.twin.site import Nodes, Site
from bessemer.twin.topology import bill

Array = NDArray[np.float64]
IDLE_BOARD_RATIO = 0.1
"""Idle over rated power of a board whose idle nobody said. Source: assumed, that of an H100."""


@dataclass(frozen=True, slots=True)
class SitePower:
    """The mean power of a site at some load; the parts add up to the whole.

    Attributes:
        it_watts: servers with their supplies, network and storage.
        accelerator_watts: boards.
        host_watts: the rest of the servers.
        supply_watts: lost in the servers' supplies.
        fabric_watts: switches and optics of the compute network.
        storage_watts: shared storage.
        cooling_watts: fans, pumps, chillers, lights.
        losses_watts: between grid and supplies.
        facility_watts: from the grid.
        pue: of a typical year.
    """

    it_watts: float
    accelerator_watts: float
    host_watts: float
    supply_watts: float
    fabric_watts: float
    storage_watts: float
    cooling_watts: float
    losses_watts: float
    facility_watts: Interval
    pue: Interval


def rated_watts(device: Accelerator) -> Interval:
    """Return the rated maximum of a board; where nobody published it, what others of its peak rate have.

    Source: modelled, a power law between watts and bf16 peak through the accelerators of the catalogue that have both
    (watts grow about as the root of the rate); the bounds hold 80 % of these when each is left out in turn.

    >>> known = accelerators()
    >>> str(rated_watts(known["H100-SXM-80GB"])), rated_watts(known["TPUv5p"]).low > 200
    ('700 [700, 700]', True)
    """
    if device.power_watts is not None:
        return Interval.exactly(device.power_watts)
    slope, middle, away = _watts_law()
    estimate = math.exp(middle + slope * math.log(device.bf16_flop_per_second))
    return Interval(estimate, estimate / away, estimate * away)


@cache
def _watts_law() -> tuple[float, float, float]:
    """Return slope and middle of the law in logarithms, and the factor that 80 % of its misses are within."""
    known = [each for each in accelerators().values() if each.power_watts]
    rates, watts = (np.log([getattr(each, name) for each in known]) for name in ("bf16_flop_per_second", "power_watts"))
    misses = []
    for out in range(len(known)):
        rest = np.arange(len(known)) != out
        slope, middle = np.polyfit(rates[rest], watts[rest], 1)
        misses.append(abs(middle + slope * rates[out] - watts[out]))
    slope, middle = np.polyfit(rates, watts, 1)
    return float(slope), float(middle), math.exp(float(np.quantile(misses, 0.8)))


def board_watts(nodes: Nodes, load: float, cap_watts: float = 0.0) -> float:
    """Return the mean watts of one accelerator at work for a share `load` of the time."""
    if not nodes.accelerators:
        return 0.0
    device, known = nodes.device, facility("board")
    rated, idle = rated_watts(device).mid, idle_watts(device)
    work = min(known["work_ratio"] * rated, cap_watts or rated)
    return min(idle, work) + load * max(work - idle, 0.0)


def idle_watts(device: Accelerator) -> float:
    """Return the watts of a board with nothing to do."""
    return device.idle_watts or IDLE_BOARD_RATIO * rated_watts(device).mid


def unpublished(site: Site) -> tuple[str, ...]:
    """Return a sentence on each kind of board of a site whose watts nobody published."""
    devices = {nodes.accelerator: nodes.device for nodes in site.nodes if nodes.accelerators}
    return tuple(
        f"nobody published what {device.name} draws: {rated_watts(device)} W are modelled from others of its rate"
        for device in devices.values()
        if device.power_watts is None
    )


def host_watts(nodes: Nodes, load: float) -> float:
    """Return the mean watts of a server beside its accelerators."""
    idle = facility("host")["idle_ratio"]
    return nodes.host_watts * (idle + (1 - idle) * load)


def node_watts(nodes: Nodes, load: float, supply_efficiency: float = 0.94, cap_watts: float = 0.0) -> Interval:
    """Return the watts of one server at its plug, while it works a share `load` of the time."""
    boards = _boards_watts(nodes, nodes.accelerators * board_watts(nodes, load, cap_watts))
    return _at_plug(boards, host_watts(nodes, load), supply_efficiency)


def node_peak_watts(nodes: Nodes, supply_efficiency: float = 0.94, cap_watts: float = 0.0) -> Interval:
    """Return the highest watts of one server at its plug: all boards at their rating, or at their cap."""
    rated = rated_watts(nodes.device).mid if nodes.accelerators else 0.0
    boards = _boards_watts(nodes, nodes.accelerators * min(rated, cap_watts or rated))
    return _at_plug(boards, host_watts(nodes, 1.0), supply_efficiency)


def _boards_watts(nodes: Nodes, watts: float) -> Interval:
    """Return the watts of boards, as sure as their rating is."""
    rated = rated_watts(nodes.device) if nodes.accelerators else Interval.exactly(0.0)
    return rated.scaled(watts / rated.mid) if rated.mid else Interval.exactly(watts)


def _at_plug(boards: Interval, host: float, efficiency: float) -> Interval:
    away = facility("board")["interval_ratio"]
    low, mid, high = ((bound + host) / efficiency for bound in (boards.low, boards.mid, boards.high))
    return Interval(mid, low * (1 - away), high * (1 + away))


def clock_ratio(cap_watts: float, rated_watts: float, idle_watts: float) -> float:
    """Return the clock under a power cap, as a share of the full one.

    Source: dynamic power grows with the clock to the power in ``[clock]`` of ``catalogue/fitted_facility.toml``.

    >>> clock_ratio(700.0, 700.0, 70.0)
    1.0
    """
    share = (cap_watts - idle_watts) / (rated_watts - idle_watts)
    return float(np.clip(share, 0.0, 1.0) ** (1 / facility("clock")["exponent"]))


def capped_ratio(site: Site) -> float:
    """Return how fast boards run under the site's cap, over uncapped ones.

    Raises:
        ConfigError: the cap is no more than idle boards draw.
    """
    nodes, cap = main_nodes(site), site.power.cap_watts
    if not cap:
        return 1.0
    device = nodes.device
    idle = idle_watts(device)
    if cap <= idle:
        raise ConfigError(
            f"a cap of {cap:g} W is no more than an idle {device.name} draws ({idle:g} W)",
            hint="Raise power.cap_watts.",
        )
    work = board_watts(nodes, 1.0)
    return clock_ratio(min(cap, work), work, idle)


def capped_device(site: Site) -> Accelerator:
    """Return the site's accelerator as fast as its cap lets it compute; memory and links have clocks of their own.

    Raises:
        ConfigError: the cap is no more than idle boards draw.
    """
    device, ratio = main_nodes(site).device, capped_ratio(site)
    rates = ("bf16_flop_per_second", "fp8_flop_per_second", "fp4_flop_per_second", "fp32_flop_per_second")
    found = {name: getattr(device, name) for name in rates}
    return replace(device, **{name: rate * ratio for name, rate in found.items() if rate is not None})


def draw(site: Site, load: float) -> SitePower:
    """Return a site's power without asking whether the grid gives it; `load` is the share of time at work."""
    watts = [(n, n.count * n.accelerators * board_watts(n, load, site.power.cap_watts)) for n in site.nodes]
    each = [_boards_watts(nodes, of_all) for nodes, of_all in watts]
    boards, low, high = (sum(getattr(kind, bound) for kind in each) for bound in ("mid", "low", "high"))
    hosts = sum(n.count * host_watts(n, load) for n in site.nodes)
    supply = (boards + hosts) * (1 / site.power.supply_efficiency - 1)
    fabric, storage = bill(site).watts, site.storage.watts
    it_watts = boards + hosts + supply + fabric + storage
    ratio, cooling = pue(site), it_watts * cooling_ratio(site)
    losses = (it_watts + cooling) * loss_ratio(site)
    whole = it_watts + cooling + losses
    away = facility("board")["interval_ratio"]
    low, high = (it_watts + (bound - boards) / site.power.supply_efficiency for bound in (low, high))
    bounds = Interval(whole, low * (1 - away) * ratio.low, high * (1 + away) * ratio.high)
    return SitePower(it_watts, boards, hosts, supply, fabric, storage, cooling, losses, bounds, ratio)


def site_power(site: Site, load: float = 1.0) -> SitePower:
    """Return a site's mean power at a load of 0 to 1.

    Raises:
        ConfigError: the most that it draws at once is more than its envelope; says by how much, and the least change.
    """
    found = draw(site, load)
    allowed, most = site.power.envelope_watts, _most_watts(site, found)
    if allowed and most > allowed:
        raise ConfigError(
            f"{site.name} draws {most / 1e6:,.3f} MW at a load of {load:.0%}, {(most - allowed) / 1e6:,.3f} MW more "
            f"than its grid's envelope of {allowed / 1e6:,.3f} MW",
            hint=least_change(site, load, found),
        )
    return found


def _most_watts(site: Site, found: SitePower) -> float:
    return found.facility_watts.mid * site.power.diversity_ratio


def least_change(site: Site, load: float, found: SitePower) -> str:
    """Return the largest cap on each accelerator that fits the envelope, or how many servers must go."""
    allowed = site.power.envelope_watts / site.power.diversity_ratio
    if site.accelerators and load > 0:
        spare = (found.facility_watts.mid - allowed) / found.pue.mid * site.power.supply_efficiency
        first = next(nodes for nodes in site.nodes if nodes.accelerators)
        now = board_watts(first, 1.0, site.power.cap_watts)
        cap = int(now - spare / site.accelerators / load)
        tried = site.model_copy(update={"power": site.power.model_copy(update={"cap_watts": float(max(cap, 1))})})
        if cap > board_watts(first, 0.0) and draw(tried, load).facility_watts.mid <= allowed:
            return f"Cap each accelerator at {cap} W (power.cap_watts)."
    raised = f"power.envelope_watts to {int(np.ceil(_most_watts(site, found)))}."
    gone, servers = _fewest_away(site, load, allowed)
    return f"Take {gone:,} of {servers:,} servers away, or raise {raised}" if gone else f"Raise {raised}"


def _fewest_away(site: Site, load: float, allowed: float) -> tuple[int, int]:
    """Return how many servers of the largest kind must go, 0 where one is too many, and how many there are of it."""
    place = max(range(len(site.nodes)), key=lambda index: site.nodes[index].count, default=-1)
    if place < 0:
        return 0, 0
    count = site.nodes[place].count

    def fits(gone: int) -> bool:
        fewer = site.nodes[place].model_copy(update={"count": count - gone})
        nodes = (*site.nodes[:place], fewer, *site.nodes[place + 1 :])
        return draw(site.model_copy(update={"nodes": nodes}), load).facility_watts.mid <= allowed

    gone = bisect_left(range(count), True, key=fits)
    return (gone if gone < count else 0), count


def swing_watts(site: Site) -> float:
    """Return how far the boards' power falls when all members of one job wait at once.

    Source: ``[swing]`` in ``catalogue/fitted_facility.toml``.
    """
    return facility("swing")["dip_ratio"] * draw(site, 1.0).accelerator_watts / site.power.supply_efficiency


def smoothed(watts: Array, step_seconds: float, battery_joules: float) -> Array:
    """Return what the grid sees of a course of power when a battery fills dips and cuts peaks, without loss.

    The battery starts half full and steers to the mean; what it cannot hold or give reaches the grid.
    """
    mean, held = float(watts.mean()), battery_joules / 2
    seen = np.empty_like(watts)
    for place, now in enumerate(watts):
        wanted = (mean - float(now)) * step_seconds
        moved = min(max(wanted, -held), battery_joules - held)
        held += moved
        seen[place] = now + moved / step_seconds
    return seen


def cut_cost_ratio(site: Site, cut_ratio: float) -> float:
    """Return the share of the work that is lost while the facility draws `cut_ratio` less, boards clocked down alike.

    Raises:
        ConfigError: even idle boards draw more.
    """
    full, idle = draw(site, 1.0).facility_watts.mid, draw(site, 0.0).facility_watts.mid
    asked = full * (1 - cut_ratio)
    if asked < idle * (1 - 1e-12):
        raise ConfigError(
            f"a cut of {cut_ratio:.0%} is more than boards can give", hint=f"At most {1 - idle / full:.0%}."
        )
    return 1 - clock_ratio(asked, full, idle) if full > idle else 0.0
