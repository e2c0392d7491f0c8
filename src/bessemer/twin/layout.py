"""The best ways to cut a training job over accelerators: every sensible layout, timed at once.

Owns what is tried, what fits, and how few accelerators do. Knows no equation.
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
        fewer = _counts(candidates(shape, job, accelerators, links, exact=False)).max()
        raise Unsupported(
            f"a batch of {batch:,} sequences cannot be cut over {accelerators:,} accelerators",
            hint=f"Use a larger batch, or {int(fewer):,} accelerators.",
        )
    steps = training.steps(shape, job, cuts, device, links, stack)
    order = _fitting(cuts, steps, device)
    if not len(order):
        raise _unfit(shape, job, device, accelerators, links, stack)
    return [_found(shape, job, cuts, steps, device, int(index)) for index in order[:BEST]]


def fastest(
    shape: Shape, job: Training, device: Accelerator, most: int, links: LinkRates, stack: str = training.USUAL
) -> list[Found]:
    """Return the fastest layout of each number of accelerators up to a limit, best first, ten at most.

    All accelerators are not always fastest: 1,016 have few divisors, 1,008 many.

    Args:
        shape: the network.
        job: what is trained; its own `layout` is not read.
        device: the accelerator.
        most: how many there are; without a network between them, those of a scale-up domain are taken.
        links: what joins them.
        stack: software, a name in ``catalogue/training_stacks.csv``.

    Raises:
        Unsupported: nothing fits; the hint says the least change that does.
    """
    most = int(min(most, training.alone_accelerators(links)))
    cuts = candidates(shape, job, most, links, exact=False)
    if cuts is None:
        raise _unfit(shape, job, device, most, links, stack)
    steps = training.steps(shape, job, cuts, device, links, stack)
    order = _fitting(cuts, steps, device)
    if not len(order):
        raise _unfit(shape, job, device, most, links, stack)
    _, first = np.unique(_counts(cuts)[order], return_index=True)
    return [_found(shape, job, cuts, steps, device, int(index)) for index in order[np.sort(first)[:BEST]]]


def least_memory_bytes(shape: Shape, job: Training, most: int, links: LinkRates, stack: str = training.USUAL) -> float:
    """Return what one accelerator must hold at least, over all layouts of so many accelerators or fewer."""
    cuts = candidates(shape, job, most, links, exact=False)
    return float(np.min(training.held_bytes(shape, job, cuts, stack))) if cuts else float("inf")


def least_accelerators(
    shape: Shape, job: Training, device: Accelerator, links: LinkRates, stack: str = training.USUAL
) -> int | None:
    """Return the fewest accelerators on which a job fits in memory; None if a million are too few."""
    low, high = 0, 1
    while least_memory_bytes(shape, job, high, links, stack) > device.memory_bytes:
        low, high = high, high * 2
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if least_memory_bytes(shape, job, middle, links, stack) > device.memory_bytes:
            low = middle
        else:
            high = middle
    return high


def candidates(shape: Shape, job: Training, accelerators: int, links: LinkRates, *, exact: bool = True) -> Cut | None:
    """Return every sensible layout as arrays, None if there is none.

    Tensor parallelism divides the heads and stays in a scale-up domain, unless the job says otherwise; stages get
    nearly equal shares of the layers; virtual stages need a pipeline; weights are sharded only without one.

    Args:
        shape: the network.
        job: what is trained.
        accelerators: how many.
        links: what joins them.
        exact: whether all are used; else as many as hold whole replicas, and fewer where the batch favours it.
    """
    rows = list(_meshes(shape, job, accelerators, links, exact))
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


def _powers(limit: int) -> list[int]:
    return [2**power for power in range(limit.bit_length()) if 2**power <= limit]


def _meshes(shape: Shape, job: Training, accelerators: int, links: LinkRates, exact: bool) -> Iterator[tuple[int, ...]]:
    """Yield tensor, pipeline, data, context, expert, virtual and micro-batch of every sensible layout."""
    for tensor, pipeline, context in _groups(shape, job, links):
        data, rest = divmod(accelerators, tensor * pipeline * context)
        if exact:
            ways = {data} if not rest and data <= job.batch_sequences else set()
        else:
            ways = _replicas(job.batch_sequences, data)
        for data in sorted(ways):
            for expert in _experts(shape, data * tensor * context):
                for virtual, micro in _chunks(shape, job, pipeline, data):
                    yield tensor, pipeline, data, context, expert, virtual, micro


def _replicas(batch: int, limit: int) -> set[int]:
    """Return the numbers of replicas worth trying: all, the fewest with as many rows each, and those that divide the
    batch below all, half, a quarter and an eighth: more rows each may fill a pipeline.

    >>> sorted(_replicas(512, 63)), sorted(_replicas(48, 1000)), _replicas(8, 0)
    ([4, 8, 16, 32, 57, 63], [6, 12, 24, 48], set())
    """
    top = min(limit, batch)
    if top < 1:
        return set()
    parts = [top // part for part in (1, 2, 4, 8) if top >= part]
    even = {next(ways for ways in range(part, 0, -1) if batch % ways == 0) for part in parts}
    return {top, -(-batch // -(-batch // top))} | even


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


def _counts(cuts: Cut | None) -> NDArray[np.float64]:
    """Return the accelerators of each layout; one, of one accelerator, where there is none."""
    one = np.ones(1)
    return one if cuts is None else np.asarray(cuts.tensor * cuts.pipeline * cuts.data * cuts.context, dtype=float)


def _fitting(cuts: Cut, steps: Steps, device: Accelerator) -> NDArray[np.intp]:
    """Return the layouts that fit, fastest first and of equals those with the fewest accelerators."""
    counts = _counts(cuts)
    seconds = np.broadcast_to(np.asarray(steps.parts.seconds, dtype=float), counts.shape)
    fits = np.asarray(steps.memory_bytes) <= device.memory_bytes
    return np.lexsort((counts, np.where(fits, seconds, np.inf)))[: int(fits.sum())]


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


def _unfit(
    shape: Shape, job: Training, device: Accelerator, accelerators: int, links: LinkRates, stack: str
) -> Unsupported:
    """Return the refusal of a job that is too large, with the least change that makes it fit."""
    fewer = candidates(shape, job, accelerators, links, exact=False)
    cuts = candidates(shape, job, accelerators, links) or fewer
    if fewer is None or cuts is None:
        told = f"{shape.name} cut {job.tensor_parallel} ways by tensors takes more than {accelerators:,} accelerators"
        return Unsupported(told, hint="Ask for more accelerators, or leave tensor_parallel out.")
    least = np.ceil(np.min(training.held_bytes(shape, job, cuts, stack)) / 1e9)
    said = (
        f"{shape.name} does not fit on {accelerators:,} {device.name}: at least {least:.0f} GB each, "
        f"they have {device.memory_bytes / 1e9:.0f} GB"
    )
    count = least_accelerators(shape, job, device, links, stack)
    if count is None:
        return Unsupported(said, hint=f"The least change: accelerators with {least:.0f} GB.")
    if count <= accelerators:
        fits = np.asarray(training.held_bytes(shape, job, fewer, stack)) <= device.memory_bytes
        count = int(_counts(fewer)[fits].max())
    joined = " that a network joins" if count > training.alone_accelerators(links) else ""
    return Unsupported(said, hint=f"The least change: {count:,} accelerators{joined}, or {least:.0f} GB on each.")
