"""Reads published measurements of serving: latencies by configuration, and throughput of whole servers.

Owns what the columns mean, and what is taken where a publication is silent. Predicts nothing.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

from bessemer.core.errors import NotFound
from bessemer.twin.accelerators import accelerator
from bessemer.twin.catalogue import Row, number
from bessemer.twin.decode import capacity
from bessemer.twin.evidence import unreadable
from bessemer.twin.replica import Replica, named, points

NODE = 8
"""Accelerators of a usual server, which its replicas do not leave unless told."""


LARGEST = 64
"""Accelerators of the largest replica that is read into a row."""


POOL = 32
"""Accelerators that decode together where other accelerators prefill and a row does not tell how many replicas do.
Source: the median of the InferenceX rows that tell."""


@dataclass(frozen=True, slots=True)
class Latency:
    """One measured configuration. `prefill` is given where other accelerators prefill."""

    id: str
    decode: Replica
    prefill: Replica | None
    first_seconds: float
    token_seconds: float
    is_guessed: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that cannot be read, with the reason."""

    id: str
    family: str
    reason: str


def table(path: Path) -> list[Row]:
    """Return the rows of a file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def latency(row: Row) -> Latency | Refused:
    """Return a row with measured times to the first and to each further token, or why it cannot be read."""
    family = "disagg" if row["mode"] == "disagg" else "agg"
    try:
        return _latency(row)
    except NotFound as error:
        return Refused(row["id"], family, error.message)
    except (ValueError, ArithmeticError) as error:
        return Refused(row["id"], family, unreadable(error))


def _latency(row: Row) -> Latency:
    disaggregated = row["mode"] == "disagg"
    network, is_guessed = named(row["model_path"])
    device = accelerator(row["system"])
    base = Replica(
        network,
        device,
        row["precision"] or "bf16",
        row["backend"] if row["backend"] in ("trtllm", "vllm", "sglang") else "vllm",
        input_tokens=float(row["isl"]),
        output_tokens=float(row["osl"]),
    )
    decode = _cut(base, row, "decode_" if disaggregated else "")
    prefill = _cut(base, row, "prefill_") if disaggregated else None
    first, token = (float(row[f"silicon_{name}_ms"]) / 1e3 for name in ("ttft", "tpot"))
    if min(base.input_tokens, base.output_tokens, first, token) <= 0:
        raise ValueError("a length or a time is zero")
    return Latency(row["id"], decode, prefill, first, token, is_guessed)


def _cut(base: Replica, row: Row, prefix: str) -> Replica:
    """Return the replica of a row's columns, which name the same cut in several ways.

    Where tensor and expert ways were multiplied although both name the same accelerators of one server, they are
    taken once. Heads cannot be cut in ways that do not divide them: such accelerators are data parallel, with whole
    experts. A batch below the requests in flight is that of one of several replicas.
    """
    tensor, data, cut, whole = (
        int(number(row, prefix + name) or 1) for name in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    )
    accelerators = max(tensor * data, cut * whole if tensor * data < NODE and not prefix else 1)
    if accelerators > NODE and base.device.scaleup_accelerators <= NODE and not prefix:
        accelerators, data = min(max(cut, whole if cut > 1 else tensor), NODE), min(data, NODE)
        data = accelerators if data > 1 else 1
    if base.shape.heads % tensor:
        data = whole = accelerators
    workers = number(row, prefix + "num_workers") or _usual_workers(prefix, accelerators)
    asked = concurrency(row)
    batch = number(row, prefix + "batch_size")
    if prefix == "prefill_":
        sequences = (asked or 1.0) / workers
    elif asked is not None and not (batch and batch * data < asked / workers):
        sequences = asked / workers
    else:
        sequences = (batch or 1.0) * data
    return _fitting(replace(base, accelerators=accelerators, data=data, expert=whole, sequences=sequences))


def _usual_workers(prefix: str, accelerators: int) -> float:
    """Return how many replicas share the requests where a row does not tell: as many as fill the usual pool."""
    return max(1.0, POOL / accelerators) if prefix == "decode_" else 1.0


def _fitting(told: Replica) -> Replica:
    """Return the replica, with twice the accelerators while its weights do not fit: such a cut was not what ran."""
    while told.accelerators < LARGEST and capacity(points([told]))[0] < 1:
        told = replace(told, accelerators=told.accelerators * 2)
    return told


def concurrency(row: Row) -> float | None:
    """Return how many requests were in flight, over all workers, if the row tells."""
    found = re.search(r"silicon_concurrency=(\d+)", row["silicon_data_source"]) or re.search(r"_c(\d+)_", row["id"])
    if found:
        return float(found.group(1))
    batch, workers = number(row, "decode_batch_size"), number(row, "decode_num_workers")
    ways = number(row, "decode_attention_dp_size") or 1.0
    return batch * workers * ways if batch and workers else None
