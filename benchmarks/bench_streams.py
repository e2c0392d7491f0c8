"""What does it cost to keep of streams what a kill would lose, in nanoseconds of one core?

    uv run python benchmarks/bench_streams.py [--dry]

Each row is a loop of what the gateway does, less an empty loop: the middle of nine, and the least and the most. A whole
answer pays only for being asked whether it is a stream, which is repeated here as `BatchBooks.book` does it of one that
is booked alone. Beside it what an id costs. One line is appended to `results/streams.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from bessemer.core.forwarding import Spent
from bessemer.core.nouns import Subject, Usage
from bessemer.meter import LocalMeter, MeterConfig, open_meter
from bessemer.meter.processor import read_processor
from bessemer.serve.booking import Span
from bessemer.serve.fast.reading import Tail
from bessemer.serve.ids import new_id

HERE = Path(__file__).parent
TIMES = 9


def timed(work: Callable[[range], object], count: int) -> dict[str, float]:
    """Return the nanoseconds that each turn of a loop takes."""
    found = []
    for _ in range(TIMES):
        began = time.perf_counter_ns()
        nothing(range(count))
        between = time.perf_counter_ns()
        work(range(count))
        found.append((time.perf_counter_ns() - between - (between - began)) / count)
    return {"median": round(median(found), 1), "least": round(min(found), 1), "most": round(max(found), 1)}


def nothing(turns: range) -> None:
    for _ in turns:
        pass


def measured(meter: LocalMeter) -> dict[str, dict[str, float]]:
    stream, whole, tail = Spent("stream", "p", "k", "m"), [Spent("whole", "p", "k", "m")], Tail(False)
    meter.batch.begin(stream)
    relay = SimpleNamespace(kept=meter.batch.keep(stream, (5, 50)), tail=tail)
    bookkeeper: Any = SimpleNamespace(meter=meter)
    watch: Any = None
    span = Span(bookkeeper, meter.start(Subject(kind="request", id="span", project="p", model="m")), watch)
    span.usage = Usage(input_tokens=5, output_tokens=7)

    def short_piece(turns: range) -> None:
        for _ in turns:
            relay.kept[0] = relay.tail.events

    def long_piece(turns: range) -> None:
        for _ in turns:
            span.keep()

    def each_stream(turns: range) -> None:
        streams = meter.streams
        for _ in turns:
            meter.batch.keep(stream, (5, 50))
            streams.booking(stream.kept)
            streams.free(stream.kept)

    def whole_answer(turns: range) -> None:
        for _ in turns:
            kept = [each.kept for each in whole if each.kept]
            for _slot in kept:
                pass
            for _slot in kept:
                pass

    def each_id(turns: range) -> None:
        for _ in turns:
            new_id()

    return {
        "piece_short_way": timed(short_piece, 500_000),
        "piece_long_way": timed(long_piece, 200_000),
        "stream": timed(each_stream, 50_000),
        "whole_answer": timed(whole_answer, 500_000),
        "id": timed(each_id, 200_000),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="keep no result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_meter(MeterConfig(sensors="model"), Path(folder)) as meter:
        nanoseconds = measured(meter)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "question": "streams",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "versions": {"python": platform.python_version()},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {read_processor().name}",
        "load_average": os.getloadavg(),
        "nanoseconds": nanoseconds,
    }
    print(json.dumps(result))
    if not options.dry:
        with (HERE / "results" / "streams.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
