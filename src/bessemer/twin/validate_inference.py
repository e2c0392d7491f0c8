"""Published measurements of serving beside what the model says of them.

Owns the choice of what is compared and in which family. Fits nothing: the constants are those of the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bessemer.twin import decode
from bessemer.twin.catalogue import Row as Line
from bessemer.twin.evidence import Row
from bessemer.twin.inference import around
from bessemer.twin.inference_rows import Latency, Refused, latency, table
from bessemer.twin.replica import points
from bessemer.twin.validate_throughput import throughput

GUESSED = 0.3
"""1-sigma that a network known by the sizes in its name adds to the log error. Source: assumed."""


def rows(path: Path) -> list[Row]:
    """Return every row of a table with its prediction in seconds, tokens per second or joules, or with the reason."""
    lines = table(path)
    if not lines:
        return []
    return latencies(lines) if "silicon_tpot_ms" in lines[0] else throughput(lines)


def latencies(lines: Sequence[Line]) -> list[Row]:
    """Return time per output token and to the first token of each configuration, in seconds."""
    read = [latency(line) for line in lines]
    found = [
        Row(f"{name} {each.family}", each.id, float("nan"), reason=each.reason)
        for each in read
        if isinstance(each, Refused)
        for name in ("tpot", "ttft")
    ]
    cases = [each for each in read if isinstance(each, Latency)]
    for apart in (False, True):
        found += _predicted([each for each in cases if (each.prefill is not None) == apart], apart)
    return found


def _predicted(cases: Sequence[Latency], apart: bool) -> list[Row]:
    if not cases:
        return []
    fitted, here = decode.fitted(), points([case.decode for case in cases])
    if apart:
        there = points([case.prefill or case.decode for case in cases])
        token, first = decode.disaggregated(here, fitted.constants, there)
    else:
        token, first = decode.aggregated(here, fitted.constants)
    mode = "disagg" if apart else "agg"
    found = []
    for name, seconds in (("tpot", token), ("ttft", first)):
        sigma = fitted.errors[f"{name} {mode}"]
        for case, middle in zip(cases, seconds, strict=True):
            measured = case.token_seconds if name == "tpot" else case.first_seconds
            wide = float(np.hypot(sigma, GUESSED)) if case.is_guessed else sigma
            found.append(Row(f"{name} {mode}", case.id, measured, around(float(middle), wide)))
    return found
