"""Devices that a model can be trained on, as far as this machine shows them without loading a framework.

Owns the look. Loads no model; asks NVIDIA's driver through its command, and the processor through `/proc`.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Device:
    """A device and, in a few words, what it is."""

    name: str
    detail: str


def devices() -> list[Device]:
    """Return the processor, then each NVIDIA GPU that its driver reports."""
    return [_processor(), *_gpus()]


def _processor() -> Device:
    facts: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", "").split())
    fast = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    model = facts.get("model name") or platform.processor() or platform.machine()
    return Device("cpu", f"{model}{' with ' + ', '.join(fast) if fast else ''}")


def _gpus() -> list[Device]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    asked = [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [Device(f"cuda:{index}", line.strip()) for index, line in enumerate(said.splitlines()) if line.strip()]
