"""The physics of one training step: what an accelerator computes, moves and waits for, over arrays of layouts.

Owns the equations; each takes numbers or arrays that broadcast, so that a thousand layouts, or a thousand published
rows, cost little more than one. Knows no catalogue, no file and no search. The constants are fitted elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bessemer.twin.collectives import (
    Numbers,
    Wires,
    exchange_seconds,
    gather_seconds,
    message_seconds,
    reduce_seconds,
    ring_rate,
)
from bessemer.twin.shape import Shape


@dataclass(frozen=True, slots=True)
class Net:
    """A network as the equations need it. Parameters are counts, the rest are widths of one layer.

    Attributes:
        layers: how many there are.
        hidden: width of the stream between layers.
        heads: query heads.
        query: width of all query heads together.
        keys: width of all key heads together.
        vocabulary: rows of the embedding.
        attention_ratio: share of the layers that attend to all tokens.
        state_ratio: share of the layers that keep a state instead.
        sinks: 1 if heads have learned sinks, else 0.
        mixer: parameters of a layer outside its feed-forward block.
        inner: feed-forward parameters that a token passes in a layer.
        stream: numbers that a token reads and writes in the feed-forward block of a layer.
        sent: numbers that a token sends to experts in a layer; 0 in a dense model.
        routed: share of the layers that have experts.
        dense: all parameters of the layers that are not experts.
        expert: parameters of all experts.
    """

    layers: Numbers
    hidden: Numbers
    heads: Numbers
    query: Numbers
    keys: Numbers
    vocabulary: Numbers
    attention_ratio: Numbers
    state_ratio: Numbers
    sinks: Numbers
    mixer: Numbers
    inner: Numbers
    stream: Numbers
    sent: Numbers
    routed: Numbers
    dense: Numbers
    expert: Numbers


def net(shape: Shape) -> Net:
    """Return what the equations need of a network.

    The layers with experts are counted from the parameters that no token passes; what a token passes besides experts
    and embedding is taken as the mixer (attention, latent projections or a state-space block).
    """
    width, hidden = shape.expert_width or shape.hidden, shape.hidden
    query, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    block = float(shape.ffn_matrices * width * shape.ffn)
    mixer = float(hidden * (2 * query + 2 * keys))
    share, passes, expert = 1.0, 1, 0.0
    if shape.is_mixture:
        passes = shape.experts_active
        idle = max(shape.experts - passes, 1) * block
        share = min(1.0, max((shape.parameters - shape.active_parameters) / idle / shape.layers, 0.05))
        outside = (shape.active_parameters - shape.vocabulary * hidden) / shape.layers - passes * block * share
        mixer = max(outside, 0.3 * mixer * shape.attention_ratio)
        expert = shape.experts * block * share * shape.layers
    inner = passes * block * share
    return Net(
        layers=float(shape.layers),
        hidden=float(hidden),
        heads=float(shape.heads),
        query=float(query),
        keys=float(keys),
        vocabulary=float(shape.vocabulary),
        attention_ratio=shape.attention_ratio,
        state_ratio=shape.state_ratio,
        sinks=float(shape.has_sinks),
        mixer=mixer,
        inner=inner,
        stream=float(passes * share * (2 * width + shape.ffn_matrices * shape.ffn)),
        sent=float(passes * share * width) if shape.is_mixture else 0.0,
        routed=share if shape.is_mixture else 0.0,
        dense=shape.layers * (mixer + (0.0 if shape.is_mixture else inner)),
        expert=expert,
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """A layout and the batch, in numbers: `sharded` 0 nothing, 1 optimizer, 2 weights; `recompute` 0 none, 1
    selective, 2 full; `sequence` tokens a row, `batch` rows a step; `trained` is the share of the weights that learn.
    """

    tensor: Numbers
    pipeline: Numbers
    data: Numbers
    context: Numbers
    expert: Numbers
    virtual: Numbers
    micro: Numbers
    sharded: Numbers
    recompute: Numbers
    sequence: Numbers
    batch: Numbers
    trained: Numbers = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Wires):
    """The accelerator, with its links: rates a second.

    `flop` is the peak in the job's precision, `wide_flop` that in bf16; `reached` the share of a peak that the best
    measured matrix product gets; `narrow` 0 for bf16, 1 for fp8, 2 for fp4; `memory` in bytes.
    """

    flop: Numbers
    wide_flop: Numbers
    reached: Numbers
    narrow: Numbers
    memory: Numbers


@dataclass(frozen=True, slots=True)
class Stack:
    """What software adds: `factor` on all kernels, `host_seconds` to launch a layer's pass, `route_seconds` more for a
    layer with experts (the router, the counts it waits for, a kernel for each expert), flags 0 or 1.
    """

    factor: Numbers
    host_seconds: Numbers
    route_seconds: Numbers
    is_fused: Numbers
    is_sink_fused: Numbers
    is_sequence_split: Numbers


@dataclass(frozen=True, slots=True)
class Constants:
    """The constants that hold for all networks, machines and software; see ``catalogue/fitted_training.toml``.

    Attributes:
        matmul: share of the best measured matrix product that a model's products get.
        matmul_bytes: how often a product's operands pass the memory.
        attention: the same share for fused attention.
        attention_passes: how often unfused attention moves its square of scores.
        elementwise: numbers moved for each number of the stream between layers, one pass.
        elementwise_inner: the same in the feed-forward block.
        elementwise_routed: the same for what goes to experts: sorting, padding, weighing.
        elementwise_state: numbers moved for each number of the stream in a layer with a state.
        loose: how many times more software without fused kernels moves.
        vocabulary_passes: how often the logits are moved.
        fp8: share of the fp8 peak, beside bf16's share of its own.
        fp4: the same for fp4.
        up: share of the scale-up bandwidth that collectives get.
        out: share of the scale-out bandwidth.
        tensor_exposed: share of the tensor-parallel traffic that nothing hides.
        expert_exposed: of the traffic to experts.
        context_exposed: of the keys and values passed round.
        data_exposed: of the gradients' reduction; all of it in software from before fused attention.
        gather_exposed: of the weights gathered layer by layer.
        imbalance: how much of the vocabulary's work only the last stage has.
        grouped: share of `matmul` that products of experts get.
        step_seconds: once a step.
        straggle: share that each doubling over `ALONE` accelerators adds.
    """

    matmul: float
    matmul_bytes: float
    attention: float
    attention_passes: float
    elementwise: float
    elementwise_inner: float
    elementwise_routed: float
    elementwise_state: float
    loose: float
    vocabulary_passes: float
    fp8: float
    fp4: float
    up: float
    out: float
    tensor_exposed: float
    expert_exposed: float
    context_exposed: float
    data_exposed: float
    gather_exposed: float
    imbalance: float
    grouped: float
    step_seconds: float
    straggle: float


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of a step, by what they go to; the sum is the step."""

    compute: Numbers
    tensor: Numbers
    expert: Numbers
    bubble: Numbers
    data: Numbers
    other: Numbers

    @property
    def seconds(self) -> Numbers:
        """The whole step."""
        return self.compute + self.tensor + self.expert + self.bubble + self.data + self.other


@dataclass(frozen=True, slots=True)
class Passes:
    """Seconds of one micro-batch in one layer: all passes together, on the accelerator."""

    kernels: Numbers
    tensor: Numbers
    expert: Numbers
    launches: Numbers


ALONE = 64.0
"""Accelerators below which a step does not wait for the slowest of them. Found beside 8, 32 and 128: a flat choice."""

ADAM_BYTES = 30.0
"""Bytes that an optimizer step moves for each parameter: two moments and the master weight read and written in fp32,
the gradient read, the weight written. Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1, counted."""


def _rates(machine: Machine, constants: Constants) -> Numbers:
    """Return the operations a second of a large matrix product in the job's precision."""
    least = np.where(np.equal(machine.narrow, 2), constants.fp4, 1.0)
    narrow = np.where(np.equal(machine.narrow, 1), constants.fp8, least)
    return machine.flop * machine.reached * constants.matmul * narrow


def _fuses(net: Net, stack: Stack) -> NDArray[np.bool_]:
    """Return whether attention runs in fused kernels."""
    return np.asarray(np.greater(stack.is_fused, 0) & (np.less(net.sinks, 1) | np.greater(stack.is_sink_fused, 0)))


def _forward(net: Net, cut: Cut, machine: Machine, stack: Stack, constants: Constants) -> tuple[Numbers, ...]:
    """Return seconds of products, attention and memory-bound operations of one layer's forward pass.

    Source: products 2 operations a parameter and token; attention 4 * sequence * width a token, half of it when fused
    kernels skip what causality masks (Dao 2023, arXiv:2307.08691, section 3.1); unfused attention moves heads *
    sequence^2 scores, in layers with a window too (Korthikanti et al. 2022, arXiv:2205.05198, section 4).
    """
    tokens = cut.micro * cut.sequence / cut.context
    rate = _rates(machine, constants)
    is_mixture = np.greater(net.expert, 0)
    inner_rate = np.where(is_mixture, rate * constants.grouped, rate)
    weights = (net.dense / cut.tensor + net.expert / cut.expert) / net.layers
    activations = tokens * (4 * net.hidden + (2 * net.query + 2 * net.keys + net.stream) / cut.tensor)
    moved = 2 * (weights + activations) * constants.matmul_bytes / machine.memory
    products = 2 * tokens / cut.tensor * (net.mixer / rate + net.inner / inner_rate) + moved
    is_fused, fuses = np.greater(stack.is_fused, 0), _fuses(net, stack)
    seen = np.where(fuses | np.equal(net.sinks, 0), net.attention_ratio, 1.0)
    square = 4 * tokens * cut.sequence * net.query / cut.tensor * seen
    scores = 2 * tokens * cut.sequence * net.heads / cut.tensor * seen
    fused = 0.5 * square / (machine.wide_flop * machine.reached * constants.attention)
    more = np.where(is_fused, 1.0, constants.loose)
    loose = square / rate + scores * constants.attention_passes * more / machine.memory
    attention = np.where(fuses, fused, loose)
    split = np.where(np.greater(stack.is_sequence_split, 0), cut.tensor, 1.0)
    inner = np.where(is_mixture, constants.elementwise_routed, constants.elementwise_inner) * net.stream / cut.tensor
    state = constants.elementwise_state * net.hidden * net.state_ratio / cut.tensor
    stream = (constants.elementwise * net.hidden / split + inner) * more + state
    return products, attention, 2 * tokens * stream / machine.memory + stack.route_seconds * net.routed


def _layer(net: Net, cut: Cut, machine: Machine, stack: Stack, constants: Constants) -> Passes:
    """Return the seconds of one micro-batch in one layer: forward, backward, and what is computed again.

    Source: backward is twice forward, full recomputation one forward more (Narayanan et al. 2021, arXiv:2104.04473,
    section 3.5); fused attention's backward 2.5 times (arXiv:2307.08691, section 4.1); two all-reduces a pass for
    tensor parallelism (Shoeybi et al. 2019, arXiv:1909.08053, section 3); two all-to-alls a pass for experts (Lepikhin
    et al. 2020, arXiv:2006.16668, section 3).
    """
    products, attention, stream = _forward(net, cut, machine, stack, constants)
    full, selective = np.equal(cut.recompute, 2), np.equal(cut.recompute, 1)
    learned, again, fuses = 1 + cut.trained, np.where(full, 1.0, 0.0), _fuses(net, stack)
    back = np.where(fuses, 2.5, 2.0)
    repeat = again + np.where(selective & ~fuses & np.equal(net.sinks, 0), 1.0, 0.0)
    kernels = products * (1 + learned + again) + attention * (1 + back + repeat) + stream * (3 + again)
    tokens = cut.micro * cut.sequence / cut.context
    rings = np.where(np.greater(net.expert, 0), 1.0, 2.0) * (2 + again)
    wait = reduce_seconds(0.0, cut.tensor, 1.0, machine)
    ring = reduce_seconds(tokens * net.hidden * 2, cut.tensor, 1.0, machine) - wait
    shown = np.where(np.greater(stack.is_fused, 0), constants.tensor_exposed, 1.0)
    tensor = rings * (ring * shown + wait)
    whole = cut.micro * cut.sequence * 2 * net.keys * 2 / cut.tensor
    context = 3 * gather_seconds(whole, cut.context, cut.tensor, machine) * constants.context_exposed
    travel = exchange_seconds(2 * tokens / cut.tensor * net.sent * 2, cut.expert, machine)
    expert = (2 + again) * np.where(np.greater(net.expert, 0), travel, 0.0) * constants.expert_exposed
    launches = stack.host_seconds * (2.5 + again) * np.ones_like(kernels)
    return Passes(kernels * stack.factor, tensor + context, expert, launches)


def held(net: Net, cut: Cut) -> tuple[Numbers, Numbers]:
    """Return the parameters of one accelerator before data sharding: dense with tables, and experts."""
    tables = np.where(np.equal(cut.pipeline, 1), 2.0, 1.0) * net.vocabulary * net.hidden / cut.tensor
    return net.dense / (cut.tensor * cut.pipeline) + tables, net.expert / (cut.expert * cut.pipeline)


def _soft_max(a: Numbers, b: Numbers, sharpness: float = 6.0) -> Numbers:
    """Return a smooth maximum: that of two things done side by side that hinder each other a little."""
    return (a**sharpness + b**sharpness) ** (1 / sharpness)


def _data(net: Net, cut: Cut, machine: Machine, constants: Constants) -> tuple[Numbers, Numbers]:
    """Return seconds of the collectives among replicas: once a step, and once a micro-batch where weights are sharded.

    Source: gradients are reduced in fp32, weights gathered in two bytes, layer by layer; fully sharded weights are
    gathered for both passes (Rajbhandari et al. 2020, arXiv:1910.02054, section 7), with a pipeline only once a step
    (pytorch/torchtitan docs/fsdp.md: weights stay whole between micro-batches).
    """
    dense, expert = held(net, cut)
    replicas = cut.data * cut.context
    copies = np.maximum(1.0, replicas * cut.tensor / cut.expert)
    traffic, rate = dense * (1 - 1 / replicas) + expert * (1 - 1 / copies), ring_rate(replicas, cut.tensor, machine)
    wait = net.layers / cut.pipeline * gather_seconds(0.0, replicas, cut.tensor, machine)
    once = (traffic * np.where(np.greater(cut.sharded, 0), 6.0, 8.0) / rate + 2 * wait) * cut.trained
    each = traffic * (4 + 4 * cut.trained) / rate + (2 + cut.trained) * wait
    is_sharded = np.equal(cut.sharded, 2) & np.equal(cut.pipeline, 1)
    return np.where(is_sharded, 0.0, once), np.where(is_sharded, each, 0.0)


def parts(net: Net, cut: Cut, machine: Machine, stack: Stack, constants: Constants) -> Parts:
    """Return the seconds of one step, by what they go to.

    Source: the bubble is (pipeline - 1) / virtual of a micro-batch's time (Narayanan et al. 2021, arXiv:2104.04473,
    section 2.2). What runs side by side is joined by a smooth maximum; no software beats the vendor's peak.
    """
    stack = replace(stack, factor=np.maximum(stack.factor, _rates(machine, constants) / machine.flop))
    machine = replace(machine, up=machine.up * constants.up, out=machine.out * constants.out)
    layer = _layer(net, cut, machine, stack, constants)
    layers, tokens = net.layers / cut.pipeline, cut.micro * cut.sequence / cut.context
    micro_batches = np.maximum(np.ceil(cut.batch / (cut.data * cut.micro) - 1e-6), 1.0)
    logits = 2 * tokens * net.hidden * net.vocabulary / cut.tensor / _rates(machine, constants) * (2 + cut.trained)
    logits = logits + constants.vocabulary_passes * 4 * tokens * net.vocabulary / cut.tensor / machine.memory
    logits = logits * stack.factor * (1 / cut.pipeline + constants.imbalance * (1 - 1 / cut.pipeline))
    busy, device = layers * layer.kernels, layers * (layer.kernels + layer.tensor + layer.expert)
    launched = layers * _soft_max(device / layers, layer.launches)
    whole = cut.pipeline * cut.tensor * cut.context * cut.data
    hop = message_seconds(tokens * net.hidden * 2 / cut.tensor, whole, machine)
    hops = np.where(np.greater(cut.pipeline, 1), 2 * cut.virtual * hop, 0.0)
    once, each = _data(net, cut, machine, constants)
    stage = launched + logits + hops
    gathered = np.maximum(_soft_max(stage, each) - stage, 0.0) + constants.gather_exposed * each
    bubble = (cut.pipeline - 1) / cut.virtual * (launched + hops * 0.5)
    exposed = np.where(np.greater(stack.is_fused, 0), constants.data_exposed, 1.0)
    reduction = once * exposed + (1 - exposed) * np.maximum(once - stage, 0.0)
    owners = np.where(np.greater(cut.sharded, 0), cut.data * cut.context, 1.0)
    update = sum(held(net, cut)) / owners * ADAM_BYTES * cut.trained / machine.memory
    slow = 1 + constants.straggle * np.log2(np.maximum(whole / ALONE, 1.0))
    return Parts(
        compute=micro_batches * (busy + logits) * slow,
        tensor=micro_batches * layers * layer.tensor * slow,
        expert=micro_batches * layers * layer.expert * slow,
        bubble=bubble * slow,
        data=(reduction + micro_batches * gathered) * slow,
        other=(micro_batches * (launched - device + hops) + update + constants.step_seconds) * slow,
    )
