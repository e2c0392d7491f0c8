"""What this processor is and what it would draw: the catalogue behind the power model.

Owns `processors.csv` and reading ``/proc/cpuinfo``. Knows no time: it turns seconds into energy when asked.
"""

from __future__ import annotations

import csv
import os
import platform
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import psutil

from bessemer.meter.energy import MICRO, Energy

MEMORY_WATTS_PER_GIGABYTE = (0.392, 0.10, 0.50)
"""Value, low, high. Source: Cloud Carbon Footprint, methodology, memory: 0.000392 kWh for a gigabyte-hour (average of
Crucial's 0.375 W and Micron's 0.4083 W a gigabyte); the bounds are assumed, dense modules of today being the low one.
"""


@dataclass(frozen=True, slots=True)
class Processor:
    """What the operating system says about the processor.

    Attributes:
        threads: logical processors that this system sees.
        sockets: physical packages that this system sees.
        virtual: True under a hypervisor, where the system sees part of a socket.
    """

    name: str
    vendor: str
    family: str
    model: str
    threads: int
    sockets: int
    virtual: bool


@dataclass(frozen=True, slots=True)
class Range:
    """A value with its bounds."""

    value: float
    low: float
    high: float

    def times(self, other: Range) -> Range:
        """Return the product, bound by bound."""
        return Range(self.value * other.value, self.low * other.low, self.high * other.high)

    def scaled(self, factor: float) -> Range:
        """Return the range times a number."""
        return Range(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class PowerModel:
    """A linear model of the power of a processor and its memory.

    Equation: watts = idle + (full - idle) x utilisation + memory, where full and idle are this system's share of the
    socket: (threads seen) / (threads of the socket) on a virtual machine, whole sockets otherwise.

    Source: Fan, Weber, Barroso, Power Provisioning for a Warehouse-sized Computer, ISCA 2007 (linear in utilisation,
    within 5 % for a server whose ends are known); Cloud Carbon Footprint, methodology, compute (the same line, with
    both ends from SPECpower_ssj2008, a virtual machine by its share of threads). Here the ends come from a catalogue
    and not from this machine, so the bounds are wide.

    Attributes:
        name: row of the catalogue.
        idle_watts: processor at rest.
        full_watts: processor at full load.
        memory_watts: memory, taken as constant.
        threads: logical processors that share those watts.
        source: where the row's figures come from.
    """

    name: str
    idle_watts: Range
    full_watts: Range
    memory_watts: Range
    threads: int
    source: str

    def energy(self, wall_seconds: float, cpu_seconds: float) -> Energy:
        """Return the energy of a time in which processors were busy for `cpu_seconds` in sum."""
        busy = min(cpu_seconds, wall_seconds * self.threads) / self.threads

        def micro(idle: float, full: float, memory: float) -> int:
            return round(((idle + memory) * wall_seconds + max(0.0, full - idle) * busy) * MICRO)

        idle, full, memory = self.idle_watts, self.full_watts, self.memory_watts
        return Energy(
            modelled=micro(idle.value, full.value, memory.value),
            low=micro(idle.low, full.low, memory.low),
            high=micro(idle.high, full.high, memory.high),
        )


def read_processor(proc: Path = Path("/proc")) -> Processor:
    """Return what ``cpuinfo`` says; where there is none (not Linux), what Python knows."""
    try:
        text = (proc / "cpuinfo").read_text()
    except OSError:
        name = f"Apple {platform.machine()}" if platform.system() == "Darwin" else platform.processor()
        return Processor(name, "", "", "", os.cpu_count() or 1, 1, virtual=False)
    lines = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in text.splitlines())]
    first = dict(reversed(lines))
    threads = sum(key == "processor" for key, _ in lines) or os.cpu_count() or 1
    sockets = len({value for key, value in lines if key == "physical id"}) or 1
    flags = first.get("flags", "").split()
    return Processor(
        name=first.get("model name", ""),
        vendor=first.get("vendor_id", first.get("CPU implementer", "")),
        family=first.get("cpu family", ""),
        model=first.get("model", first.get("CPU part", "")),
        threads=threads,
        sockets=sockets,
        # Arm's cpuinfo does not tell; on the clouds that its catalogue rows are from it is a virtual machine.
        virtual="hypervisor" in flags or "CPU implementer" in first,
    )


def power_model(processor: Processor, memory_bytes: int) -> PowerModel:
    """Return the model for a processor: the first row of the catalogue that fits, the last one fits all."""
    row = next(row for row in _catalogue() if _fits(row, processor))
    socket_threads = int(row["threads"] or 0) or max(1, processor.threads // processor.sockets)
    sockets = min(1.0, processor.threads / socket_threads) if processor.virtual else float(processor.sockets)
    full = _range(row, "max_watts").scaled(sockets)
    memory = Range(*MEMORY_WATTS_PER_GIGABYTE).scaled(memory_bytes / 1e9)
    return PowerModel(
        name=row["id"],
        idle_watts=full.times(_range(row, "idle_ratio")),
        full_watts=full,
        memory_watts=memory,
        threads=processor.threads,
        source=row["source"],
    )


def memory_bytes(proc: Path = Path("/proc")) -> int:
    """Return the memory that this system sees, in bytes."""
    try:
        found = re.search(r"^MemTotal:\s+(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else int(psutil.virtual_memory().total)


def _catalogue() -> list[dict[str, str]]:
    with (files("bessemer.meter") / "processors.csv").open() as file:
        return list(csv.DictReader(file))


def _fits(row: dict[str, str], processor: Processor) -> bool:
    return (
        (not row["name_regex"] or re.search(row["name_regex"], processor.name) is not None)
        and row["vendor"] in ("", processor.vendor)
        and row["family"] in ("", processor.family)
        and _model_fits(row["models"], processor.model)
    )


def _model_fits(models: str, model: str) -> bool:
    low, _, high = models.partition("-")
    if not high:
        return models in ("", model)
    return model.isdecimal() and int(low) <= int(model) <= int(high)


def _range(row: dict[str, str], column: str) -> Range:
    return Range(float(row[column]), float(row[f"{column}_low"]), float(row[f"{column}_high"]))
