"""Published watts of servers, PUE of halls and switches of networks beside what the model says of them.

Owns the choice of what is compared and in which family. Fits nothing; the three measurements that constants were fitted
on are a family of their own.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from bessemer.core.errors import BessemerError
from bessemer.twin import cooling, power, topology
from bessemer.twin.accelerators import accelerator
from bessemer.twin.catalogue import table
from bessemer.twin.evidence import Row, unreadable
from bessemer.twin.interval import Interval
from bessemer.twin.site import Cooling, Fabric, Nodes, Power, Site

WATTS = "power of a server"
FITTED_WATTS = "power of a server (fitted on these)"
LIQUID, AIR, GUESSED = "PUE, liquid", "PUE, air", "PUE, plant guessed from how it is cooled"
SWITCHES = "switches of a published network"
ASSUMED_SWITCHES = "switches that a cost sheet assumes"
LIMIT = "endpoints of a fat tree"
OTHER = "facility, other"

SERVER = 8
"""Accelerators of a server in all these systems."""

HOST_WATTS = 2200.0
"""Of a server of eight at work. Source: arXiv:2506.14551 and MLPerf Training 4.1, as in the reference sites."""

FITTED = {("H100", 7752), ("H100", 7105), ("H200", 2407)}
"""Accelerator and watts of a server that ``[board]`` and ``[host]`` of ``fitted_facility.toml`` were fitted on."""

PLANTS = (
    (r"immers", "immersion", "wet"),
    (r"rear.?door", "rear_door", "chiller"),
    (r"\bDLC\b|liquid|cold.?plate|(warm|hot).?water", "direct_liquid", "wet"),
    (r"outside|free|economi", "air", "dry"),
    (r"evap|adiabat", "air", "wet"),
    (r"air|chill|mixed|CRA[CH]", "air", "chiller"),
)
"""How a hall is said to be cooled -> the plant that is usual for it; the first that fits. All else is the usual site's.
Source: assumed, designs as ASHRAE's Datacom series sorts them."""

Line = Mapping[str, str]


def power_rows(path: Path) -> list[Row]:
    """Return every row of a table of measured watts with its prediction in watts; or why there is none."""
    return [_guarded(_power, line) for line in _lines(path)]


def pue_rows(path: Path) -> list[Row]:
    """Return every row of a table of PUE with its prediction; or why there is none."""
    return [_guarded(_pue, line) for line in _lines(path)]


def network_rows(path: Path) -> list[Row]:
    """Return every row of a table of networks with its switches or endpoints as counted; or why there are none."""
    return [_guarded(_network, line) for line in _lines(path)]


def _lines(path: Path) -> list[Line]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _guarded(answer: Callable[[Line], Row], line: Line) -> Row:
    try:
        return answer(line)
    except (ValueError, ArithmeticError) as error:
        return Row(OTHER, line["id"], float("nan"), reason=unreadable(error))
    except BessemerError as error:
        return Row(OTHER, line["id"], float("nan"), reason=error.message)


def _power(line: Line) -> Row:
    watts, words = float(line["value"]), f"{line['system']} {line['workload_or_quantity']} {line['unit']}"
    if not re.match(r"W AC", line["unit"]):
        return Row(OTHER, line["id"], watts, reason="no watts that were measured at a server's plug")
    named = re.search(r"\b(?:\d+x)?([A-Z]{1,2}\d{2,3}[A-Z]?)(?![\w-])", re.sub(r"\bX[A-Z]\d+", "", line["system"]))
    if not named:
        return Row(OTHER, line["id"], watts, reason="the accelerator is not told")
    servers = max(1.0, float(line["gpus"]) / SERVER)
    nodes = Nodes(accelerator=accelerator(named[1]).name, accelerators=SERVER, host_watts=HOST_WATTS)
    is_fitted = (named[1], round(watts / servers)) in FITTED
    family = FITTED_WATTS if is_fitted else WATTS
    if re.search(r"idle", words, re.IGNORECASE):
        found = power.node_watts(nodes, 0.0)
    elif re.search(r"max-?q", words, re.IGNORECASE):
        return Row(family, line["id"], watts, reason="boards are capped, and to what is not told")
    elif re.search(r"\bmax", words, re.IGNORECASE):
        found = power.node_peak_watts(nodes)
    else:
        found = power.node_watts(nodes, 1.0)
    return Row(family, line["id"], watts, found.scaled(servers))


def _pue(line: Line) -> Row:
    measured = float(line["pue"])
    known = next((row for row in table("pue_facts") if line["site"].casefold() == row["name"].casefold()), None)
    if known is None:
        return _guessed(line, measured)
    given = {name: known[name] for name in ("kind", "rejection", "climate", "liquid_ratio", "supply_celsius")}
    chain = {name: known[name] for name in known if name.endswith("_efficiency")}
    site = Site(name=known["name"], cooling=Cooling.model_validate(given), power=Power.model_validate(chain))
    return Row(LIQUID if known["kind"] == "direct_liquid" else AIR, line["id"], measured, cooling.pue(site))


def _guessed(line: Line, measured: float) -> Row:
    """Answer for a hall of no known design: the usual site with the plant that its cooling names."""
    words = line.get("cooling", "")
    plant = next((plant for plant in PLANTS if re.search(plant[0], words, re.IGNORECASE)), None)
    if plant is None:
        return Row(GUESSED, line["id"], measured, reason="how that hall is cooled is not told")
    told = re.search(r"(\d+(?:\.\d+)?) ?°?C\b", words)
    given = {"kind": plant[1], "rejection": plant[2]} | ({"supply_celsius": told[1]} if told else {})
    site = Site(name=line["site"] or "a hall", cooling=Cooling.model_validate(given))
    return Row(GUESSED, line["id"], measured, cooling.pue(site))


def _network(line: Line) -> Row:
    radix, planes = int(line["switch_radix"] or 0), int((re.match(r"(\d+)x", line["link"]) or ["", "1"])[1])
    limit = re.search(r"(\d)-tier max", line["name"])
    if limit and radix:
        ends = topology.tree_limit(radix, int(limit[1]))
        return Row(LIMIT, line["id"], float(line["gpus"]), Interval.exactly(float(ends)))
    counted = next((name for name in ("switches_total", "leaf") if line[name].strip()), "")
    if not (radix and counted):
        return Row(OTHER, line["id"], float("nan"), reason="no count of switches is told, or not their ports")
    nodes = Nodes(
        accelerator="H100-SXM-80GB",
        count=int(line["gpus"]) // SERVER,
        accelerators=SERVER,
        nics=SERVER,
        nic_bits_per_second=400e9,
    )
    fabric = Fabric(kind="multi_plane" if planes > 1 else "rail", radix=radix, planes=planes)
    bill = topology.bill(Site(name=line["name"], nodes=(nodes,), fabric=fabric))
    switches = bill.switches if counted == "switches_total" else bill.leaf
    family = ASSUMED_SWITCHES if "assumption" in line["notes"] else SWITCHES
    return Row(family, line["id"], float(line[counted]), Interval.exactly(float(switches)))
