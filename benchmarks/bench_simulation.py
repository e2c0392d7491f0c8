"""How long do 90 days of 131,072 accelerators take to simulate, and does the cost grow with the events and no faster?

    uv run python benchmarks/bench_simulation.py

Plays jobs, failures, repairs, a service, hourly power and money on one core, with more and more jobs a day. Claimed is
the ratio of the seconds per event between the most and the fewest jobs (1: linear), beside the seconds of the usual
month. A plain heap that does nothing but push and pop as many events is timed in the same run: no simulator that keeps
its events in one can be faster. One line is appended to `results/simulation.jsonl`.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import random
import resource
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bessemer.twin.simulate import simulate
from bessemer.twin.site import Nodes, Site, Storage
from bessemer.twin.traffic import usual, usual_service

HERE = Path(__file__).parent
ACCELERATORS, DAYS, USUAL = 131_072, 90, 400


def site() -> Site:
    nodes = Nodes(accelerator="H100-SXM-80GB", count=ACCELERATORS // 8, accelerators=8)
    storage = Storage(tier="parallel", write_bytes_per_second=2e12, read_bytes_per_second=2e12)
    return Site(name="benchmark", nodes=(nodes,), storage=storage)


def bare_heap(events: int) -> float:
    """Return the seconds that a heap of events alone takes."""
    draws = random.Random(1)
    heap = [(draws.random(), number, 0, 0) for number in range(1000)]
    heapq.heapify(heap)
    began = time.process_time()
    for number in range(events):
        when, *_ = heapq.heappop(heap)
        heapq.heappush(heap, (when + draws.random(), number, 0, 0))
    return time.process_time() - began


def measure(jobs_per_day: float, seed: int) -> dict[str, float]:
    place = site()
    began = time.process_time()
    work = [*usual(place, DAYS, seed, per_day=jobs_per_day), usual_service(place)]
    drawn = time.process_time()
    result = simulate(place, work, DAYS, seed)
    seconds = time.process_time() - drawn
    again = simulate(place, work, DAYS, seed) if jobs_per_day == USUAL else result
    return {
        "jobs_per_day": jobs_per_day,
        "jobs": len(work) - 1,
        "events": result.events,
        "interruptions": result.totals.interruptions,
        "draw_seconds": round(drawn - began, 3),
        "simulate_seconds": round(seconds, 3),
        "microseconds_per_event": round(1e6 * seconds / result.events, 2),
        "bare_heap_seconds": round(bare_heap(result.events), 3),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "is_deterministic": again.totals == result.totals,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    lines = []
    for jobs_per_day in (USUAL / 4, USUAL / 2, USUAL, 2 * USUAL, 4 * USUAL):
        lines.append(measure(jobs_per_day, options.seed))
        print(json.dumps(lines[-1]))
    growth = lines[-1]["microseconds_per_event"] / lines[0]["microseconds_per_event"]
    print(f"{lines[-1]['events'] / lines[0]['events']:.1f} times the events, {growth:.2f} times the time of each")
    result = {
        "question": "simulation",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "versions": {"python": platform.python_version(), "numpy": version("numpy")},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {processor()}",
        "accelerators": ACCELERATORS,
        "days": DAYS,
        "time_per_event_ratio": round(growth, 3),
        "lines": lines,
    }
    (HERE / "results").mkdir(exist_ok=True)
    with (HERE / "results" / "simulation.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    found = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    return found[0].partition(":")[2].strip() if found else platform.processor()


if __name__ == "__main__":
    main()
