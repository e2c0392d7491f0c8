"""How long one step of serving takes: many configurations at once, as numpy arrays.

Owns the equations of decode and prefill and their constants. Knows no file of measurements, no person's request and
no interval: `inference` puts those on top.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LATENT_WIDTH_RATIO = 4.25
"""Width of a latent head in decode over its width in prefill: (512 + 64 + 512) / (128 + 128).

Source: arXiv:2405.04434, section 2.1.
"""

INDEX_BYTES = 132.0
"""Of one token's key in the index of sparse attention, one layer: 128 numbers in fp8 and a scale.

Source: DeepSeek-V3.2's indexer, arXiv:2512.02556 section 2.1, recalled.
"""

BACKENDS = ("trtllm", "vllm", "sglang")


@dataclass(frozen=True, slots=True)
class Points:
    """Configurations to be timed; every field is a number or an array, all of one broadcast shape.

    Attributes:
        layers: transformer blocks.
        hidden: width.
        dense_bytes: weights that every step reads, whatever the tokens.
        expert_bytes: weights of all routed experts; 0 in a dense model.
        experts: routed experts of a layer; 1 in a dense model.
        experts_active: of them, that each token passes.
        kv_bytes: that one token leaves in the cache, over all layers.
        kv_ways: how many ways tensor parallelism can cut the cache: key-value heads; 1 with a latent cache.
        token_flop: operations of the weights for one token.
        expert_flop: of them, those of routed experts.
        expert_width: inner width of one expert; 1 in a dense model.
        context_flop: operations of one token for each token it attends to.
        seen_tokens: most tokens that one attends to; infinite without an index.
        index_bytes: that one token leaves in the index, over all layers.
        flop_per_second: dense peak of one accelerator in the precision of the weights.
        wide_flop_per_second: the same in 16 bits, in which attention is done.
        is_fp8: 1 where products of weights are made in fp8 or int8.
        is_fp4: 1 where they are made in fp4.
        bytes_per_second: of one accelerator's memory.
        link_bytes_per_second: of one accelerator to the others of its replica, one direction.
        memory_bytes: of one accelerator.
        accelerators: of the replica.
        data: ways attention is data parallel; the rest is tensor parallel.
        spread: 1 where experts lie whole on accelerators, 0 where each is cut.
        is_blackwell: 1 for accelerators sold since 2024 with fp4 units.
        is_mixture: 1 with experts.
        is_latent: 1 with a latent cache.
        backend: position in `BACKENDS`.
        sequences: that decode at once in the replica.
        input_tokens: of a prompt.
        output_tokens: of an answer.
    """

    layers: Array
    hidden: Array
    dense_bytes: Array
    expert_bytes: Array
    experts: Array
    experts_active: Array
    kv_bytes: Array
    kv_ways: Array
    token_flop: Array
    expert_flop: Array
    expert_width: Array
    context_flop: Array
    seen_tokens: Array
    index_bytes: Array
    flop_per_second: Array
    wide_flop_per_second: Array
    is_fp8: Array
    is_fp4: Array
    bytes_per_second: Array
    link_bytes_per_second: Array
    memory_bytes: Array
    accelerators: Array
    data: Array
    spread: Array
    is_blackwell: Array
    is_mixture: Array
    is_latent: Array
    backend: Array
    sequences: Array
    input_tokens: Array
    output_tokens: Array


@dataclass(frozen=True, slots=True)
class Constants:
    """What physics leaves open, fitted once over all published rows; ratios of peaks, seconds and exponents.

    Attributes:
        memory: reached share of the memory's rate when weights are read.
        cache: the same when keys and values are read.
        flop: reached share of the dense peak in a decode step.
        prefill: reached share of the dense peak in a prefill.
        attention: reached share of the dense peak in 16 bits when keys and values are multiplied in a decode step.
        fp8: share of the fp8 peak that products reach, beside bf16's share of its own.
        fp4: the same for fp4.
        narrow: width of an expert whose products reach half of the share that wide matrices reach.
        tile: rows to which the tokens of an expert are filled up.
        blackwell: reached share of compute on Blackwell, relative to Hopper.
        link: reached share of the link's rate.
        hop_seconds: of one collective, before its bytes, for each doubling of the members.
        layer_seconds: launches and small kernels of a layer.
        mixture_seconds: the same for routing in a layer with experts.
        latent_seconds: the same for latent attention.
        index_seconds: the same for the index of sparse attention: its products, and the choice of tokens.
        step_seconds: of the engine's scheduler, each step.
        sequence_seconds: of the engine, each step and sequence of a data-parallel rank.
        imbalance: how much the busiest expert rank holds over the mean, for each doubling of ranks.
        interference: share of a prompt's prefill that running answers feel.
        crowd: exponent of the number of simultaneous prompts in that wait.
        crowd_apart: the same in disaggregated serving, where published rows rarely tell how many replicas prefill.
        waiting: share of the wait for memory, or for busy prefill, that published medians show.
        trtllm: launches, scheduling and other overhead of the engine, over the least of the three; at least 1.
        vllm: the same.
        sglang: the same.
        trtllm_first_seconds: of a request in the engine until its prefill starts.
        vllm_first_seconds: the same.
        sglang_first_seconds: the same.
        trtllm_queue: how strongly simultaneous prompts wait for each other.
        vllm_queue: the same.
        sglang_queue: the same.
        handover: time to first token of disaggregated serving relative to aggregated.
        apart: time of a decode step that no prefill can interrupt, relative to one of an engine that does both.
        tuned: rate of a server that is tuned for one benchmark, over that of the engine as it comes; at least 1.
        tail: 99th percentile of a time over its mean, under random arrivals; at least 1.
    """

    memory: float
    cache: float
    flop: float
    prefill: float
    attention: float
    fp8: float
    fp4: float
    narrow: float
    tile: float
    blackwell: float
    link: float
    hop_seconds: float
    layer_seconds: float
    mixture_seconds: float
    latent_seconds: float
    index_seconds: float
    step_seconds: float
    sequence_seconds: float
    imbalance: float
    interference: float
    crowd: float
    crowd_apart: float
    waiting: float
    trtllm: float
    vllm: float
    sglang: float
    trtllm_first_seconds: float
    vllm_first_seconds: float
    sglang_first_seconds: float
    trtllm_queue: float
    vllm_queue: float
    sglang_queue: float
    handover: float
    apart: float
    tuned: float
    tail: float


def touched(experts: Array, active: Array, tokens: Array) -> Array:
    """Return the expected share of experts that at least one of the tokens passes.

    Source: each token passes `active` of `experts`, drawn evenly: 1 - (1 - active / experts) ** tokens.

    >>> float(touched(np.array(256.0), np.array(8.0), np.array(1.0)))
    0.03125
    """
    share = np.minimum(active / experts, 1.0)
    return np.asarray(1 - (1 - np.minimum(share, 1 - 1e-9)) ** tokens)


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of one decode step by what they are spent on."""

    weights: Array
    arithmetic: Array
    cache: Array
    attention: Array
    overhead: Array
    links: Array

    def total(self) -> Array:
        """Return the seconds of the step; what overlaps is counted once."""
        matrices = np.hypot(self.weights, self.arithmetic)
        return np.asarray(matrices + np.maximum(self.cache, self.attention) + self.overhead + self.links)


def decode_parts(points: Points, k: Constants, sequences: Array, drafted: float = 0.0) -> Parts:
    """Return what one decode step spends, with so many sequences and drafted tokens for each in the replica.

    Weights, cache and matrix products follow each other in a layer, and each is limited by memory or by arithmetic:
    the roofline of Williams et al. 2009, doi:10.1145/1498765.1498785, with a reached share for each.
    """
    p = points
    tensor = p.accelerators / p.data
    here, tokens = sequences / p.data, sequences * (1 + drafted)
    compute = _rate(p, k) * k.flop
    attends = p.wide_flop_per_second * k.attention
    skew = 1 + k.imbalance * p.spread * p.is_mixture * np.log2(p.accelerators)
    used = p.expert_bytes * touched(p.experts, p.experts_active, tokens) / p.accelerators * skew
    context = p.input_tokens + p.output_tokens / 2
    absorbed = np.where(p.is_latent > 0, LATENT_WIDTH_RATIO, 1.0)
    seen = np.minimum(context, p.seen_tokens)
    cache_bytes = here * (seen * p.kv_bytes / np.minimum(tensor, p.kv_ways) + context * p.index_bytes)
    return Parts(
        weights=np.asarray((p.dense_bytes / tensor + used) / (p.bytes_per_second * k.memory)),
        arithmetic=np.asarray(tokens * _work(p, k, tokens) / p.accelerators * skew / compute),
        cache=np.asarray(cache_bytes / (p.bytes_per_second * k.cache)),
        attention=np.asarray(tokens / p.data * seen * p.context_flop * absorbed / tensor / attends),
        overhead=_overhead(p, k, here),
        links=_talk(p, k, tokens / p.data),
    )


def decode_seconds(points: Points, k: Constants, sequences: Array, drafted: float = 0.0) -> Array:
    """Return the seconds of one decode step."""
    return decode_parts(points, k, sequences, drafted).total()


def _rate(p: Points, k: Constants) -> Array:
    """Return the dense peak less what narrow formats and Blackwell lose of it."""
    narrow = 1 + p.is_fp8 * (k.fp8 - 1) + p.is_fp4 * (k.fp4 - 1)
    return np.asarray(p.flop_per_second * narrow * (1 + p.is_blackwell * (k.blackwell - 1)))


def _work(p: Points, k: Constants, tokens: Array) -> Array:
    """Return the operations of the weights for one token, those of experts as the plain ones they cost.

    A narrow expert reaches less of the peak, and one with few tokens computes a whole tile of rows for them. Source:
    tiles of grouped products, Gale et al. 2022, arXiv:2211.15841, section 5.1; how they join is assumed.
    """
    some = np.maximum(tokens, 1.0)
    rows = some * p.experts_active / (p.experts * touched(p.experts, p.experts_active, some))
    costs = (1 + k.narrow / p.expert_width) * np.hypot(1.0, k.tile / rows)
    return np.asarray(p.token_flop + p.expert_flop * (costs - 1))


def _overhead(p: Points, k: Constants, here: Array) -> Array:
    layer = (
        k.layer_seconds
        + k.mixture_seconds * p.is_mixture
        + k.latent_seconds * p.is_latent
        + k.index_seconds * (p.index_bytes > 0)
    )
    return np.asarray((p.layers * layer + k.step_seconds + k.sequence_seconds * here) * engine(p, k))


def _talk(p: Points, k: Constants, tokens: Array) -> Array:
    """Return the seconds of two collectives a layer: all-reduce of activations, or the experts' exchange.

    Source: Hockney's latency and rate, Parallel Computing 20 (1994) 389-398; a ring moves 2 (n - 1) / n of the bytes.
    """
    members = p.accelerators
    moved = 2 * 2 * (members - 1) / members * tokens * p.hidden * 2.0 / (p.link_bytes_per_second * k.link)
    return np.asarray(p.layers * (2 * k.hop_seconds * np.log2(members) + moved))


def prefill_seconds(points: Points, k: Constants, prompts: float = 1.0) -> Array:
    """Return the seconds in which the replica computes so many prompts of `input_tokens` together."""
    p = points
    tokens = prompts * p.input_tokens
    tensor = p.accelerators / p.data
    rate, seen = _rate(p, k) * k.prefill, np.minimum(p.input_tokens, p.seen_tokens)
    attended = seen * (1 - seen / (2 * p.input_tokens))
    work = tokens * (_work(p, k, np.asarray(tokens)) + p.context_flop * attended) / p.accelerators / rate
    used = p.expert_bytes * touched(p.experts, p.experts_active, np.asarray(tokens)) / p.accelerators
    read = (p.dense_bytes / tensor + used) / (p.bytes_per_second * k.memory)
    return np.asarray(np.hypot(work, read) + _talk(p, k, np.asarray(tokens / p.data)))


def capacity(points: Points, reserve_ratio: float = 0.9) -> Array:
    """Return how many sequences of full length the replica's memory holds beside the weights; may be below 1."""
    p = points
    tensor = p.accelerators / p.data
    weights = p.dense_bytes / tensor + p.expert_bytes / p.accelerators
    free = p.memory_bytes * reserve_ratio - weights
    kept = p.kv_bytes / np.minimum(tensor, p.kv_ways) + p.index_bytes
    each = (p.input_tokens + p.output_tokens) * kept
    return np.asarray(np.maximum(free, 0) / np.maximum(each, 1.0) * p.data)


def engine(points: Points, k: Constants, constant: str = "") -> Array:
    """Return the engines' factors, or another constant that each engine has its own of."""
    values = np.array([getattr(k, name + constant) for name in BACKENDS])
    return np.asarray(values[np.asarray(points.backend, dtype=np.intp)])


def _first(p: Points, k: Constants, prompt: Array, others: Array) -> Array:
    """Return the time to the first token of a prompt of so many seconds that waits for so many others.

    A prefill is a step, with the launches of one.
    """
    alone = prompt + _overhead(p, k, np.zeros_like(prompt))
    wait = engine(p, k, "_queue") * others * prompt
    return np.asarray(engine(p, k, "_first_seconds") + alone + wait)


def aggregated(points: Points, k: Constants) -> tuple[Array, Array]:
    """Return time per output token and time to first token of a replica that prefills and decodes.

    In the steady state each sequence that ends lets a prompt in, so `sequences / output_tokens` prompts a step share
    it. What memory does not hold waits until others end.
    """
    p = points
    running = np.minimum(p.sequences, np.maximum(capacity(p), 1.0))
    prompt = prefill_seconds(p, k)
    step = decode_seconds(p, k, running)
    token = step + k.interference * running / p.output_tokens * prompt
    waiting = np.maximum(p.sequences / running - 1, 0) * p.output_tokens * token
    first = _first(p, k, prompt, running**k.crowd - 1) + step
    return np.asarray(token), np.asarray(first + k.waiting * waiting)


def disaggregated(points: Points, k: Constants, prefill: Points) -> tuple[Array, Array]:
    """Return the two times where other accelerators prefill; `prefill.sequences` are all prompts' owners each sees.

    Args:
        points: the replica that decodes.
        k: constants.
        prefill: the replica that prefills.
    """
    running = np.minimum(points.sequences, np.maximum(capacity(points), 1.0))
    token = decode_seconds(points, k, running) * k.apart
    prompt = prefill_seconds(prefill, k)
    cycle = prefill.sequences * prompt
    waiting = np.maximum(cycle - points.output_tokens * token, 0)
    first = _first(prefill, k, prompt, prefill.sequences**k.crowd_apart - 1) + token
    return np.asarray(token), np.asarray(k.handover * first + k.waiting * waiting)


@dataclass(frozen=True, slots=True)
class Fitted:
    """The constants, and the 1-sigma of the log error of each family on models that were left out."""

    constants: Constants
    errors: Mapping[str, float]
    server_ratio: float = 0.9


@cache
def fitted() -> Fitted:
    """Return the fitted constants of ``catalogue/fitted_inference.toml``."""
    text = (files("bessemer.twin") / "catalogue" / "fitted_inference.toml").read_text("utf-8")
    return parse(tomllib.loads(text))


def parse(declared: Mapping[str, Any]) -> Fitted:
    """Return fitted constants from the tables of their file."""
    constants = Constants(**{field.name: float(declared["constants"][field.name]) for field in fields(Constants)})
    return Fitted(constants, {name: float(each) for name, each in declared["errors"].items()})
