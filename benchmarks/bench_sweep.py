"""How many decode configurations a second does the vectorised sweep time, on one core?

Run: python benchmarks/bench_sweep.py [--rows N]   (appends to ``results/sweep.jsonl``)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bessemer.twin import decode
from bessemer.twin.accelerators import accelerator
from bessemer.twin.decode import Points
from bessemer.twin.replica import Replica, points
from bessemer.twin.shape import shape

HERE = Path(__file__).parent
BLOCK = 16_384
"""Configurations timed together, so that their arrays stay in the processor's cache."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    asked = parser.parse_args()
    k, rng = decode.fitted().constants, np.random.default_rng(0)
    one = points([Replica(shape("DeepSeek-V3"), accelerator("B200"), "fp4", accelerators=8)])
    wide = {field.name: np.repeat(getattr(one, field.name), BLOCK) for field in fields(Points)}
    block = Points(**wide)
    loads = rng.integers(1, 4096, asked.rows).astype(float)
    lengths = rng.integers(128, 32768, asked.rows).astype(float)
    sizes = rng.choice([8.0, 16.0, 32.0, 64.0], asked.rows)
    start, total = time.perf_counter(), 0.0
    for at in range(0, asked.rows - BLOCK + 1, BLOCK):
        part = slice(at, at + BLOCK)
        varied = replace(block, sequences=loads[part], input_tokens=lengths[part], accelerators=sizes[part])
        total += float(decode.decode_seconds(varied, k, varied.sequences).sum())
    seconds = time.perf_counter() - start
    done = asked.rows // BLOCK * BLOCK
    result = {
        "question": "sweep",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {processor()}",
        "configurations_per_second": round(done / seconds),
        "rows": done,
        "seconds": round(seconds, 3),
    }
    (HERE / "results").mkdir(exist_ok=True)
    with (HERE / "results" / "sweep.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(json.dumps(result))


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    found = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    return found[0].partition(":")[2].strip() if found else platform.processor()


if __name__ == "__main__":
    main()
