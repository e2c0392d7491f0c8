"""How fast is the search for a layout? A 405B model on 16,384 accelerators, and what one configuration costs.

    python benchmarks/bench_planner.py [--json | --markdown]

The peer to beat, Calculon, takes 22 ms for one configuration by an earlier trial of ours; it is not run here.
Results are appended to ``results/planner.jsonl``. `--markdown` only shows the newest results that were kept, of this
benchmark and of the three others of the planner's speed, as the README's table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bessemer.twin import layout, training
from bessemer.twin.accelerators import accelerator
from bessemer.twin.shape import shape
from bessemer.twin.training_rows import usual_links
from bessemer.twin.workload import Training

HERE = Path(__file__).parent
ROUNDS = 5
USUAL = 400
"""Jobs a day of the simulation that is shown."""


def best_of(rounds: int, work: object) -> float:
    """Return the seconds of the fastest of some runs."""
    assert callable(work)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def markdown() -> str:
    """Return the newest results of the planner's speed as a table in Markdown."""
    search, sweep, months, peers = (
        json.loads((HERE / "results" / f"{name}.jsonl").read_text("utf-8").splitlines()[-1])
        for name in ("planner", "sweep", "simulation", "planner_peers")
    )
    usual = next(line for line in months["lines"] if line["jobs_per_day"] == USUAL)
    events = months["lines"][-1]["events"] / months["lines"][0]["events"]
    times = peers["serving"]["times_faster"]
    rows = [
        ("all layouts of 405B on 16,384 accelerators or fewer", "2 s", f"{search['search_of_counts_seconds']:.2f} s"),
        ("decode configurations a second", "1 million", f"{sweep['configurations_per_second'] / 1e6:.1f} million"),
        (
            f"{months['days']} days of {months['accelerators']:,} accelerators, {usual['events']:,} events",
            "5 s, 1 GB",
            f"{usual['simulate_seconds']:.1f} s, {usual['peak_bytes'] / 1e6:.0f} MB",
        ),
        (
            f"time of an event among {events:.1f} times as many",
            "1.0 times",
            f"{months['time_per_event_ratio']:.1f} times",
        ),
        (
            f"one among many, beside aiconfigurator {peers['serving']['peer_version']}",
            "1,000 times faster",
            f"{times['function against one among many'] / 1e6:.1f} million times",
        ),
        (
            "… in a session of it that is already built",
            "–",
            f"{times['built session against one among many']:,} times",
        ),
    ]
    lines = ["| speed, one core | wanted | measured |", "|---|--:|--:|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Time the search and say what it found."""
    parser = argparse.ArgumentParser(description="Time the layout search.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="only show the newest results that were kept")
    options = parser.parse_args()
    if options.markdown:
        print(markdown(), end="")
        return
    device, network = accelerator("H100-SXM-80GB"), shape("Llama-3.1-405B")
    links = usual_links(device)
    job = Training(model=network.name, sequence_tokens=8192, batch_sequences=2048)
    cuts = layout.candidates(network, job, 16384, links)
    assert cuts is not None
    count = len(np.atleast_1d(cuts.tensor))
    whole = best_of(ROUNDS, lambda: layout.search(network, job, device, 16384, links))
    counted = best_of(ROUNDS, lambda: layout.fastest(network, job, device, 16384, links))
    timed = best_of(ROUNDS, lambda: training.steps(network, job, cuts, device, links))
    best = layout.search(network, job, device, 16384, links)[0]
    found = {
        "configurations": count,
        "search_seconds": whole,
        "search_of_counts_seconds": counted,
        "seconds_per_configuration": timed / count,
        "best": best.layout.model_dump(),
        "step_seconds": best.step.seconds,
        "mfu_ratio": best.step.mfu_ratio,
    }
    result = {
        "question": "planner",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {processor()}",
        **found,
    }
    (HERE / "results").mkdir(exist_ok=True)
    with (HERE / "results" / "planner.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    if options.json:
        print(json.dumps(result))
        return
    print(f"search over {count} layouts of 405B on 16,384: {whole * 1e3:.1f} ms; {timed / count * 1e6:.2f} us each")
    print(f"over fewer accelerators too: {counted * 1e3:.1f} ms")
    print(f"best: {best.layout} {best.step.seconds:.2f} s, MFU {best.step.mfu_ratio:.2f}")


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    found = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    return found[0].partition(":")[2].strip() if found else platform.processor()


if __name__ == "__main__":
    main()
