"""How fast accelerators reach each other, and what collectives among them take.

Owns links and the alpha-beta equations of collectives. The shapes and bills of fabrics are in ``topology``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log2

from bessemer.twin.facility import facility
from bessemer.twin.site import Nodes, Site
from bessemer.twin.topology import FabricBill, bill, endpoints, pod_endpoints

__all__ = [
    "FabricBill",
    "Links",
    "all_gather_seconds",
    "all_reduce_seconds",
    "all_to_all_seconds",
    "bill",
    "links",
    "point_to_point_seconds",
    "ring_seconds",
    "tree_seconds",
]

PCIE_BYTES_PER_SECOND = 25e9
"""Between accelerators without links of their own. Source: PCI Express 4.0, 16 lanes, less its framing."""


@dataclass(frozen=True, slots=True)
class Links:
    """What joins accelerators. Rates are of each accelerator, in one direction, by the plate.

    Attributes:
        scaleup_accelerators: in one scale-up domain.
        scaleup_bytes_per_second: inside it.
        scaleout_bytes_per_second: between domains; 0: there is no network.
        scaleup_seconds: of the smallest message inside.
        scaleout_seconds: of the smallest message between domains.
        oversubscription: host over core rate of the fabric; 1 is none.
        pod_accelerators: that reach each other below the oversubscribed tier. Larger groups get their share of it, as
            if jobs were placed without regard to it.
    """

    scaleup_accelerators: int
    scaleup_bytes_per_second: float
    scaleout_bytes_per_second: float
    scaleup_seconds: float
    scaleout_seconds: float
    oversubscription: float = 1.0
    pod_accelerators: float = inf


def links(site: Site, nodes: Nodes) -> Links:
    """Return the links of the accelerators in one kind of a site's servers.

    Between servers they are as fast as the slower of adapters and ports; without a fabric there is nothing.
    """
    known = facility("network")
    up, domain = PCIE_BYTES_PER_SECOND, nodes.scaleup or max(nodes.accelerators, 1)
    if nodes.accelerators:
        up = nodes.device.scaleup_bytes_per_second or up
    port = 0.0 if site.fabric.kind == "none" else site.fabric.port_bits_per_second * site.fabric.planes
    out = nodes.nics * min(nodes.nic_bits_per_second, port) / 8 / max(nodes.accelerators, 1)
    hops = max(2 * bill(site).tiers - 1, 0)
    wait = site.fabric.endpoint_seconds + hops * known["hop_seconds"]
    pod = pod_endpoints(site.fabric, endpoints(site), nodes.nics) * nodes.accelerators / max(nodes.nics, 1)
    return Links(domain, up, out, known["scaleup_seconds"], wait, site.fabric.oversubscription, pod)


def ring_seconds(size_bytes: float, members: int, bytes_per_second: float, wait_seconds: float) -> float:
    """Return the seconds of an all-reduce around a ring.

    Source: Patarasu and Yuan, J. Parallel Distrib. Comput. 2009: 2 (n - 1) steps of 1/n of the bytes.

    >>> ring_seconds(8e9, 2, 1e9, 0.0)
    8.0
    """
    return 2 * (members - 1) * (size_bytes / members / bytes_per_second + wait_seconds)


def tree_seconds(size_bytes: float, members: int, bytes_per_second: float, wait_seconds: float) -> float:
    """Return the seconds of an all-reduce over two complementary binary trees, each with half of the bytes.

    Source: Sanders, Speck, Träff, Parallel Computing 2009: bandwidth as a ring, latency as a tree.
    """
    depth = ceil(log2(members)) if members > 1 else 0
    return 0.0 if members < 2 else 2 * size_bytes / bytes_per_second + 2 * depth * wait_seconds


def _flat(size_bytes: float, members: int, rate: float, wait_seconds: float) -> float:
    if members < 2:
        return 0.0
    if rate <= 0:
        return float("inf")
    return min(
        ring_seconds(size_bytes, members, rate, wait_seconds), tree_seconds(size_bytes, members, rate, wait_seconds)
    )


def _split(members: int, links: Links) -> tuple[int, int]:
    inside = min(members, max(links.scaleup_accelerators, 1))
    return inside, ceil(members / inside)


def _rates(links: Links) -> tuple[float, float]:
    share = facility("network")["collective_ratio"]
    return links.scaleup_bytes_per_second * share, links.scaleout_bytes_per_second * share / links.oversubscription


def all_reduce_seconds(size_bytes: float, members: int, links: Links) -> float:
    """Return the seconds of an all-reduce: scattered in the domains, reduced between them, gathered again.

    Source: hierarchical all-reduce (Jia et al., arXiv:1807.11205): 1/s of the bytes leaves a domain of s;
    the better of ring and tree at each level.
    """
    inside, domains = _split(members, links)
    up, out = _rates(links)
    return _flat(size_bytes, inside, up, links.scaleup_seconds) + _flat(
        size_bytes / inside, domains, out, links.scaleout_seconds
    )


def all_gather_seconds(size_bytes: float, members: int, links: Links) -> float:
    """Return the seconds until each member has all `size_bytes`; a reduce-scatter takes the same.

    Source: half of a ring all-reduce at each level (Thakur, Rabenseifner, Gropp, IJHPCA 2005).
    """
    inside, domains = _split(members, links)
    up, out = _rates(links)
    seconds = (inside - 1) * (size_bytes / inside / up + links.scaleup_seconds)
    if domains > 1:
        step = size_bytes / inside / domains / out if out > 0 else float("inf")
        seconds += (domains - 1) * (step + links.scaleout_seconds)
    return seconds


def all_to_all_seconds(size_bytes: float, members: int, links: Links) -> float:
    """Return the seconds until each member has sent `size_bytes` in equal parts to all; both levels work at once.

    A domain with few members sends most of its bytes away, and all wait for it.

    Source: linear exchange (Thakur, Rabenseifner, Gropp, IJHPCA 2005); waits of one round a tier.
    """
    inside, domains = _split(members, links)
    if members < 2:
        return 0.0
    up, out = _rates(links)
    near = size_bytes * (inside - 1) / members / up + links.scaleup_seconds
    if domains < 2:
        return near
    least = members - inside * (domains - 1)
    far = size_bytes * (members - least) / members / out if out > 0 else float("inf")
    return max(near, far + links.scaleout_seconds)


def point_to_point_seconds(size_bytes: float, links: Links, inside: bool = False) -> float:
    """Return the seconds of one message, inside a scale-up domain or between two. Source: Hockney 1994."""
    rate = links.scaleup_bytes_per_second if inside else links.scaleout_bytes_per_second
    wait = links.scaleup_seconds if inside else links.scaleout_seconds
    return wait + size_bytes / rate if rate > 0 else float("inf")
