"""Measures what a device sustains: matrix products, its memory, and writing to a disk.

Owns the method: a rate is the median of the same work done again and again for a few seconds. Knows no model.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bessemer.core.events import Progress, Sink, StepFinished, StepStarted

CPU_WIDTH, GPU_WIDTH = 1024, 8192
"""Rows and columns of the matrices: large enough to reach the sustained rate of the one and of the other."""

COPY_BYTES, GPU_COPY_BYTES = 256_000_000, 2_000_000_000
"""Larger than any cache, so that the copy goes through the memory."""

FILE_BYTES, PIECE_BYTES = 256_000_000, 8_000_000


@dataclass(frozen=True, slots=True)
class Work:
    """Something that is done again and again; `amount` is what one time does, such as floating-point operations."""

    name: str
    unit: str
    amount: float
    once: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Board:
    """An accelerator's name, how many there are, memory in bytes and the driver's power limit in watts (0: untold)."""

    name: str
    count: int
    memory_bytes: float
    power_watts: float


def find_work() -> tuple[Board | None, tuple[Work, ...]]:
    """Return what to measure: on the NVIDIA GPU that torch can use (told first), else on the processor.

    Without torch, numpy computes, which has no bf16.
    """
    if find_spec("torch") is None:
        return None, _numpy_works()
    import torch

    if torch.cuda.is_available():
        return _board(torch), _torch_works(torch, "cuda")
    return None, _torch_works(torch, "cpu")


def disk_work(path: Path) -> Work:
    """Return the writing of a file of random bytes, which no disk can shrink, until it is on the disk."""

    def write() -> None:
        piece = os.urandom(PIECE_BYTES)
        with path.open("wb", buffering=0) as file:
            for _ in range(FILE_BYTES // PIECE_BYTES):
                file.write(piece)
            os.fsync(file.fileno())

    return Work("disk", "B/s", FILE_BYTES, write)


def measure_rate(work: Work, seconds: float, sink: Sink) -> float:
    """Return how much of its unit a second the work reaches: the median over the time, after one time unmeasured."""
    sink(StepStarted(time.time(), "", work.name, 1))
    work.once()
    began, spent, rates = time.perf_counter(), 0.0, list[float]()
    while not rates or spent < seconds:
        start = time.perf_counter()
        work.once()
        rates.append(work.amount / (time.perf_counter() - start))
        spent = time.perf_counter() - began
        note = f"{statistics.median(rates) / 1e9:,.3g} G{work.unit}"
        sink(Progress(time.time(), "", work.name, min(spent, seconds), seconds, "s", note))
    sink(StepFinished(time.time(), "", work.name, "", cached=False, wall_seconds=spent, cpu_seconds=0.0))
    return statistics.median(rates)


def _board(torch: Any) -> Board:
    found = torch.cuda.get_device_properties(0)
    asked = ["nvidia-smi", "--id=0", "--query-gpu=power.limit", "--format=csv,noheader,nounits"]
    try:
        watts = float(subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        watts = 0.0
    return Board(found.name, torch.cuda.device_count(), found.total_memory, watts)


def _torch_works(torch: Any, where: str) -> tuple[Work, ...]:
    on_gpu = where == "cuda"
    wait: Callable[[], object] = torch.cuda.synchronize if on_gpu else lambda: None
    width = GPU_WIDTH if on_gpu else CPU_WIDTH

    def product(name: str) -> Work:
        one, two, out = (torch.ones(width, width, dtype=getattr(torch, name), device=where) for _ in range(3))
        return Work(f"matmul {name}", "FLOP/s", 2.0 * width**3, lambda: (torch.matmul(one, two, out=out), wait()))

    count = GPU_COPY_BYTES if on_gpu else _copy_bytes()
    source, target = (torch.ones(count, dtype=torch.uint8, device=where) for _ in range(2))
    copy = Work("memory", "B/s", 2.0 * count, lambda: (target.copy_(source), wait()))
    return product("float32"), product("bfloat16"), copy


def _numpy_works() -> tuple[Work, ...]:
    import numpy as np

    one, two, out = (np.ones((CPU_WIDTH, CPU_WIDTH), np.float32) for _ in range(3))
    source, target = (np.ones(_copy_bytes(), np.uint8) for _ in range(2))
    product = Work("matmul float32", "FLOP/s", 2.0 * CPU_WIDTH**3, lambda: np.matmul(one, two, out=out))
    return product, Work("memory", "B/s", 2.0 * source.size, lambda: np.copyto(target, source))


def _copy_bytes() -> int:
    return min(COPY_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8)
