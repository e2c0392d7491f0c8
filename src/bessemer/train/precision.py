"""Which precision is faster here: found by trying both, once, before training begins.

Owns the trial. It leaves the network's weights, its gradients and the random state as they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from bessemer.train.config import Precision
from bessemer.train.network import Network
from bessemer.train.report import Trial
from bessemer.train.rows import Row

CLEARLY_FASTER_RATIO = 1.15
"""bf16 must win by so much: a tie goes to fp32, so that noise does not change which model comes out."""
TRIAL_TOKENS = 256


def choose_precision(
    network: Network, rows: Sequence[Row], by_span: float, clock: Callable[[], float] = time.perf_counter
) -> Trial:
    """Return the faster precision for this network on this processor.

    There is no trial on CUDA, which takes bf16, nor where the processor multiplies bf16 slower than float32.
    """
    if network.device.type == "cuda":
        return Trial(precision="bf16")
    if not _has_fast_bf16(clock):
        return Trial(precision="fp32")
    batch = _some(rows)
    with torch.random.fork_rng(devices=[]):
        fp32 = _speed(network, batch, "fp32", by_span, clock)
        bf16 = _speed(network, batch, "bf16", by_span, clock)
    faster: Precision = "bf16" if bf16 > CLEARLY_FASTER_RATIO * fp32 else "fp32"
    return Trial(precision=faster, fp32_tokens_per_second=fp32, bf16_tokens_per_second=bf16)


def _has_fast_bf16(clock: Callable[[], float]) -> bool:
    """Return whether one matrix product is faster in bf16: without the instructions the full trial takes minutes."""

    def seconds(dtype: torch.dtype) -> float:
        left, right = torch.ones(256, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
        took = []
        for _ in range(4):
            started = clock()
            torch.mm(left, right)
            took.append(clock() - started)
        return min(took)

    return seconds(torch.bfloat16) < seconds(torch.float32)


def _some(rows: Sequence[Row]) -> list[Row]:
    """Return rows around the median length, about `TRIAL_TOKENS` together."""
    ordered = sorted(rows, key=lambda row: len(row.tokens))
    middle = ordered[len(ordered) // 2 :] + ordered[: len(ordered) // 2]
    return middle[: max(1, TRIAL_TOKENS // len(middle[0].tokens))]


def _speed(
    network: Network, batch: Sequence[Row], precision: Precision, by_span: float, clock: Callable[[], float]
) -> float:
    """Return tokens per second of one forward and backward pass, the better of two after one to warm up."""
    network.precision = precision
    tokens = len(batch) * max(len(row.tokens) for row in batch)
    took = []
    for _ in range(3):
        started = clock()
        network.loss(batch, by_span=by_span).backward()  # type: ignore[no-untyped-call]
        took.append(clock() - started)
        for parameter in network.parameters():
            parameter.grad = None
    return tokens / min(took[1:])
