"""Answers rows of published latencies with NVIDIA's aiconfigurator, for `bench_planner_peers.py`.

Runs under a Python that has aiconfigurator and nothing of ours. Reads JSON lines on standard input, one row each, and
writes one JSON line for each: milliseconds to the first and to each further token and the seconds that the answer took,
or why there is none. The last line has the seconds of one more configuration in a session that is already built: the
peer's fastest way.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
import warnings
from importlib.metadata import version
from typing import Any

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

import aiconfigurator.sdk.inference_session as sessions  # noqa: E402
from aiconfigurator.cli.api import cli_estimate  # noqa: E402

CALLED = {
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B-Instruct": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B",
}
"""Names of rows -> names of the same network in the peer's package, which would else be looked for on the internet."""

WAYS = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
kept: list[Any] = []


class Kept(sessions.InferenceSession):  # type: ignore[misc]
    """Remembers the session that an estimate built."""

    def run_agg(self, runtime: Any, **given: Any) -> Any:
        kept[:] = [self, runtime, given]
        return super().run_agg(runtime, **given)


def whole(row: dict[str, str], name: str) -> int | None:
    return int(float(row[name])) if row.get(name) else None


def asked(row: dict[str, str]) -> dict[str, Any]:
    """Return a row as the arguments of the peer's function."""
    given: dict[str, Any] = {name: whole(row, name) for name in ("isl", "osl")}
    if row["mode"] == "agg":
        given |= {name: whole(row, name) for name in WAYS} | {"batch_size": whole(row, "batch_size") or 1}
    else:
        for side in ("prefill_", "decode_"):
            given |= {side + name: whole(row, side + name) for name in (*WAYS, "batch_size", "num_workers")}
    return {name: value for name, value in given.items() if value is not None}


def answer(row: dict[str, str]) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        found = cli_estimate(
            CALLED.get(row["model_path"], row["model_path"]),
            row["system"],
            mode=row["mode"],
            backend_name=row["backend"],
            **asked(row),
        )
    except Exception as error:
        return {"id": row["id"], "reason": f"{type(error).__name__}: {str(error)[:160]}"}
    seconds = time.perf_counter() - started
    return {"id": row["id"], "ttft_ms": found.ttft, "tpot_ms": found.tpot, "seconds": seconds}


def prepared(rounds: int = 40) -> list[float]:
    """Return the seconds of further configurations in a session that is built, each with another batch."""
    cli_estimate("Qwen/Qwen3-32B", "h100_sxm", backend_name="trtllm", isl=1024, osl=512, batch_size=32, tp_size=4)
    session, runtime, given = kept
    times = []
    for number in range(rounds):
        other = dataclasses.replace(runtime, batch_size=129 + number)
        started = time.perf_counter()
        session.run_agg(other, **given)
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    sessions.InferenceSession = Kept
    out, sys.stdout = sys.stdout, sys.stderr  # the peer prints
    for line in sys.stdin:
        out.write(json.dumps(answer(json.loads(line))) + "\n")
        out.flush()
    out.write(json.dumps({"version": version("aiconfigurator"), "prepared_seconds": prepared()}) + "\n")


if __name__ == "__main__":
    main()
