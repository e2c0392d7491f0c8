"""What one accelerator must hold in a training job: weights, gradients, optimizer, activations, logits.

Owns the counting of bytes, over arrays of layouts. Knows no time.
"""

from __future__ import annotations

import numpy as np

from bessemer.twin.collectives import Numbers
from bessemer.twin.steptime import Cut, Net, held

WEIGHT_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES = 2.0, 4.0, 12.0
"""A parameter in two bytes, its gradient in fp32, Adam's two moments and the master copy in fp32.
Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 3.1, with gradients accumulated in fp32 as Megatron does."""

SAVED_BYTES = {"fp32": 4.0, "fp8": 1.25, "fp4": 1.25}
"""Of an activation kept for the backward pass, two where nothing is said: narrow products keep their inputs in fp8, the
rest stays in two bytes. Source: NVIDIA Transformer Engine user guide, FP8 primer; the share is assumed."""

RESERVED_BYTES, FRAGMENTED_RATIO = 3e9, 0.05
"""Driver, kernels and communication buffers; memory that an allocator cannot use. Assumed: what tools report on an idle
process with a communicator is 1 to 4 GB."""


def state_bytes(net: Net, cut: Cut) -> Numbers:
    """Return the bytes of weights, gradients and optimizer on one accelerator.

    Source: arXiv:1910.02054, section 5: what is sharded is divided by the replicas. Experts have fewer replicas than
    the rest, by the ways they are spread. Fully sharded weights are held whole for two layers at a time.
    """
    dense, expert = held(net, cut)
    replicas = cut.data * cut.context
    copies = np.maximum(1.0, replicas * cut.tensor / cut.expert)
    learned = cut.trained * (GRADIENT_BYTES + OPTIMIZER_BYTES)
    shards_of_optimizer = np.where(np.greater(cut.sharded, 0), 1.0, 0.0)
    shards_of_weights = np.equal(cut.sharded, 2) & np.equal(cut.pipeline, 1)
    total: Numbers = 0.0
    for parameters, ways in ((dense, replicas), (expert, copies)):
        optimizer = cut.trained * OPTIMIZER_BYTES / np.where(shards_of_optimizer > 0, ways, 1.0)
        apart = WEIGHT_BYTES + cut.trained * GRADIENT_BYTES + optimizer
        together = (WEIGHT_BYTES + learned) / ways + 2 * WEIGHT_BYTES * cut.pipeline / net.layers
        total = total + parameters * np.where(shards_of_weights, together, apart)
    return total


def activation_bytes(
    net: Net, cut: Cut, is_fused: Numbers = 1.0, is_sequence_split: Numbers = 1.0, saved_bytes: float = 2.0
) -> Numbers:
    """Return the bytes of activations on the stage that holds most, and of the logits.

    Source: Korthikanti et al. 2022, arXiv:2205.05198, equations 2 to 6, written for grouped queries, gates and experts:
    what a layer keeps for its backward pass (inputs of its norms and products, queries, keys, values); the first stage
    keeps it for as many micro-batches as there are stages, the last one for one of them, and the logits in fp32 with
    their gradient in two bytes.
    """
    tokens = cut.micro * cut.sequence / cut.context
    split = np.where(np.greater(is_sequence_split, 0), cut.tensor, 1.0)
    result = np.where(np.greater(net.expert, 0), net.sent, net.hidden)
    numbers = 3 * net.hidden / split + (2 * net.query + 2 * net.keys + net.stream - result) / cut.tensor
    scores = 2.5 * net.heads * cut.sequence * net.attention_ratio / cut.tensor
    fused = np.greater(is_fused, 0)
    kept = saved_bytes * numbers + np.where(fused | np.greater(cut.recompute, 0), 0.0, 2 * scores)
    whole = tokens * (saved_bytes * numbers + np.where(fused, 0.0, 2 * scores))
    full = np.equal(cut.recompute, 2)
    layer = np.where(full, 2 * tokens * net.hidden / split, tokens * kept)
    micro_batches = np.maximum(np.ceil(cut.batch / (cut.data * cut.micro)), 1.0)
    waiting = np.where(np.equal(cut.virtual, 1), 1.0, 1 + (cut.pipeline - 1) / (cut.pipeline * cut.virtual))
    flying = np.minimum(micro_batches, cut.pipeline * waiting)
    stage = net.layers / cut.pipeline * layer
    logits = 6 * tokens * net.vocabulary / cut.tensor
    single = np.equal(cut.pipeline, 1)
    most = np.maximum(stage * flying, np.where(single, stage * flying + logits, stage + logits))
    return most + np.where(full, whole, 0.0)


def memory_bytes(
    net: Net, cut: Cut, is_fused: Numbers = 1.0, is_sequence_split: Numbers = 1.0, saved_bytes: float = 2.0
) -> Numbers:
    """Return the bytes that one accelerator needs, with what no job can use."""
    used = state_bytes(net, cut) + activation_bytes(net, cut, is_fused, is_sequence_split, saved_bytes)
    return used * (1 + FRAGMENTED_RATIO) + RESERVED_BYTES
