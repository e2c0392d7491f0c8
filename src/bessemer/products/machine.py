"""This machine as a site, `here`, that work can be planned for: measured once, kept in the home.

Owns the site's declaration. Its rates are measured; its watts are the meter's model of the processor or the driver's
limit of the board, and the site says which is which.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bessemer.core.errors import BessemerError, NotFound
from bessemer.core.events import Sink, ignore
from bessemer.infer.rates import FILE_BYTES, Board, disk_work, find_work, measure_rate
from bessemer.meter.processor import memory_bytes, power_model, read_processor
from bessemer.products.home import Home, write_whole
from bessemer.twin.accelerators import Measured
from bessemer.twin.site import Cooling, Nodes, Power, Site, Storage, load_site, parse_site

HERE = "here"
"""The name of the site that is this machine."""

SUPPLY_EFFICIENCY = 0.9


def measure(home: Home, sink: Sink = ignore, seconds: float = 3.0) -> Site:
    """Measure this machine, keep it in the home and return it as a site.

    Args:
        home: where the result is kept; its disk is the one that is measured.
        sink: told of the progress.
        seconds: for each of four rates.

    Raises:
        BessemerError: the disk has no room for the test file.
    """
    if shutil.disk_usage(home.path).free < 4 * FILE_BYTES:
        raise BessemerError(f"{home.path} has less than 1 GB free", hint="Free some space, or set BESSEMER_HOME.")
    (board, works), path = find_work(), home.path / ".disk-test"
    try:
        rates = {work.name: measure_rate(work, seconds, sink) for work in (*works, disk_work(path))}
    except OSError as error:
        raise BessemerError(f"{path} cannot be written: {error.strerror}", hint="Free some space.") from error
    finally:
        path.unlink(missing_ok=True)
    site = _site(home, board, rates, datetime.now(UTC).date().isoformat())
    write_whole(home.machine, _toml(site))
    return site


def here(home: Home) -> Site:
    """Return this machine as it was measured.

    Raises:
        NotFound: it was not, or another machine was.
        ConfigError: the file was changed and is no site now.
    """
    advice = "Measure it, about 15 s: bessemer doctor --measure. Or name another with --site."
    if not home.machine.is_file():
        raise NotFound("this machine has not been measured yet", hint=advice)
    site = parse_site(home.machine.read_text("utf-8"), str(home.machine))
    known = read_processor().name
    if site.sources.get("processor", known) != known:
        told = f"{home.machine} describes another machine ({site.sources['processor']}; this one is {known})"
        raise NotFound(told, hint=advice)
    return site


def find_site(home: Home, name: str) -> Site:
    """Return a site by name or path; `here` is this machine. See `bessemer.twin.site.load_site`."""
    return here(home) if name == HERE else load_site(name)


def _site(home: Home, board: Board | None, rates: Mapping[str, float], day: str) -> Site:
    known = read_processor()
    model = power_model(known, memory_bytes())
    nodes, modelled = _nodes(board, rates, day), f"modelled: {model.name}, {model.source}"
    what = nodes.measured.device if nodes.measured else ""
    return Site(
        name=HERE,
        description=f"This machine, measured on {day}: {nodes.accelerators} x {what}, {nodes.cores} cores.",
        nodes=(nodes,),
        storage=Storage(capacity_bytes=shutil.disk_usage(home.path).total, write_bytes_per_second=rates["disk"]),
        power=Power(
            ups_efficiency=1.0,
            transformer_efficiency=1.0,
            distribution_efficiency=1.0,
            supply_efficiency=SUPPLY_EFFICIENCY,
        ),
        cooling=Cooling(kind="none"),
        sources={
            "processor": known.name,
            "nodes.measured": f"measured on {day}: medians over a few seconds each",
            "nodes.measured.power_watts": "the driver's power limit" if board else modelled,
            "nodes.host_watts": modelled,
            "storage.write_bytes_per_second": f"measured on {day}: files of 256 MB, each until it was on the disk",
            "storage.read_bytes_per_second": "assumed",
            "power": "assumed: behind its own supply, a usual grid",
        },
    )


def _nodes(board: Board | None, rates: Mapping[str, float], day: str) -> Nodes:
    """Return this machine as one server; without a GPU its processor is the accelerator."""
    known, memory = read_processor(), memory_bytes()
    model = power_model(known, memory)
    full, rest = model.full_watts.value, model.memory_watts.value
    measured = Measured(
        day=day,
        device=board.name if board else known.name,
        fp32_flop_per_second=rates["matmul float32"],
        bf16_flop_per_second=rates.get("matmul bfloat16", 0.0),
        memory_bytes=board.memory_bytes if board else memory,
        memory_bytes_per_second=rates["memory"],
        power_watts=board.power_watts if board else full,
        idle_watts=0.0 if board else model.idle_watts.value,
    )
    return Nodes(
        accelerator=board.name if board else "cpu",
        accelerators=board.count if board else 1,
        host_watts=full + rest if board else rest,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        measured=measured,
    )


def _toml(site: Site) -> str:
    """Return a site as TOML: plain values first, then its tables; JSON's strings and numbers are TOML's too."""
    declared = site.model_dump(mode="json", exclude_defaults=True)
    nodes = dict(declared.pop("nodes")[0])
    tables = {"[nodes]": nodes, "nodes.measured": nodes.pop("measured")}
    tables |= {name: declared.pop(name) for name in list(declared) if isinstance(declared[name], dict)}

    def lines(values: dict[str, Any]) -> str:
        return "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in values.items())

    return lines(declared) + "".join(f"\n[{name}]\n{lines(values)}" for name, values in tables.items())
