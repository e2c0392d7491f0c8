"""The best ways to cut a training job over accelerators: every sensible layout, timed at once.

Owns what is tried and what fits. Knows no equation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import Unsupported
from bessemer.twin import training
from bessemer.twin.accelerators import Accelerator
from bessemer.twin.shape import Shape
from bessemer.twin.steptime import Cut, Parts
from bessemer.twin.training import LinkRates, Steps, StepTime
from bessemer.twin.workload import Layout, Training

BEST = 10
"""How many layouts a search gives back."""

LONG = 16384
"""Tokens of a sequence from which cutting the sequence itself is tried."""

MOST = 2**20
"""Accelerators up to which the search for what would fit goes on."""

UNEVEN = 1.07
"""How much more than its share a pipeline stage may get when layers do not divide."""


@dataclass(frozen=True, slots=True)
class Found:
    """A layout and its step."""

    layout: Layout
    step: StepTime


def search(
    shape: Shape,
    job: Training,
    device: Accelerator,
    accelerators: int,
    links: LinkRates,
    stack: str = training.USUAL,
) -> list[Found]:
    """Return the fastest layouts that fit in memory, best first, ten at most.

    Args:
        shape: the network.
        job: what is trained; its own `layout` is not read.
        device: the accelerator.
        accelerators: how many; all are used.
        links: what joins them.
        stack: software, a name in ``catalogue/training_stacks.csv``.

    Raises:
        Unsupported: nothing fits; the hint says the least change that does.
    """
    cuts = candidates(shape, job, accelerators, links)
    if cuts is None:
        batch = job.batch_sequences
        raise Unsupported(
            f"a batch of {batch} sequences cannot be cut over {accelerators} accelerators",
            hint="Use a larger batch, or a number of accelerators with more divisors.",
        )
    steps = training.steps(shape, job, cuts, device, links, stack)
    seconds = np.broadcast_to(np.asarray(steps.parts.seconds, dtype=float), np.shape(cuts.tensor))
    fits = np.asarray(steps.memory_bytes) <= device.memory_bytes
    if not fits.any():
        raise _unfit(shape, job, device, accelerators, links)
    order = np.argsort(np.where(fits, seconds, np.inf), kind="stable")[: min(BEST, int(fits.sum()))]
    return [_found(shape, job, cuts, steps, device, int(index)) for index in order]


def least_memory_bytes(shape: Shape, job: Training, device: Accelerator, accelerators: int, links: LinkRates) -> float:
    """Return what one accelerator must hold at least, over all layouts; infinite if the batch cannot be cut so."""
    cuts = candidates(shape, job, accelerators, links)
    if cuts is None:
        return float("inf")
    return float(np.min(training.steps(shape, job, cuts, device, links).memory_bytes))


def candidates(shape: Shape, job: Training, accelerators: int, links: LinkRates) -> Cut | None:
    """Return every sensible layout as arrays, None if there is none.

    Tensor parallelism divides the heads and stays in a scale-up domain, unless the job says otherwise; stages get
    nearly equal shares of the layers; virtual stages need a pipeline; weights are sharded only without one.
    """
    rows = list(_meshes(shape, job, accelerators, links))
    if not rows:
        return None
    mesh = np.array(rows, dtype=float)
    choices = np.array([(sharded, again) for sharded in (1.0, 2.0) for again in (1.0, 2.0)])
    first = np.repeat(mesh, len(choices), axis=0)
    second = np.tile(choices, (len(mesh), 1))
    useful = (second[:, 0] < 2) | (first[:, 1] == 1)
    first, second = first[useful], second[useful]
    tensor, pipeline, data, context, expert, virtual, micro = first.T
    return Cut(
        tensor=tensor,
        pipeline=pipeline,
        data=data,
        context=context,
        expert=expert,
        virtual=virtual,
        micro=micro,
        sharded=second[:, 0],
        recompute=second[:, 1],
        sequence=float(job.sequence_tokens),
        batch=float(job.batch_sequences),
        trained=0.0 if job.method == "lora" else 1.0,
    )


def most(shape: Shape, job: Training, limit: int, links: LinkRates) -> int:
    """Return the largest number of accelerators, at most the limit, over which the job's batch can be cut."""
    groups = [tensor * pipeline * context for tensor, pipeline, context in _groups(shape, job, links)]
    return max(group * min(limit // group, job.batch_sequences) for group in groups)


def _powers(limit: int) -> list[int]:
    return [2**power for power in range(limit.bit_length()) if 2**power <= limit]


def _meshes(shape: Shape, job: Training, accelerators: int, links: LinkRates) -> Iterator[tuple[int, ...]]:
    """Yield tensor, pipeline, data, context, expert, virtual and micro-batch of every sensible layout."""
    for tensor, pipeline, context in _groups(shape, job, links):
        data, rest = divmod(accelerators, tensor * pipeline * context)
        if rest or data > job.batch_sequences:
            continue
        for expert in _experts(shape, data * tensor * context):
            for virtual, micro in _chunks(shape, job, pipeline, data):
                yield tensor, pipeline, data, context, expert, virtual, micro


def _groups(shape: Shape, job: Training, links: LinkRates) -> Iterator[tuple[int, int, int]]:
    """Yield tensor, pipeline and context ways of every sensible group that holds the network once."""
    contexts = [way for way in _powers(64) if way == 1 or job.sequence_tokens // way >= LONG // 4]
    ways = [job.tensor_parallel] if job.tensor_parallel else _powers(max(links.scaleup_accelerators, 1))
    return product([way for way in ways if shape.heads % way == 0], _stages(shape.layers), contexts)


def _stages(layers: int) -> list[int]:
    return [ways for ways in range(1, layers + 1) if -(-layers // ways) * ways <= UNEVEN * layers]


def _experts(shape: Shape, limit: int) -> list[int]:
    if not shape.is_mixture:
        return [1]
    return [ways for ways in _powers(min(limit, shape.experts)) if shape.experts % ways == 0]


def _chunks(shape: Shape, job: Training, pipeline: int, data: int) -> Iterator[tuple[int, int]]:
    share = job.batch_sequences // data
    stage = -(-shape.layers // pipeline)
    virtuals = [ways for ways in (1, 2, 4, 8) if ways == 1 or (pipeline > 1 and ways <= stage)]
    for micro in [ways for ways in _powers(min(share, 32)) if share % ways == 0]:
        for virtual in virtuals:
            if virtual == 1 or (share // micro) % pipeline == 0:
                yield virtual, micro


def _at(columns: Cut | Parts, index: int) -> dict[str, float]:
    values = {field.name: np.asarray(getattr(columns, field.name), dtype=float) for field in fields(columns)}
    return {name: float(value if value.ndim == 0 else value[index]) for name, value in values.items()}


def _found(shape: Shape, job: Training, cuts: Cut, steps: Steps, device: Accelerator, index: int) -> Found:
    chosen = _at(cuts, index)
    layout = Layout(
        tensor=int(chosen["tensor"]),
        pipeline=int(chosen["pipeline"]),
        data=int(chosen["data"]),
        context=int(chosen["context"]),
        expert=int(chosen["expert"]),
        virtual=int(chosen["virtual"]),
        micro_batch=int(chosen["micro"]),
        sharded="weights" if chosen["sharded"] == training.SHARDED["weights"] else "optimizer",
        recompute="full" if chosen["recompute"] == training.RECOMPUTE["full"] else "selective",
    )
    memory: NDArray[np.float64] = np.asarray(steps.memory_bytes, dtype=float)
    one = Steps(Parts(**_at(steps.parts, index)), float(memory[index]))
    return Found(layout, training.finished(shape, job, one, device, layout.accelerators))


def _unfit(shape: Shape, job: Training, device: Accelerator, accelerators: int, links: LinkRates) -> Unsupported:
    """Return the refusal of a job that is too large, with the least change that makes it fit."""
    least = least_memory_bytes(shape, job, device, accelerators, links)
    said = (
        f"{shape.name} does not fit on {accelerators} {device.name}: at least {least / 1e9:.0f} GB each, "
        f"they have {device.memory_bytes / 1e9:.0f} GB"
    )
    more = accelerators * 2
    while more <= MOST:
        if least_memory_bytes(shape, job, device, more, links) <= device.memory_bytes:
            return Unsupported(said, hint=f"The least change: {more} accelerators, or {least / 1e9:.0f} GB on each.")
        more *= 2
    return Unsupported(said, hint=f"The least change: accelerators with {least / 1e9:.0f} GB.")
