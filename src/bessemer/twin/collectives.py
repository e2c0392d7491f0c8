"""What collectives among accelerators take: alpha-beta equations over two levels of links, on arrays of groups.

Owns gathers, reductions and exchanges, and what a fabric's shape leaves of a link's rate. Knows no site and no job. A
group is `members` accelerators, `stride` apart: the data-parallel ring of a layout with eight tensor ways has stride
eight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64] | float
"""A number, or an array of one number for each group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wires:
    """What joins accelerators; rates are of each one, in one direction.

    Attributes:
        domain: accelerators of a scale-up domain.
        up: bytes a second inside it.
        out: bytes a second between domains.
        up_seconds: of the smallest message inside it.
        out_seconds: of the smallest message between domains.
        pod: accelerators below the oversubscribed tier; infinite without one.
        oversubscription: rate below that tier over that through it; 1 is none.
        even: accelerators up to which all exchange evenly at full rate: of a torus, not all.
    """

    domain: Numbers
    up: Numbers
    out: Numbers
    up_seconds: Numbers
    out_seconds: Numbers
    pod: Numbers = np.inf
    oversubscription: Numbers = 1.0
    even: Numbers = np.inf


def out_rate(span: Numbers, wires: Wires) -> Numbers:
    """Return the bytes a second that each adapter of a group gets, which lies over `span` accelerators."""
    return wires.out / np.where(np.greater(span, wires.pod), wires.oversubscription, 1.0)


def ring_rate(members: Numbers, stride: Numbers, wires: Wires) -> Numbers:
    """Return the bytes a second that a ring gets on each of its members.

    Inside a scale-up domain it has the domain's bandwidth; beyond, the adapters of all its members in a domain.
    Source: NCCL's bus bandwidth for rings that leave a node through every adapter, nccl-tests PERFORMANCE.md.
    """
    inside = np.maximum(1.0, wires.domain / stride)
    out = np.minimum(wires.up, np.minimum(inside, members) * out_rate(members * stride, wires))
    return np.where(np.less_equal(members, inside), wires.up, out)


def gather_seconds(size_bytes: Numbers, members: Numbers, stride: Numbers, wires: Wires) -> Numbers:
    """Return the seconds until each member has all `size_bytes`; a reduce-scatter takes the same.

    Source: (n - 1) / n of the bytes reach each member, as in a ring; by doubling in log2 n rounds (Thakur,
    Rabenseifner, Gropp 2005, doi:10.1177/1094342005051521, section 4.1; NCCL's PAT since 2.23). A ring's n - 1 rounds
    fit the published steps no better.
    """
    moved = size_bytes * (1 - 1 / members) / ring_rate(members, stride, wires)
    near = np.minimum(members, np.maximum(1.0, wires.domain / stride))
    domains = np.ceil(members / near - 1e-9)
    return moved + np.log2(near) * wires.up_seconds + np.log2(domains) * wires.out_seconds


def reduce_seconds(size_bytes: Numbers, members: Numbers, stride: Numbers, wires: Wires) -> Numbers:
    """Return the seconds of an all-reduce: scattered while it is added up, then gathered.

    Source: Thakur, Rabenseifner, Gropp 2005, section 4.5; two trees take as long (Sanders, Speck, Träff 2009,
    doi:10.1016/j.parco.2009.09.001).
    """
    return 2 * gather_seconds(size_bytes, members, stride, wires)


def exchange_seconds(sent_bytes: Numbers, members: Numbers, wires: Wires) -> Numbers:
    """Return the seconds until each member has sent `sent_bytes` in equal parts to all; both levels work at once.

    Source: linear exchange (Thakur, Rabenseifner, Gropp 2005, doi:10.1177/1094342005051521), a round of waiting a
    level. Half of an even exchange crosses the middle: a torus of side k gives each member 8 / k of its rate (Dally and
    Towles 2004, Principles and Practices of Interconnection Networks, section 3.3.1), a tree its oversubscribed share.
    """
    inside = np.minimum(wires.domain, members) / members
    near = sent_bytes * (inside - 1 / members) / wires.up + np.where(np.greater(members, 1), wires.up_seconds, 0.0)
    crowd = np.maximum(1 - inside, np.cbrt(members / wires.even))
    far = sent_bytes * crowd / out_rate(members, wires) + wires.out_seconds
    return np.maximum(near, np.where(inside < 1, far, 0.0))


def message_seconds(size_bytes: Numbers, span: Numbers, wires: Wires) -> Numbers:
    """Return the seconds of one message between neighbours of a group over `span` accelerators. Source: Hockney 1994,
    doi:10.1016/S0167-8191(06)80021-9.
    """
    leaves = np.greater(span, wires.domain)
    rate = np.where(leaves, out_rate(span, wires), wires.up)
    return size_bytes / rate + np.where(leaves, wires.out_seconds, wires.up_seconds)
