"""How fast the accelerators of a site reach each other.

Owns links. The shapes and bills of fabrics are in ``topology``, what a collective takes in ``collectives``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from bessemer.twin.facility import facility
from bessemer.twin.site import Nodes, Site
from bessemer.twin.topology import endpoints, even_endpoints, hops, pod_endpoints

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
        even_accelerators: up to which all exchange with all at full rate; beyond, a torus has less for each.
    """

    scaleup_accelerators: int
    scaleup_bytes_per_second: float
    scaleout_bytes_per_second: float
    scaleup_seconds: float
    scaleout_seconds: float
    oversubscription: float = 1.0
    pod_accelerators: float = inf
    even_accelerators: float = inf


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
    wait = site.fabric.endpoint_seconds + hops(site.fabric, endpoints(site)) * known["hop_seconds"]
    each = nodes.accelerators / max(nodes.nics, 1)
    pod = pod_endpoints(site.fabric, endpoints(site), nodes.nics) * each
    even = even_endpoints(site.fabric, endpoints(site)) * each
    return Links(domain, up, out, known["scaleup_seconds"], wait, site.fabric.oversubscription, pod, even)
