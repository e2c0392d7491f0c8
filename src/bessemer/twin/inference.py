"""Predicts serving: times to the first and to each further token, throughput, what fits in memory, joules.

Owns the answer for one replica and the search for the best one under what users accept. Knows no traffic, no money and
no power of a node: these come from its callers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bessemer.core.errors import Unsupported
from bessemer.twin import decode
from bessemer.twin.accelerators import Accelerator
from bessemer.twin.decode import Points
from bessemer.twin.interval import Interval
from bessemer.twin.replica import Replica, points
from bessemer.twin.shape import Shape
from bessemer.twin.training import LinkRates, alone_accelerators
from bessemer.twin.workload import Serving

EIGHTY = 1.2816
"""Standard deviations from the middle that leave 10 % on each side of a normal outcome."""

ACCEPTED_RATIO = 0.7
"""Share of drafted tokens that are right, each given the ones before.

Source: assumed; arXiv:2211.17192 has 0.5 to 0.9.
"""

DRAFT_RATIO = 0.05
"""Cost of one drafted token over a step of the whole network.

Source: assumed: one layer of some tens, and its launch.
"""

SIZES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Decode:
    """What a replica does at a number of concurrent requests.

    Attributes:
        time_to_first_token_seconds: from request to first token.
        time_per_output_token_seconds: between the tokens after it.
        tokens_per_second: output of the replica.
        memory_bytes: of one accelerator: weights and the caches of the requests that run.
        bottleneck: what most of a step goes to: memory, arithmetic, cache, links, engine, or prefill.
        concurrency: requests in flight.
        capacity: requests that memory holds at full length.
        accelerators: that decode.
        prefill_accelerators: beside them, where serving is disaggregated; else 0.
        data: ways attention is data parallel.
    """

    time_to_first_token_seconds: Interval
    time_per_output_token_seconds: Interval
    tokens_per_second: Interval
    memory_bytes: float
    bottleneck: str
    concurrency: float
    capacity: float
    accelerators: int
    prefill_accelerators: float
    data: int

    @property
    def tokens_per_second_per_accelerator(self) -> float:
        """Output of the replica over all its accelerators."""
        return self.tokens_per_second.mid / (self.accelerators + self.prefill_accelerators)


def replica(
    shape: Shape, work: Serving, device: Accelerator, accelerators: int, links: LinkRates, concurrency: float
) -> Decode:
    """Return what one replica does with so many requests in flight, attention cut by tensors.

    Raises:
        Unsupported: the weights, or one request beside them, do not fit; says how many accelerators would do.
    """
    return _answer(_replica(shape, work, device, accelerators, links), work, concurrency)


def best(shape: Shape, work: Serving, device: Accelerator, links: LinkRates, most: float = math.inf) -> Decode:
    """Return the replica with the most output for each accelerator that keeps what users accept.

    Where traffic is told, it is the one of which as many as that takes have the fewest accelerators. Searches the
    number of accelerators, tensor- against data-parallel attention, and the requests in flight. Of replicas that keep
    it, those of at most `most` accelerators come first, what prefills for them included.

    Raises:
        Unsupported: the model does not fit, or the times cannot be kept: says the least that can.
    """
    alone = alone_accelerators(links)
    sizes = tuple(size for size in ((work.accelerators,) if work.accelerators else SIZES) if size <= alone)
    if not sizes:
        raise _apart(work.accelerators, alone)
    base = [_replica(shape, work, device, size, links) for size in sizes]
    base += [replace(each, data=each.accelerators, expert=each.accelerators) for each in base if each.accelerators > 1]
    cuts = [each for each in base if decode.capacity(points([each]))[0] >= 1]
    if not cuts:
        raise _too_large(shape, work, device, max(sizes))
    loads = np.unique(np.round(np.geomspace(1, 4096, 49)))
    grid = [replace(cut, sequences=float(load)) for cut in cuts for load in loads]
    token, first, output = _times(points(grid), work)
    total = np.array([each.accelerators for each in grid]) + _prefill_share(points(grid), work, token)
    kept = total <= alone
    if not kept.any():
        raise _apart(float(total.min()), alone)
    limits = (work.time_to_first_token_seconds, work.time_per_output_token_seconds)
    held = [seconds <= limit if limit else kept for limit, seconds in zip(limits, (first, token), strict=True)]
    if not (kept & held[0] & held[1]).any():
        raise _impossible(limits, (first[kept], token[kept]), np.array([each.accelerators for each in grid])[kept])
    kept &= held[0] & held[1]
    kept = kept & (total <= most) if (kept & (total <= most)).any() else kept
    asked = work.requests_per_second * work.output_tokens
    needed = np.ceil(asked / output) * total if asked else total / output
    chosen = grid[int(np.argmin(np.where(kept, needed, np.inf)))]
    return _answer(chosen, work, chosen.sequences)


LIMITS = {
    "time to first token": "time_to_first_token_seconds",
    "time per output token": "time_per_output_token_seconds",
}
"""The two times that a service may limit, and their fields."""


def joules_per_token(answer: Decode, node_watts: Interval, node_accelerators: int = 8) -> Interval:
    """Return the joules of one output token, given what a loaded node draws.

    Source: energy is power over rate; the replica's accelerators bear their share of the node.
    """
    share = (answer.accelerators + answer.prefill_accelerators) / node_accelerators
    mid = node_watts.mid * share / answer.tokens_per_second.mid
    power = math.log(node_watts.high / node_watts.mid) if node_watts.mid else 0.0
    rate = math.log(answer.tokens_per_second.high / answer.tokens_per_second.mid)
    away = math.exp(math.hypot(power, rate))
    return Interval(mid, mid / away, mid * away)


def accepted_tokens(drafted: float, accepted_ratio: float = ACCEPTED_RATIO) -> float:
    """Return the tokens that one speculative step gives.

    Source: Leviathan et al. 2023, arXiv:2211.17192, equation 1: (1 - a ** (g + 1)) / (1 - a).

    >>> accepted_tokens(0), round(accepted_tokens(3, 0.5), 3)
    (1.0, 1.875)
    """
    if accepted_ratio >= 1:
        return 1.0 + drafted
    return float((1 - accepted_ratio ** (drafted + 1)) / (1 - accepted_ratio))


def around(middle: float, sigma: float) -> Interval:
    """Return the interval of a log-normal outcome."""
    away = math.exp(EIGHTY * sigma)
    return Interval(middle, middle / away, middle * away)


def _replica(shape: Shape, work: Serving, device: Accelerator, accelerators: int, links: LinkRates) -> Replica:
    inside = accelerators <= max(links.scaleup_accelerators, 1)
    rate = links.scaleup_bytes_per_second if inside else links.scaleout_bytes_per_second
    return Replica(
        shape,
        device,
        work.precision,
        accelerators=accelerators,
        input_tokens=work.input_tokens,
        output_tokens=work.output_tokens,
        link_bytes_per_second=rate,
    )


def _times(p: Points, work: Serving) -> tuple[decode.Array, decode.Array, decode.Array]:
    """Return seconds a token, seconds to the first and output tokens a second."""
    k = decode.fitted().constants
    drafted = float(work.speculative_tokens)
    running = np.minimum(p.sequences, np.maximum(decode.capacity(p), 1.0))
    if work.disaggregated:
        token, first = decode.disaggregated(p, k, replace(p, sequences=np.ones_like(p.sequences)))
    else:
        token, first = decode.aggregated(p, k)
    if drafted:
        plain = decode.decode_seconds(p, k, running)
        with_drafts = decode.decode_seconds(p, k, running, drafted) + drafted * DRAFT_RATIO * plain
        apart = k.apart if work.disaggregated else 1.0
        token = token + apart * (with_drafts / accepted_tokens(drafted) - plain)
    return (
        token,
        first,
        np.asarray(running * p.output_tokens / (first * (p.sequences <= running) + p.output_tokens * token)),
    )


def _prefill_share(p: Points, work: Serving, token: decode.Array) -> decode.Array:
    """Return the accelerators that must prefill so that the decoding ones never wait."""
    if not work.disaggregated:
        return np.zeros_like(token)
    k = decode.fitted().constants
    running = np.minimum(p.sequences, np.maximum(decode.capacity(p), 1.0))
    prompts = running / (p.output_tokens * token)
    return np.asarray(prompts * decode.prefill_seconds(p, k) * p.accelerators)


def _answer(cut: Replica, work: Serving, concurrency: float) -> Decode:
    p = points([replace(cut, sequences=concurrency)])
    capacity = float(decode.capacity(p)[0])
    if capacity < 1:
        raise _too_large(cut.shape, work, cut.device, cut.accelerators)
    token, first, output = (float(each[0]) for each in _times(p, work))
    errors, mode = decode.fitted().errors, "disagg" if work.disaggregated else "agg"
    held = min(concurrency, capacity)
    weights = float((p.dense_bytes * p.data / p.accelerators + p.expert_bytes / p.accelerators)[0])
    tensor = cut.accelerators / cut.data
    each = float(p.kv_bytes[0]) / min(tensor, float(p.kv_ways[0])) * (cut.input_tokens + cut.output_tokens)
    return Decode(
        time_to_first_token_seconds=around(first, errors[f"ttft {mode}"]),
        time_per_output_token_seconds=around(token, errors[f"tpot {mode}"]),
        tokens_per_second=around(output, errors[f"tpot {mode}"]),
        memory_bytes=weights + held / cut.data * each,
        bottleneck=_bottleneck(p, held, token),
        concurrency=concurrency,
        capacity=capacity,
        accelerators=cut.accelerators,
        prefill_accelerators=float(_prefill_share(p, work, np.array([token]))[0]),
        data=cut.data,
    )


def _bottleneck(p: Points, running: float, token: float) -> str:
    k = decode.fitted().constants
    parts = decode.decode_parts(p, k, np.array([running]))
    spent = {
        "memory": float(parts.weights[0]),
        "arithmetic": float(max(parts.arithmetic[0], parts.attention[0])),
        "cache": float(parts.cache[0]),
        "links": float(parts.links[0]),
        "engine": float(parts.overhead[0]),
        "prefill": token - float(parts.total()[0]),
    }
    return max(spent, key=lambda name: spent[name])


def _apart(wanted: float, alone: float) -> Unsupported:
    return Unsupported(
        f"no network joins servers, so a replica cannot have {wanted:.3g} accelerators; {alone:,.0f} are together",
        hint="Serve prefill and decode together on fewer, or give the site a [fabric] and its servers adapters (nics).",
    )


def _too_large(shape: Shape, work: Serving, device: Accelerator, tried: int) -> Unsupported:
    for size in (each for each in (*SIZES, 128, 256, 512) if each > tried):
        cut = Replica(shape, device, work.precision, accelerators=size)
        cut = replace(cut, input_tokens=work.input_tokens, output_tokens=work.output_tokens)
        if decode.capacity(points([cut]))[0] >= 1:
            return Unsupported(
                f"{shape.name} in {work.precision} and one request do not fit on {tried} {device.name}",
                hint=f"Give a replica {size} accelerators.",
            )
    return Unsupported(
        f"{shape.name} in {work.precision} and one request do not fit on {tried} {device.name}",
        hint="Take a narrower precision or an accelerator with more memory.",
    )


def _impossible(
    limits: tuple[float, float], seconds: tuple[decode.Array, decode.Array], accelerators: decode.Array
) -> Unsupported:
    """Return what is at best of each time, and the least change: one limit while the other is kept, else both alike."""
    told, ways = [], []
    for name, limit, other, here, there in zip(LIMITS, limits, limits[::-1], seconds, seconds[::-1], strict=True):
        best = int(np.argmin(here))
        if limit and here[best] > limit:
            size = accelerators[best]
            told.append(f"{name}: asked {limit:.4g} s, at best {_up(float(here[best]))} s on {size} accelerators")
        among = here[there <= other] if other else here
        if limit and among.size:
            ways.append(f"{LIMITS[name]} {_up(float(among.min()))}")
    if not ways:
        farther = np.maximum(seconds[0] / limits[0], seconds[1] / limits[1])
        both = (_up(float(each[np.argmin(farther)])) for each in seconds)
        ways = [" and ".join(f"{name} {value}" for name, value in zip(LIMITS.values(), both, strict=True))]
    return Unsupported(
        "no replica keeps these times; " + ("; ".join(told) or "each can be kept alone, but not both at once"),
        hint=f"The least change: {' or '.join(ways)}. Shorter prompts, narrower precision or faster accelerators help.",
    )


def _up(seconds: float) -> str:
    """Return a time in four digits, rounded up: who asks for it gets it.

    >>> _up(0.123411), _up(0.5)
    ('0.1235', '0.5')
    """
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 3)
    return f"{math.ceil(seconds / unit - 1e-9) * unit:.4g}"
