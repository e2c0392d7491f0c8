"""The switches, cables and optics of a fabric, counted, with their watts and dollars.

Owns the shapes of networks: trees of two to four tiers, planes, dragonfly, torus. Knows no job and no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

from bessemer.core.errors import ConfigError
from bessemer.twin.catalogue import Row, table
from bessemer.twin.site import Fabric, Site

MOST_TIERS = 4
TREES = ("fat_tree", "rail", "multi_plane")


@dataclass(frozen=True, slots=True)
class Count:
    """The parts of a network: switches of each tier from the servers up, and the cables below each tier.

    Attributes:
        switches: of each tier; the first are the leaves.
        cables: ``cables[0]`` join servers and leaves, ``cables[1]`` leaves and spines, and so on.
        bisection_links: ports' worth of rate between two halves of the endpoints.
    """

    switches: tuple[int, ...]
    cables: tuple[int, ...]
    bisection_links: float


@dataclass(frozen=True, slots=True)
class FabricBill:
    """What the compute network is made of.

    Attributes:
        tiers: of switches; 0: none.
        leaf: switches that servers are joined to, over all planes.
        spine: of the second tier.
        core: of the third tier and above.
        switches: all.
        cables: all, each once.
        optics: transceivers, two for an optical cable.
        watts: switches and the ends of the cables.
        usd: the same, at list.
        bisection_bytes_per_second: between two halves of the endpoints, in one direction.
        note: what a planner must know of this network; may be empty.
        cables_by_tier: from the servers up.
    """

    tiers: int
    leaf: int
    spine: int
    core: int
    switches: int
    cables: int
    optics: int
    watts: float
    usd: float
    bisection_bytes_per_second: float
    note: str
    cables_by_tier: tuple[int, ...] = ()


def tree_limit(radix: int, tiers: int, oversubscription: float = 1.0) -> int:
    """Return how many endpoints a tree of equal switches can join.

    Source: k-ary fat tree, 2 (k/2)^tiers (Al-Fares et al., SIGCOMM 2008).

    >>> tree_limit(64, 3)
    65536
    """
    if tiers == 1:
        return radix
    down = _down_ports(radix, oversubscription)
    return int(radix * down * (radix // 2) ** (tiers - 2))


def _down_ports(radix: int, oversubscription: float) -> int:
    return min(radix - 1, max(1, int(radix * oversubscription / (1 + oversubscription) + 1e-9)))


def tiers_for(endpoints: int, radix: int, oversubscription: float = 1.0) -> int:
    """Return the least number of tiers.

    Raises:
        ConfigError: four tiers are not enough.

    >>> tiers_for(131072, 64), tiers_for(131072, 144), tiers_for(131072, 512)
    (4, 3, 2)
    """
    for tiers in range(1, MOST_TIERS + 1):
        if endpoints <= tree_limit(radix, tiers, oversubscription):
            return tiers
    most = tree_limit(radix, MOST_TIERS, oversubscription)
    raise ConfigError(
        f"{endpoints:,} endpoints are more than {MOST_TIERS} tiers of {radix}-port switches join ({most:,})",
        hint=f"Take switches of {_radix_for(endpoints)} ports or more, or several planes.",
    )


def _radix_for(endpoints: int) -> int:
    return next(radix for radix in range(4, 10**6, 2) if tree_limit(radix, MOST_TIERS) >= endpoints)


def tree(endpoints: int, radix: int, oversubscription: float = 1.0, rails: int = 1) -> Count:
    """Return the parts of a tree; the highest links are the oversubscribed ones, each rail has its own leaves.

    Source: Al-Fares et al., SIGCOMM 2008; for 64 ports it gives the published counts of DGX SuperPOD.

    >>> tree(16384, 64).switches
    (512, 512, 256)
    """
    tiers = tiers_for(endpoints, radix, oversubscription)
    if tiers == 1:
        return Count((1,), (endpoints,), endpoints / 2)
    switches, cables, links = [], [endpoints], endpoints
    for tier in range(tiers - 1):
        down = _down_ports(radix, oversubscription) if tier == tiers - 2 else radix // 2
        here = rails * ceil(links / rails / down) if tier == 0 else ceil(links / down)
        switches.append(here)
        links = here * (radix - down)
        cables.append(links)
    # Ports that no server uses need no way up: the top tier is sized by what can be used.
    used = ceil(endpoints * (radix - _down_ports(radix, oversubscription)) / _down_ports(radix, oversubscription))
    switches.append(ceil(min(links, used) / radix))
    links = cables[-1] = min(links, switches[-1] * radix)
    return Count(tuple(switches), tuple(cables), min(endpoints, links) / 2)


def pod_endpoints(fabric: Fabric, endpoints: int, rails: int = 1) -> float:
    """Return how many endpoints of a fabric reach each other below the tier that may be oversubscribed.

    In a tree that is its highest tier, elsewhere every link between switches; infinite without such a tier. With rails,
    a server has an endpoint on a leaf of each; the tier above the leaves is shared, as the bill counts it.

    >>> pod_endpoints(Fabric(kind="fat_tree", radix=64), 16384)
    1024.0
    >>> pod_endpoints(Fabric(kind="rail", radix=64), 1024, rails=8)
    256.0
    """
    if fabric.kind not in TREES:
        return inf if fabric.kind == "none" else 1
    tiers = tiers_for(endpoints, fabric.radix, fabric.oversubscription)
    if tiers == 1:
        return inf
    down, half = _down_ports(fabric.radix, fabric.oversubscription), fabric.radix // 2
    return float(down * half ** (tiers - 2) * (rails if fabric.kind == "rail" and tiers == 2 else 1))


def even_endpoints(fabric: Fabric, endpoints: int) -> float:
    """Return how many endpoints of a fabric exchange with all others at full rate.

    Source: half of an even exchange crosses the middle, so a torus of side k gives each endpoint 8 / k of its rate, all
    of it up to k = 8; a balanced dragonfly just manages it (Kim et al. 2008), a tree too, below an oversubscribed tier.

    >>> even_endpoints(Fabric(kind="torus"), 4096), even_endpoints(Fabric(kind="rail"), 4096)
    (512.0, inf)
    """
    return {"torus": 512.0, "dragonfly": float(max(endpoints, 1))}.get(fabric.kind, inf)


def hops(fabric: Fabric, endpoints: int) -> float:
    """Return how many switches a message between distant endpoints passes; of a torus, nodes in the mean.

    Source: up and down a tree; at most two switches of each of two groups in a dragonfly (Kim et al. 2008, section
    3.1); a quarter of the side in each dimension of a torus (Dally and Towles 2004, section 5.2).

    >>> hops(Fabric(kind="rail", radix=64), 1016), hops(Fabric(kind="torus"), 4096)
    (3.0, 12.0)
    """
    if fabric.kind == "none" or endpoints < 2:
        return 0.0
    if fabric.kind == "torus":
        return 3 * float(round(endpoints ** (1 / 3), 9)) / 4
    if fabric.kind == "dragonfly":
        return 4.0
    return 2.0 * tiers_for(endpoints, fabric.radix, fabric.oversubscription) - 1


def dragonfly(endpoints: int, radix: int) -> Count:
    """Return the parts of a balanced dragonfly: a = 2 p = 2 h, all groups joined to all.

    Source: Kim, Dally, Scott, Abts, ISCA 2008, section 3.1.

    Raises:
        ConfigError: more endpoints than groups of that radix can join.

    >>> dragonfly(1056, 15).switches
    (264,)
    """
    ports = (radix + 1) // 4
    members = 2 * ports
    most = members * ports * (members * ports + 1)
    if endpoints > most:
        raise ConfigError(
            f"{endpoints:,} endpoints are more than a dragonfly of {radix}-port switches joins ({most:,})",
            hint="Take switches of more ports, or several planes.",
        )
    groups = ceil(endpoints / (members * ports))
    between = groups * members * ports // 2 if groups > 1 else 0
    inside = groups * members * (members - 1) // 2
    return Count((groups * members,), (endpoints, inside, between), max(between / 2, endpoints / 4))


def torus(endpoints: int) -> Count:
    """Return the parts of a three-dimensional torus: no switches, three cables an endpoint.

    Source: Dally and Towles, Principles and Practices of Interconnection Networks (2004), chapter 5: 2 N / k links.

    >>> torus(4096).bisection_links
    512.0
    """
    side = endpoints ** (1 / 3)
    return Count((), (3 * endpoints,), round(2 * endpoints / side, 6))


def count(fabric: Fabric, endpoints: int, rails: int = 1) -> Count:
    """Return the parts of one plane of a fabric."""
    if fabric.kind == "dragonfly":
        return dragonfly(endpoints, fabric.radix)
    if fabric.kind == "torus":
        return torus(endpoints)
    own = rails if fabric.kind == "rail" and endpoints > fabric.radix else 1
    return tree(endpoints, fabric.radix, fabric.oversubscription, own)


def endpoints(site: Site) -> int:
    """Return how many adapters a site's compute network joins."""
    return sum(nodes.count * nodes.nics for nodes in site.nodes)


def bill(site: Site) -> FabricBill:
    """Return the switches, cables, optics, watts and dollars of a site's compute network.

    Raises:
        ConfigError: the network cannot join that many endpoints; says what can.
    """
    fabric, ports = site.fabric, endpoints(site)
    if fabric.kind == "none" or ports == 0:
        return FabricBill(0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, "")
    rails = max(nodes.nics for nodes in site.nodes)
    parts, planes = count(fabric, ports, rails), fabric.planes
    tiers = [number * planes for number in parts.switches] + [0, 0]
    cables = tuple(number * planes for number in parts.cables)
    switches, ends = sum(parts.switches) * planes, 2 * sum(cables)
    switch_watts, switch_usd = _switch(fabric)
    end_watts, end_usd = _ends(fabric)
    return FabricBill(
        tiers=len(parts.switches),
        leaf=tiers[0],
        spine=tiers[1],
        core=sum(tiers[2:]),
        switches=switches,
        cables=sum(cables),
        optics=ends if fabric.is_optical else 0,
        watts=switches * switch_watts + ends * end_watts,
        usd=switches * switch_usd + ends * end_usd,
        bisection_bytes_per_second=parts.bisection_links * planes * _rate_bits_per_second(site) / 8,
        note=_note(fabric, ports),
        cables_by_tier=cables,
    )


def _rate_bits_per_second(site: Site) -> float:
    """Return what one link of one plane carries: no more than its port, nor than the share of the fastest adapter."""
    adapter = max(nodes.nic_bits_per_second for nodes in site.nodes if nodes.nics) / site.fabric.planes
    return min(site.fabric.port_bits_per_second, adapter or site.fabric.port_bits_per_second)


def _note(fabric: Fabric, endpoints: int) -> str:
    if fabric.kind not in TREES:
        return ""
    three = tree_limit(fabric.radix, 3, fabric.oversubscription)
    if endpoints <= three:
        return ""
    radix = next(each for each in range(4, 4096, 2) if tree_limit(each, 3) >= endpoints)
    two = next(each for each in range(4, 4096, 2) if tree_limit(each, 2) >= endpoints)
    return (
        f"three tiers of {fabric.radix}-port switches end at {three:,} endpoints; {endpoints:,} need a fourth tier,"
        f" switches of {radix} ports or more (144 ports at 800 Gb/s join {tree_limit(144, 3):,}), or planes of slower"
        f" ports (two tiers from {two} ports)"
    )


def _switch(fabric: Fabric) -> tuple[float, float]:
    """Return watts and dollars: of that switch, else of the nearest in bandwidth, scaled by it."""
    wanted = fabric.radix * fabric.port_bits_per_second
    rows = [row for row in table("switches") if row["protocol"] == fabric.protocol]

    def rate(row: Row) -> float:
        return float(row["radix"]) * float(row["port_gb_per_s"]) * 1e9

    near = min(rows, key=lambda row: (abs(rate(row) / wanted - 1), abs(int(row["radix"]) - fabric.radix)))
    scale = wanted / rate(near)
    return float(near["watts"]) * scale, float(near["usd"]) * scale


def _ends(fabric: Fabric) -> tuple[float, float]:
    """Return watts and dollars of one end of a cable, scaled from the nearest speed."""
    speed = fabric.port_bits_per_second / 1e9
    near = min(table("optics"), key=lambda row: abs(float(row["port_gb_per_s"]) - speed))
    kind, scale = "optical" if fabric.is_optical else "copper", speed / float(near["port_gb_per_s"])
    return float(near[f"{kind}_watts"]) * scale, float(near[f"{kind}_usd"]) * scale
