"""What do the books lose, double or misjudge, and the budgets, when the gateway is killed a thousand times?

    uv run python benchmarks/bench_kills.py [--kills 1000] [--durability interval|fsync] [--workers 1] [--dry]

What `tests/serve/fast/test_kill.py` does some tens of times in every run of the tests: a gateway under load is killed
with SIGKILL at a random moment, in the middle of long streams, and started anew on the same books; now and then it is
killed again while it books what was cut. All of it passes limits and budgets, of which one is spent again and again:
afterwards the accounts and the books must agree to the micro-unit. One line is appended to `results/kills.jsonl`; with
other seeds (`--seed`), several runs add up. It ends with status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from bessemer.meter.processor import read_processor  # noqa: E402
from tests.serve.fast.kills import kill_often  # noqa: E402 (found by the line above)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--durability", choices=("interval", "fsync"), default="interval")
    parser.add_argument("--workers", type=int, default=1, help="gateways beside each other on the same books")
    parser.add_argument("--seed", default="0", help="of the moments; the same one does not repeat them to the instant")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_often(Path(folder), options.durability, options.kills, options.seed, options.workers)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "question": "kills",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "versions": {"python": platform.python_version()},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {read_processor().name}",
        "durability": options.durability,
        "workers": options.workers,
        "seed": options.seed,
        "seconds": round(time.perf_counter() - began, 1),
        **asdict(found),
    }
    print(json.dumps(result))
    if not options.dry:
        (HERE / "results").mkdir(exist_ok=True)
        with (HERE / "results" / "kills.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
