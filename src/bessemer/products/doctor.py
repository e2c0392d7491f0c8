"""Says what is here: packages, devices, sensors, engines, space, and what to do about what is missing.

Owns the findings. Changes nothing and loads no model.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal

import psutil

from bessemer.core.errors import BessemerError
from bessemer.core.nouns import Noun
from bessemer.core.units import show_bytes
from bessemer.infer import engine_names
from bessemer.meter import detect_sensors
from bessemer.products.home import Home
from bessemer.products.machine import here
from bessemer.twin.accelerators import Measured

_NEEDED_BYTES = 4_000_000_000
_PACKAGES = {
    "pylance": ("lake", "versioned tables"),
    "torch": ("train", "training"),
    "transformers": ("train", "training"),
    "peft": ("train", "adapters"),
    "openvino-genai": ("infer", "the embedded engine"),
    "starlette": ("serve", "the gateway"),
    "httptools": ("serve", "the gateway"),
    "msgspec": ("serve", "the gateway"),
    "uvloop": ("serve", "a faster event loop for the gateway (optional)"),
    "prometheus-client": ("serve", "the gateway's metrics"),
    "pyarrow": ("lake", "tables in memory"),
    "gguf": ("train", "importing and compiling models"),
    "openvino-tokenizers": ("infer", "compiled tokenizers"),
    "httpx2": ("infer", "engines behind a server"),
    "numpy": ("twin", "planning"),
    "opentelemetry-sdk": ("otel", "spans of requests (optional)"),
    "psycopg": ("postgres", "runs kept in Postgres (optional)"),
}


ENGINE_NEEDS = {
    "openvino": (("openvino_genai", "openvino_tokenizers"), "infer"),
    "upstream": (("httpx2",), "infer"),
}
"""Engine -> modules that it loads, and the extra that brings them."""


class Finding(Noun):
    """One thing that was looked at; `advice` says what to do when its state is not ``ok``."""

    area: Literal["machine", "package", "model", "device", "sensor", "engine", "space"]
    name: str
    state: Literal["ok", "missing", "warning"]
    detail: str
    advice: str = ""


def examine(home: Home) -> list[Finding]:
    """Return all findings, in the order in which a person reads them."""
    return [
        *_machine(),
        *_measured(home),
        *_space(home),
        *_packages(),
        *_models(),
        *_devices(),
        *_sensors(),
        *_engines(),
    ]


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    yield Finding(
        area="machine",
        name="Python",
        state="ok",
        detail=f"{platform.python_version()} on {platform.system()} {platform.machine()} ({sys.executable})",
    )
    low = memory.available < 3_000_000_000
    yield Finding(
        area="machine",
        name="processor and memory",
        state="warning" if low else "ok",
        detail=f"{cores} cores, {show_bytes(memory.available)} of {show_bytes(memory.total)} free",
        advice="The default run needs about 3 GB of free memory." if low else "",
    )


def _measured(home: Home) -> Iterator[Finding]:
    """Yield the rates that were measured; the planner takes them for this machine."""
    try:
        site = here(home)
    except BessemerError as error:
        yield Finding(area="machine", name="measured", state="missing", detail=error.message, advice=error.hint)
        return
    found = site.nodes[0].measured or Measured()
    rates = (
        f"fp32 {found.fp32_flop_per_second / 1e9:,.3g} GFLOP/s",
        f"bf16 {found.bf16_flop_per_second / 1e9:,.3g} GFLOP/s" if found.bf16_flop_per_second else "bf16 not measured",
        f"memory {found.memory_bytes_per_second / 1e9:,.3g} GB/s",
        f"disk {site.storage.write_bytes_per_second / 1e9:,.3g} GB/s written",
    )
    told = f"{', '.join(rates)} ({found.device}, {found.day})"
    yield Finding(area="machine", name="measured", state="ok", detail=told)


def _space(home: Home) -> Iterator[Finding]:
    there = next(path for path in (home.path, *home.path.parents) if path.exists())
    free = shutil.disk_usage(there).free
    made = "" if there == home.path else ", not made yet"
    low = free < _NEEDED_BYTES
    yield Finding(
        area="space",
        name="state folder",
        state="warning" if low else "ok",
        detail=f"{home.path}{made}, {show_bytes(free)} free",
        advice="The default run needs about 4 GB: try `bessemer prune`, or a BESSEMER_HOME on a larger disk."
        if low
        else "",
    )


def _packages() -> Iterator[Finding]:
    for name, (extra, use) in _PACKAGES.items():
        try:
            version = importlib.metadata.version(name)
            yield Finding(area="package", name=name, state="ok", detail=f"{version}, {use}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding(
                area="package",
                name=name,
                state="missing",
                detail=use,
                advice=f"pip install 'bessemer[{extra}]'",
            )


def _models() -> Iterator[Finding]:
    from bessemer.models.base import PACKAGED, resolve_base

    for name in PACKAGED:
        try:
            found = resolve_base(name)
            yield Finding(area="model", name=name, state="ok", detail=f"{found.source} ({found.licence})")
        except BessemerError as error:
            yield Finding(area="model", name=name, state="missing", detail=error.message, advice=error.hint)


def _devices() -> Iterator[Finding]:
    from bessemer.models.devices import devices

    for device in devices():
        yield Finding(area="device", name=device.name, state="ok", detail=device.detail)


def _sensors() -> Iterator[Finding]:
    for sensor in detect_sensors():
        yield Finding(
            area="sensor",
            name=sensor.name,
            state="ok" if sensor.available else "missing",
            detail=sensor.detail + (f" ({sensor.reason})" if sensor.reason else ""),
            advice=sensor.hint,
        )


def _engines() -> Iterator[Finding]:
    for name in engine_names():
        needs, extra = ENGINE_NEEDS.get(name, ((), ""))
        missing = [package for package in needs if find_spec(package) is None]
        yield Finding(
            area="engine",
            name=name,
            state="missing" if missing else "ok",
            detail=f"needs {', '.join(missing)}" if missing else "ready",
            advice=f"pip install 'bessemer[{extra}]'" if missing else "",
        )
