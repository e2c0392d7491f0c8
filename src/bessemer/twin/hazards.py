"""How often things break: servers by component, and jobs.

Owns hazards, from the counts of the catalogue, and the constants of ``catalogue/fitted_operations.toml``. Knows no
checkpoint and no repair.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from bessemer.twin.catalogue import number, table
from bessemer.twin.interval import Interval
from bessemer.twin.site import Operations

WIDTH = 1.2816
"""Standard deviations from the middle to the bounds of 80 %."""


@cache
def constants() -> Mapping[str, Any]:
    """Return what ``catalogue/fitted_operations.toml`` says, with how each number was come by."""
    return tomllib.loads((files("bessemer.twin") / "catalogue" / "fitted_operations.toml").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Hazard:
    """One way to fail.

    Attributes:
        component: what breaks, such as ``network switch or cable``.
        part: where it belongs: accelerator, network, host, software, maintenance or unknown.
        share_ratio: of all failures of a server.
        replaces: whether the server goes to repair; otherwise the job only starts again.
        unit_mttf_hours: mean time to this failure of one accelerator, link or server, as measured.
        source: where the count is from.
    """

    component: str
    part: str
    share_ratio: float
    replaces: bool
    unit_mttf_hours: float
    source: str


@cache
def hazards() -> tuple[Hazard, ...]:
    """Return the ways to fail, the most usual first; their shares sum to 1."""
    rows = table("hazards")
    total = sum(float(row["failures"]) for row in rows)
    found = [
        Hazard(
            component=row["component"],
            part=row["part"],
            share_ratio=float(row["failures"]) / total,
            replaces=row["repair"] == "replace",
            unit_mttf_hours=float(row["units"]) * float(row["days"]) * 24 / float(row["failures"]),
            source=row["source"],
        )
        for row in rows
    ]
    return tuple(sorted(found, key=lambda hazard: -hazard.share_ratio))


def server_failures_per_day(accelerators: int, links: int) -> float:
    """Return the hazard of a server from its parts, for one that is not built like those that were counted.

    Source: the counts of ``catalogue/hazards.csv``, per accelerator, link and server.

    >>> round(server_failures_per_day(8, 8), 5), round(server_failures_per_day(4, 4), 5)
    (0.00379, 0.00239)
    """
    units = {"accelerator": accelerators, "link": links, "node": 1}
    rows = table("hazards")
    return sum(units[row["per"]] * float(row["failures"]) / float(row["units"]) / float(row["days"]) for row in rows)


def replace_ratio() -> float:
    """Return the share of failures after which a server must be repaired."""
    return sum(hazard.share_ratio for hazard in hazards() if hazard.replaces)


def node_failures_per_day(leaving: str = "") -> Interval:
    """Return what to expect of one server of a system that nobody has measured.

    Source: geometric mean and spread of the systems in ``catalogue/failure_rates.csv``, each counting once.

    Args:
        leaving: a system that is not to be counted, for validation.
    """
    logs = [math.log(rate) for name, rate in measured_rates().items() if name != leaving]
    middle = sum(logs) / len(logs)
    sigma = math.sqrt(sum((each - middle) ** 2 for each in logs) / (len(logs) - 1))
    reach = WIDTH * sigma * math.sqrt(1 + 1 / len(logs))
    return Interval(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))


@cache
def measured_rates() -> Mapping[str, float]:
    """Return failures per server and day of each system of the catalogue."""
    rates = {}
    for row in table("failure_rates"):
        rate = number(row, "node_failures_per_day")
        rates[row["system"]] = rate or float(row["failures"]) / float(row["servers"]) / float(row["days"])
    return rates


def small_job_ratio(nodes: float, ratio: float) -> float:
    """Return how many failures a job meets beyond those of its servers, per failure of these.

    Source: fitted; see ``[small_jobs]`` in ``catalogue/fitted_operations.toml``. It fades where large runs are tended.

    >>> round(small_job_ratio(1, 2.225), 2), round(small_job_ratio(2048, 2.225), 2)
    (2.22, 0.01)
    """
    fitted = constants()["small_jobs"]
    size = max(nodes, 1.0)
    grown: float = ratio * size ** fitted["exponent"]
    fades: float = 1 + (size / fitted["fade"]["servers"]) ** 4
    return grown / fades


def job_failures_per_day(operations: Operations, nodes: float) -> float:
    """Return how often a job on so many servers fails, in failures a day.

    The hazard of its servers, what a small job meets beyond that, and what strikes each job whatever its size.
    """
    extra = small_job_ratio(nodes, operations.small_job_ratio)
    return nodes * operations.node_failures_per_day * (1 + extra) + operations.job_failures_per_day


def mttf_hours(operations: Operations, nodes: float) -> float:
    """Return the mean time to failure of a job, in hours; infinite where nothing fails.

    >>> round(mttf_hours(Operations(), 2048), 2)
    1.78
    """
    rate = job_failures_per_day(operations, nodes)
    return 24 / rate if rate > 0 else math.inf


def planned_per_day(operations: Operations, nodes: float) -> float:
    """Return how often planned work interrupts a job, a day; none where no server is ever out for planned work."""
    rate: float = constants()["planned"]["node_interruptions_per_day"]
    return nodes * rate if operations.maintenance_ratio > 0 else 0.0
