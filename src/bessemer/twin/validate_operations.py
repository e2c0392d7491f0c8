"""Published failures and effective training times beside what the model says of them.

Owns the choice of what is compared and in which family. Fits nothing; a system is left out of the catalogue's rates
before its own failures are predicted, and what the constants were fitted on is a family of its own.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bessemer.twin import hazards, operations
from bessemer.twin.catalogue import number, table
from bessemer.twin.evidence import Row, unreadable
from bessemer.twin.interval import Interval
from bessemer.twin.site import Nodes, Operations, Site, Storage

KNOWN = "mean time to failure, rate of the servers known"
FITTED = "mean time to failure, small jobs (fitted on these)"
RATE = "failures of a server, system left out"
COUNT = "interruptions, system left out"
EFFECTIVE = "effective training time"
OTHER = "operations, other"

SERVER = 8
"""Accelerators of a server in all these systems."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row: what was measured and where, how often that system's servers fail if it says so, and hours in a unit."""

    id: str
    system: str
    quantity: str
    value: float
    accelerators: int
    days: float
    rate: float | None
    hours: float

    @property
    def nodes(self) -> float:
        """Servers."""
        return self.accelerators / SERVER


def rows(path: Path) -> list[Row]:
    """Return every row of a table with its prediction, in the unit of the row; or the reason why there is none."""
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    rates = {row["system"]: _number(row["value"]) for row in found if "failure rate" in row["quantity"]}
    return [_answer(_case(row, rates)) for row in found]


def _case(row: Mapping[str, str], rates: Mapping[str, float]) -> Case:
    system, quantity = row["system"], row["quantity"]
    days, hours = _number(row["days"]), 24.0 if row["unit"].startswith("day") else 1.0
    accelerators = int(_number(row["gpus"])) if "node" not in row["gpus"] else 0
    return Case(row["id"], system, quantity, _number(row["value"]), accelerators, days, rates.get(system), hours)


def _number(text: str) -> float:
    found = re.search(r"[-+]?\d[\d.]*(e[-+]?\d+)?", text.replace(",", ""), re.IGNORECASE)
    return float(found[0]) if found else 0.0


def _answer(case: Case) -> Row:
    if case.value <= 0:
        return Row(OTHER, case.id, case.value, reason="no number above zero was measured")
    for pattern, family, predict in RULES:
        if re.search(pattern, case.quantity, re.IGNORECASE):
            try:
                found = predict(case)
            except (ValueError, ArithmeticError) as error:
                found = unreadable(error)
            if isinstance(found, str):
                return Row(family, case.id, case.value, reason=found)
            small = family == KNOWN and case.accelerators < 4096 and case.system == "Meta RSC-1"
            return Row(FITTED if small else family, case.id, case.value, found)
    return Row(OTHER, case.id, case.value, reason="nothing of the kind is predicted from a site")


def _mttf(case: Case) -> Interval | str:
    if not case.rate:
        return "no rate of its servers is known"
    known = Operations(node_failures_per_day=case.rate)
    return _about(hazards.mttf_hours(known, case.nodes) / case.hours, 0.1)


def _system_mttf(case: Case) -> Interval | str:
    if not case.accelerators:
        return "the number of servers is not known"
    rate, once = _left_out(case), 24 / case.hours / case.nodes
    return Interval(once / rate.mid, once / rate.high, once / rate.low)


def _rate(case: Case) -> Interval | str:
    return _left_out(case)


def _weekly(case: Case) -> Interval | str:
    return _left_out(case).scaled(7)


def _count(case: Case) -> Interval | str:
    if not case.accelerators or not case.days:
        return "servers or days are not known"
    return _left_out(case).scaled(case.nodes * case.days)


def _count_with_planned(case: Case) -> Interval | str:
    found = _count(case)
    if isinstance(found, str):
        return found
    planned = hazards.planned_per_day(Operations(), case.nodes) * case.days
    return Interval(found.mid + planned, found.low + planned, found.high + planned)


def _count_of_job(case: Case) -> Interval | str:
    found = _count(case)
    if isinstance(found, str):
        return found
    return found.scaled(1 + hazards.small_job_ratio(case.nodes, Operations().small_job_ratio))


def _effective(case: Case) -> Interval | str:
    """Return what the planner makes of a site with spares, with the system's own checkpoints where they are known."""
    if not case.accelerators:
        return "the number of servers is not known"
    rate = case.rate or _left_out(case).mid
    habits = next((row for row in table("failure_rates") if case.system.startswith(row["system"])), {})
    interval, stall = number(habits, "checkpoint_interval_seconds"), number(habits, "checkpoint_stall_seconds")
    habit = None if interval is None or stall is None else operations.Checkpoints(interval, stall, 0.0, 0.0)
    nodes = Nodes(accelerator="H100-SXM-80GB", count=case.accelerators // SERVER, accelerators=SERVER)
    fast = Storage(tier="parallel", read_bytes_per_second=1e12, write_bytes_per_second=1e12)
    usual = Operations(node_failures_per_day=rate, spare_ratio=0.5)
    site = Site(name="published", nodes=(nodes,), storage=fast, operations=usual)
    found = operations.goodput(site, case.accelerators, case.accelerators * 3.5e8, 5.0, habit)
    return found.effective_ratio


def _components(_: Case) -> Interval | str:
    return "the shares of the components were counted in this very table"


def _left_out(case: Case) -> Interval:
    names = [name for name in hazards.measured_rates() if case.system.startswith(name)]
    return hazards.node_failures_per_day(leaving=names[0] if names else "")


def _about(middle: float, share: float) -> Interval:
    return Interval(middle, middle / (1 + share), middle * (1 + share))


Predict = Callable[[Case], Interval | str]

RULES: Sequence[tuple[str, str, Predict]] = (
    (r"^interruptions:", COUNT, _components),
    (r"MTT[IF] of [\d,]+-GPU jobs", KNOWN, _mttf),
    (r"MTT[IF]|MTBF|mean time (to|between)", COUNT, _system_mttf),
    (r"failure rate", RATE, _rate),
    (r"machines breaking per week", RATE, _weekly),
    (r"total interruptions", COUNT, _count_with_planned),
    (r"unexpected interruptions|failures observed|restarts from hardware", COUNT, _count),
    (r"^restarts", COUNT, _count_of_job),
    (r"effective training time|\bETTR\b", EFFECTIVE, _effective),
)
"""What a quantity is called -> its family and how it is predicted; the first that fits."""
