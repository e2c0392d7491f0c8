"""How much of the time the replicas of a served model answer: failures, restarts, repairs, spare servers and replicas.

Owns availability in closed form. Knows no traffic, no model and no money.
"""

from __future__ import annotations

import math

import numpy as np

from bessemer.twin.hazards import WIDTH, node_failures_per_day, planned_per_day, replace_ratio
from bessemer.twin.interval import Interval
from bessemer.twin.operations import DAY_SECONDS, recovery_log_sigma
from bessemer.twin.site import Site

ENOUGH = 0.999
"""Share of the time in which enough replicas for the busiest hour must be up. Assumed: three nines, as services are
usually sold."""


def replica_ratio(site: Site, servers: float, whole: float, there: int, load_seconds: float) -> Interval:
    """Return the share of the time in which a replica answers.

    A replica falls with any of its servers. It is back on a spare server when the failure was noticed, the engine
    started and the weights read; without a spare only when a server is repaired. Source: mean time up over that and the
    time down, for each; servers in repair are Poisson (Palm's theorem, as in Feeney and Sherbrooke 1966,
    doi:10.1287/mnsc.12.5.391).

    Args:
        site: its operations say how often servers fail and how long the rest takes.
        servers: of one replica.
        whole: servers of all replicas.
        there: servers of that kind at the site.
        load_seconds: to read the weights.
    """
    sigma = math.hypot(_hazard_log_sigma(), recovery_log_sigma())
    low, mid, high = (
        _ratio(site, servers, whole, there, load_seconds, math.exp(way * sigma * WIDTH)) for way in (1, 0, -1)
    )
    return Interval(mid, low, high)


def _hazard_log_sigma() -> float:
    known = node_failures_per_day()
    return math.log(known.high / known.low) / (2 * WIDTH)


def _ratio(site: Site, servers: float, whole: float, there: int, load_seconds: float, factor: float) -> float:
    operations = site.operations
    failures = factor * servers * operations.node_failures_per_day / DAY_SECONDS
    planned = factor * planned_per_day(operations, servers) / DAY_SECONDS
    starting = operations.restart_seconds + load_seconds
    down = failures * (operations.detect_seconds + starting) + planned * starting
    broken = factor * whole * operations.node_failures_per_day * replace_ratio()
    missing = shortfall(broken * operations.repair_seconds / DAY_SECONDS, max(int(there - whole), 0))
    return max(0.0, 1 - missing / whole * max(servers, 1.0)) / (1 + down)


def shortfall(in_repair: float, spares: int) -> float:
    """Return how many servers are missing in the mean, when so many are in repair and so many are kept for that.

    >>> shortfall(2.0, 0), round(shortfall(2.0, 3), 3), shortfall(0.0, 0)
    (2.0, 0.218, 0.0)
    """
    if in_repair <= 0 or spares == 0:
        return max(in_repair, 0.0)
    most = int(in_repair + 12 * math.sqrt(in_repair) + 30)
    if spares >= most:
        return 0.0
    counts = np.arange(1, most + 1)
    logs = counts * math.log(in_repair) - np.cumsum(np.log(counts)) - in_repair
    return float(np.exp(logs[spares:]) @ (counts[spares:] - spares))


def enough_ratio(needed: int, replicas: int, up_ratio: float) -> float:
    """Return the share of the time in which at least so many of some replicas are up, each by itself.

    >>> enough_ratio(1, 1, 0.9), round(enough_ratio(1, 2, 0.9), 9)
    (0.9, 0.99)
    """
    if up_ratio >= 1:
        return 1.0
    down = np.arange(replicas - needed + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((replicas - down[1:] + 1) / down[1:]))])
    logs = ways + down * math.log1p(-up_ratio) + (replicas - down) * math.log(up_ratio)
    return float(min(1.0, np.exp(logs).sum()))


def spare_replicas(needed: int, most: int, up_ratio: float) -> int:
    """Return how many replicas beside those needed keep enough of them up, as far as there is room.

    >>> spare_replicas(10, 100, 0.99), spare_replicas(10, 11, 0.99), spare_replicas(10, 100, 1.0)
    (2, 1, 0)
    """
    low, high = -1, most - needed
    if enough_ratio(needed, most, up_ratio) < ENOUGH:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if enough_ratio(needed, needed + middle, up_ratio) < ENOUGH:
            low = middle
        else:
            high = middle
    return high
