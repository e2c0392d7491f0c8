"""Published throughput and joules of whole servers beside what the model says of them.

Owns what a benchmark's scenario asks for, and the load that gives most. Fits nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bessemer.core.errors import NotFound, Unsupported
from bessemer.twin import decode
from bessemer.twin.accelerators import Accelerator, accelerator
from bessemer.twin.catalogue import Row as Line
from bessemer.twin.catalogue import number, table
from bessemer.twin.decode import Constants, Points
from bessemer.twin.evidence import Row, unreadable
from bessemer.twin.inference import SIZES, around
from bessemer.twin.interval import Interval
from bessemer.twin.replica import Replica, named, points

PRECISIONS = {"uint4": "int4", "fp8/fp4": "fp8"}


@dataclass(frozen=True, slots=True)
class Server:
    """A measured server: the cuts and loads it may run, the limits of its two times in seconds (0: none), its size, and
    whether it was tuned for a benchmark, as MLPerf's are.
    """

    replicas: Sequence[Replica]
    first_limit: float
    token_limit: float
    accelerators: int
    is_tuned: bool = False


def throughput(lines: Sequence[Line]) -> list[Row]:
    """Return output tokens a second of each row's server and, where energy was measured, joules a token."""
    found = []
    for line in lines:
        measured = float("nan")
        try:
            measured = number(line, "tokens_per_s_total") or measured
            joules, watts = number(line, "joules_per_token"), number(line, "power_w_system")
            rate = predicted(line)
        except (NotFound, Unsupported) as error:
            found.append(Row("throughput", line["id"], measured, reason=error.message))
            continue
        except (ValueError, ArithmeticError) as error:
            found.append(Row("throughput", line["id"], measured, reason=unreadable(error)))
            continue
        found.append(Row("throughput", line["id"], measured, rate))
        if joules and watts:
            energy = Interval(watts / rate.mid, watts / rate.high, watts / rate.low)
            found.append(Row("joules per token, power known", line["id"], joules, energy))
    return found


def predicted(line: Line) -> Interval:
    """Return the output tokens a second of a row's server.

    Raises:
        NotFound: no such model or accelerator.
        Unsupported: the row does not tell enough, the model does not fit, or not within the limits.
    """
    asked = server(line)
    fitted = decode.fitted()
    rate = float(most(points(asked.replicas), fitted.constants, asked.first_limit, asked.token_limit).max())
    rate *= fitted.constants.tuned if asked.is_tuned else 1.0
    if rate <= 0:
        raise Unsupported(f"{line['model']} does not fit, or not within the limits, on {line['gpu']}")
    return around(rate * asked.accelerators, fitted.errors.get("throughput", 0.4))


def server(line: Line, loads: int = 53) -> Server:
    """Return what a row's server may run, with so many loads of each cut.

    Raises:
        NotFound: no such model or accelerator.
        Unsupported: the row does not tell enough.
    """
    network, _ = named(line["model"])
    device = accelerator(line["gpu"])
    told = _scenario(network.name, line)
    precision = line["precision"].lower()
    precision = PRECISIONS.get(precision, precision)
    if line["precision"].lower() == "fp8/fp4" and device.fp4_flop_per_second:
        precision = "fp4"
    backend = "vllm" if "vllm" in line["engine"].lower() else "trtllm"
    base = Replica(network, device, precision, backend, input_tokens=told[0], output_tokens=told[1])
    total = int(number(line, "gpu_count") or 1)
    if total < 1:
        raise Unsupported(f"a server of {total} accelerators was not measured")
    grid = [
        replace(base, accelerators=size, data=data, expert=data, sequences=float(load))
        for size, data in _cuts(line, total, device)
        for load in np.unique(np.round(np.geomspace(1, 8192, loads)))
    ]
    return Server(grid, told[2], told[3], total, line["scenario"].startswith("MLPerf"))


def _scenario(model: str, line: Line) -> tuple[float, float, float, float]:
    """Return input and output tokens, and the limits of the two times; 0: none."""
    lengths = number(line, "isl"), number(line, "osl")
    if lengths[0] and lengths[1] and line["metric"].startswith("output"):
        return lengths[0], lengths[1], 0.0, 0.0
    for row in table("serving_tests"):
        if row["model"] == model and row["scenario"] == line["scenario"]:
            limits = number(row, "first_seconds") or 0.0, number(row, "token_seconds") or 0.0
            return float(row["input_tokens"]), float(row["output_tokens"]), *limits
    raise Unsupported(f"nothing tells the lengths of '{line['scenario']}' with {model}")


def _cuts(line: Line, total: int, device: Accelerator) -> list[tuple[int, int]]:
    told = re.match(r"(TP|DEP)(\d+)", line["parallelism"])
    if told:
        size = int(told.group(2))
        return [(size, size if told.group(1) == "DEP" else 1)]
    sizes = [size for size in SIZES if size <= total]
    return [(size, 1) for size in sizes] + [(size, size) for size in sizes if size > 1]


def most(p: Points, k: Constants, first_limit: decode.Array | float, token_limit: decode.Array | float) -> decode.Array:
    """Return output tokens a second of one accelerator at each load; 0 where memory or a limit does not hold it.

    The limits hold for 99 of 100 requests. Source: MLPerf Inference rules, scenario Server.
    """
    held = decode.capacity(p)
    token, first = decode.aggregated(p, k)
    kept = (held >= 1) & (p.sequences <= np.maximum(held, 1))
    kept &= first * k.tail <= np.where(np.asarray(first_limit) > 0, first_limit, np.inf)
    kept &= token * k.tail <= np.where(np.asarray(token_limit) > 0, token_limit, np.inf)
    return np.asarray(np.where(kept, p.sequences / token / p.accelerators, 0.0))
