"""Is the planner faster than its peers, and never further off? Serving beside NVIDIA's aiconfigurator, in one run.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install aiconfigurator==0.12.0
    python benchmarks/bench_planner_peers.py LATENCIES.csv RATES.csv --peer /tmp/peer/bin/python [--rows 200]

A sample of published latencies is answered by both. Claimed are ratios: of errors on the rows that both answer, and of
seconds for one configuration. Our constants were fitted to such rows, so the error that counts is the one with each
row's model left out of the fit; both are told. The peer's seconds are told three ways: the first call of its public
function for a model, which loads measurements; later calls of it; and one more configuration in a session that is
already built, which is its fastest way. Ours are told two ways: one configuration alone, and one among many.

Calculon (training, github.com/calculon-ai/calculon) is in no registry (PyPI's `calculon` is another package), so it is
not run: its 22 ms for a configuration are from an earlier trial elsewhere, and the ratio to them is no measurement.

One line is appended to `results/planner_peers.jsonl`, which `--markdown` shows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from bench_simulation import processor
from fit_inference import Data, Servers, left_out

from bessemer.twin import decode, layout, training
from bessemer.twin.accelerators import accelerator
from bessemer.twin.inference_rows import Latency, latency, table
from bessemer.twin.replica import points
from bessemer.twin.shape import shape
from bessemer.twin.training_rows import usual_links
from bessemer.twin.workload import Training

HERE = Path(__file__).parent
CALCULON_SECONDS = 0.022
BLOCK, ROUNDS = 4096, 15


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, least and most of repeated timings."""
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds), "runs": len(seconds)}


def timed(work: Callable[[], object], per: int = 1) -> dict[str, float]:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) / per)
    return spread(times)


def off(predicted: Mapping[str, float], measured: Mapping[str, float], ids: Sequence[str]) -> dict[str, float]:
    """Return the mean and the median absolute relative error in percent."""
    found = [abs(predicted[each] / measured[each] - 1) * 100 for each in ids]
    return {"mean_percent": round(statistics.mean(found), 1), "median_percent": round(statistics.median(found), 1)}


def peer(python: str, rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return what the peer says of rows; each model's rows come together, so that it loads what it needs once."""
    ordered = sorted(rows, key=lambda row: (row["system"], row["backend"], row["model_path"]))
    done = subprocess.run(
        [python, str(HERE / "peer_aiconfigurator.py")],
        input="".join(json.dumps(dict(row)) + "\n" for row in ordered),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_told(row: Mapping[str, str]) -> bool:
    """Return whether a disaggregated row tells the workers that the peer asks for."""
    return bool(row["prefill_num_workers"] and row["decode_num_workers"])


def our_seconds(cases: Sequence[Latency]) -> dict[str, Any]:
    k = decode.fitted().constants
    together = [case.decode for case in cases if case.prefill is None]
    one, many = points(together[:1]), points((together * (BLOCK // len(together) + 1))[:BLOCK])
    return {
        "alone": timed(lambda: decode.aggregated(points(together[:1]), k)),
        "alone, arrays made": timed(lambda: decode.aggregated(one, k)),
        "among many": timed(lambda: decode.aggregated(many, k), BLOCK),
    }


def calculon() -> dict[str, Any]:
    """Return the seconds of one layout of 405B on 16,384 accelerators among all of them."""
    device, network = accelerator("H100-SXM-80GB"), shape("Llama-3.1-405B")
    links = usual_links(device)
    job = Training(model=network.name, sequence_tokens=8192, batch_sequences=2048)
    cuts = layout.candidates(network, job, 16384, links)
    assert cuts is not None
    count = len(np.atleast_1d(cuts.tensor))
    ours = timed(lambda: training.steps(network, job, cuts, device, links), count)
    ratio = round(CALCULON_SECONDS / ours["median"])
    return {
        "peer_seconds": CALCULON_SECONDS,
        "provenance": "from an earlier trial, not run",
        "ours": ours,
        "times_faster": ratio,
    }


def latencies(path: Path, rates: Path, python: str, count: int, seed: int) -> dict[str, Any]:
    """Return errors and seconds of both on a sample of rows."""
    rows = {row["id"]: row for row in table(path)}
    data = Data([case for case in map(latency, rows.values()) if isinstance(case, Latency)])
    told = [each for each in data.cases if not each.is_guessed and (not each.prefill or is_told(rows[each.id]))]
    sample = random.Random(seed).sample(told, count)
    *replies, last = peer(python, [rows[case.id] for case in sample])
    answers = {each["id"]: each for each in replies if "reason" not in each}
    servers = Servers(table(rates))
    logs, apart = data.logs(decode.fitted().constants), left_out(data, data.model, servers, servers.model)
    found: dict[str, Any] = {"rows": count, "both_answer": len(answers), "peer_version": last["version"]}
    for place, name in enumerate(("tpot", "ttft")):
        measured = {each.id: (each.token_seconds, each.first_seconds)[place] * 1e3 for each in data.cases}
        by = {
            "ours, fitted": dict(zip(measured, np.exp(logs[place]) * list(measured.values()), strict=True)),
            "ours, model left out": dict(zip(measured, np.exp(apart[place]) * list(measured.values()), strict=True)),
            "aiconfigurator": {each["id"]: each[f"{name}_ms"] for each in answers.values()},
        }
        for mode in ("agg", "disagg"):
            ids = [each for each in answers if rows[each]["mode"] == mode]
            if ids:
                found[f"{name} {mode}"] = {"rows": len(ids)} | {who: off(by[who], measured, ids) for who in by}
    first, later = [], []
    seen: set[tuple[str, ...]] = set()
    for each in answers.values():
        key = tuple(rows[each["id"]][name] for name in ("system", "backend", "model_path"))
        (later if key in seen else first).append(each["seconds"])
        seen.add(key)
    theirs = {"first call": spread(first), "later calls": spread(later), "built": spread(last["prepared_seconds"][1:])}
    ours = our_seconds(sample)
    found |= {"peer_seconds": theirs, "our_seconds": ours}
    found["times_faster"] = {
        "function against function": round(theirs["later calls"]["median"] / ours["alone"]["median"]),
        "function against one among many": round(theirs["later calls"]["median"] / ours["among many"]["median"]),
        "built session against one alone": round(theirs["built"]["median"] / ours["alone"]["median"], 1),
        "built session against one among many": round(theirs["built"]["median"] / ours["among many"]["median"]),
    }
    reasons = Counter(each["reason"].partition("(")[0][:70] for each in replies if "reason" in each)
    return found | {"not_answered": dict(reasons)}


def markdown(result: Mapping[str, Any]) -> str:
    """Return what a result says of errors and seconds, in Markdown."""
    serving = result["serving"]
    theirs, ours, times = (serving[name] for name in ("peer_seconds", "our_seconds", "times_faster"))
    lines = [
        f"{serving['both_answer']} of a sample of {serving['rows']} rows were answered by both ({result['at'][:10]}, "
        f"{result['hardware'].split(',')[0]}; {result['note']}).",
        "",
        "| mean, median error | rows | here, model left out of the fit | here, fitted | aiconfigurator |",
        "|---|--:|--:|--:|--:|",
    ]
    for mode, place in (("agg", ""), ("disagg", ", prefill apart")):
        for key, what in (("tpot", "time per output token"), ("ttft", "time to first token")):
            found = serving[f"{key} {mode}"]
            told = [found[who] for who in ("ours, model left out", "ours, fitted", "aiconfigurator")]
            cells = " | ".join(f"{each['mean_percent']} %, {each['median_percent']} %" for each in told)
            lines.append(f"| {what}{place} | {found['rows']} | {cells} |")
    lines += [
        "",
        "| one configuration, seconds in the median | there | here | times |",
        "|---|--:|--:|--:|",
        *(
            f"| {what} | {theirs[there]['median']:.2g} | {ours[here]['median']:.2g} | {times[key]:,} |"
            for what, there, here, key in (
                ("its function, ours for one alone", "later calls", "alone", "function against function"),
                ("its function, ours among many", "later calls", "among many", "function against one among many"),
                ("its session already built, ours for one alone", "built", "alone", "built session against one alone"),
                (
                    "its session already built, ours among many",
                    "built",
                    "among many",
                    "built session against one among many",
                ),
            )
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "path", type=Path, nargs="?", help="a table such as InferenceX's, with silicon_tpot_ms and silicon_ttft_ms"
    )
    parser.add_argument(
        "rates", type=Path, nargs="?", help="a table of servers' rates, which the constants are fitted to as well"
    )
    parser.add_argument("--peer", help="a Python that has aiconfigurator")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="", help="what else the machine did")
    parser.add_argument("--markdown", action="store_true", help="only show the newest result that was kept")
    asked = parser.parse_args()
    kept = HERE / "results" / "planner_peers.jsonl"
    if asked.markdown:
        print(markdown(json.loads(kept.read_text("utf-8").splitlines()[-1])), end="")
        return
    if not (asked.path and asked.rates and asked.peer):
        parser.error("name both tables and --peer, or ask for --markdown")
    git = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    result = {
        "question": "planner beside peers",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip(),
        "versions": {"python": platform.python_version(), "numpy": version("numpy")},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {processor()}",
        "note": asked.note,
        "serving": latencies(asked.path, asked.rates, asked.peer, asked.rows, asked.seed),
        "training": calculon(),
    }
    kept.parent.mkdir(exist_ok=True)
    with kept.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
