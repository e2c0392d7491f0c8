"""The time of one training step on a site, with how sure it is; and what a measured run says about a larger one.

Owns joining network, job, layout, accelerator and links for the equations in ``steptime``, and the fitted constants.
Knows no search, no failures and no money.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, TypeVar

import numpy as np

from bessemer.core.errors import Unsupported
from bessemer.twin import steptime
from bessemer.twin.accelerators import Accelerator
from bessemer.twin.collectives import Numbers
from bessemer.twin.interval import Interval
from bessemer.twin.memory import SAVED_BYTES, memory_bytes
from bessemer.twin.shape import Shape
from bessemer.twin.steptime import Constants, Cut, Machine, Parts, Stack
from bessemer.twin.workload import Layout, Training

Columns = TypeVar("Columns", steptime.Net, Cut, Machine, Stack)

USUAL_REACHED = 0.78
"""Where nobody measured the best matrix product: the middle of the catalogue's ``achievable_ratio``."""

USUAL = "usual"
"""The software that nobody named."""

MANY = 64
"""Accelerators from which a job counts as large."""

EIGHTY = 1.2816
"""Standard normal deviations that hold 80 % between them and their mirror."""

SHARDED = {"none": 0.0, "optimizer": 1.0, "weights": 2.0}
RECOMPUTE = {"none": 0.0, "selective": 1.0, "full": 2.0}
NARROW = {"fp8": 1.0, "int8": 1.0, "fp4": 2.0}


class Tier(Protocol):
    """The tier of a network that has less bandwidth than those below it."""

    @property
    def pod_accelerators(self) -> float:
        """That reach each other below it; infinite where there is no such tier."""

    @property
    def oversubscription(self) -> float:
        """Bandwidth below it over that through it; 1 is none."""

    @property
    def even_accelerators(self) -> float:
        """Up to which all exchange with all at full rate."""


class LinkRates(Tier, Protocol):
    """What a step needs of a network; ``network.Links`` is one."""

    @property
    def scaleup_accelerators(self) -> int:
        """In one scale-up domain."""

    @property
    def scaleup_bytes_per_second(self) -> float:
        """Of each accelerator, in one direction."""

    @property
    def scaleout_bytes_per_second(self) -> float:
        """Of each accelerator, in one direction."""

    @property
    def scaleup_seconds(self) -> float:
        """Of the smallest message."""

    @property
    def scaleout_seconds(self) -> float:
        """Of the smallest message."""


ONCE = Interval.exactly(1.0)


@dataclass(frozen=True, slots=True)
class StepTime:
    """The predicted time of one optimizer step.

    Attributes:
        seconds: all of it.
        compute_seconds: products, attention and memory-bound operations.
        communication_seconds: collectives that nothing hides.
        bubble_seconds: pipeline stages that wait.
        other_seconds: launches, the optimizer, stage hand-overs.
        mfu_ratio: model FLOPs over the bf16 peak of all accelerators in that time.
        flop: the model's operations of the step, over all accelerators, without recomputation.
        memory_bytes: that one accelerator needs.
        relative_error: standard deviation of the logarithm of measured over predicted, for such jobs.
        method: how much longer than its gradient step a step of such a method takes.
        data_seconds: that it waits for its data, if storage is slower than the step.
    """

    seconds: float
    compute_seconds: float
    communication_seconds: float
    bubble_seconds: float
    other_seconds: float
    mfu_ratio: float
    flop: float
    memory_bytes: float
    relative_error: float
    method: Interval = ONCE
    data_seconds: float = 0.0

    @property
    def interval(self) -> Interval:
        """The step time in seconds, with the bounds that 80 % of measurements lie in."""
        low, high = (math.log(bound / self.method.mid) for bound in (self.method.low, self.method.high))
        away = EIGHTY * self.relative_error
        below, above = math.exp(math.hypot(away, low)), math.exp(math.hypot(away, high))
        return Interval(self.seconds, self.seconds / below, self.seconds * above)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was fitted to published measurements: constants, software stacks, and the errors that are left."""

    constants: Constants
    stacks: Mapping[str, Stack]
    errors: Mapping[str, float]


def spread(seconds: float, relative_error: float) -> Interval:
    """Return the interval that holds 80 % of a log-normal outcome.

    >>> str(spread(10.0, 0.1))
    '10 [8.8, 11.4]'
    """
    away = math.exp(EIGHTY * relative_error)
    return Interval(seconds, seconds / away, seconds * away)


@cache
def fitted() -> Fitted:
    """Return the fitted constants of ``catalogue/fitted_training.toml``."""
    text = (files("bessemer.twin") / "catalogue" / "fitted_training.toml").read_text("utf-8")
    return parse(tomllib.loads(text))


def parse(declared: Mapping[str, Any]) -> Fitted:
    """Return fitted constants from the tables of their file."""
    constants = Constants(**{field.name: float(declared["constants"][field.name]) for field in fields(Constants)})
    stacks = {name: Stack(**{key: float(each[key]) for key in STACK}) for name, each in declared["stacks"].items()}
    return Fitted(constants, stacks, {name: float(each) for name, each in declared["errors"].items()})


STACK = tuple(field.name for field in fields(Stack))


def machine(device: Accelerator, links: LinkRates, precision: str) -> Machine:
    """Return an accelerator and its links as the equations need them."""
    reached = device.achievable_ratio or USUAL_REACHED
    return Machine(
        flop=device.flop_per_second(precision),
        wide_flop=device.bf16_flop_per_second,
        reached=reached,
        narrow=NARROW.get(precision, 0.0) if device.flop_per_second(precision) > device.bf16_flop_per_second else 0.0,
        memory=device.memory_bytes_per_second,
        domain=float(max(links.scaleup_accelerators, 1)),
        up=links.scaleup_bytes_per_second or links.scaleout_bytes_per_second,
        out=links.scaleout_bytes_per_second or links.scaleup_bytes_per_second,  # `steps` refuses to leave a domain then
        up_seconds=links.scaleup_seconds,
        out_seconds=links.scaleout_seconds,
        pod=links.pod_accelerators,
        oversubscription=links.oversubscription,
        even=links.even_accelerators,
    )


def alone_accelerators(links: LinkRates) -> float:
    """Return how many accelerators can work together: those of a scale-up domain without a network, else any number."""
    return math.inf if links.scaleout_bytes_per_second else float(max(links.scaleup_accelerators, 1))


def cut(job: Training, layout: Layout) -> Cut:
    """Return a job's layout as the equations need it."""
    return Cut(
        tensor=float(layout.tensor),
        pipeline=float(layout.pipeline),
        data=float(layout.data),
        context=float(layout.context),
        expert=float(layout.expert),
        virtual=float(layout.virtual),
        micro=float(layout.micro_batch),
        sharded=SHARDED[layout.sharded],
        recompute=RECOMPUTE[layout.recompute],
        sequence=float(job.sequence_tokens),
        batch=float(job.batch_sequences),
        trained=0.0 if job.method == "lora" else 1.0,
    )


def stacked(columns: list[Columns]) -> Columns:
    """Return one dataclass of arrays from many of numbers."""
    kind = type(columns[0])
    names = [field.name for field in fields(columns[0])]
    return kind(**{name: np.array([getattr(each, name) for each in columns], dtype=float) for name in names})


@dataclass(frozen=True, slots=True)
class Steps:
    """Step times of many layouts at once: seconds by part, and bytes on one accelerator; arrays of one length."""

    parts: Parts
    memory_bytes: Numbers


def steps(shape: Shape, job: Training, cuts: Cut, device: Accelerator, links: LinkRates, stack: str = USUAL) -> Steps:
    """Return the step times of many layouts of one job, for a search.

    Args:
        shape: the network.
        job: what is trained.
        cuts: the layouts as arrays.
        device: the accelerator.
        links: what joins them.
        stack: software, a name in ``catalogue/training_stacks.csv``.

    Raises:
        Unsupported: a layout is larger than a scale-up domain, and no network joins the domains.
    """
    alone, most = alone_accelerators(links), float(np.max(cuts.tensor * cuts.pipeline * cuts.data * cuts.context))
    if most > alone:
        raise Unsupported(
            f"no network joins servers, so {most:,.0f} accelerators cannot train together; {alone:,.0f} can",
            hint=f"Ask for at most {alone:,.0f}, or give the site a [fabric] and its servers network adapters (nics).",
        )
    known = fitted()
    software = known.stacks.get(stack) or known.stacks[USUAL]
    seconds = steptime.parts(_net(shape, job), cuts, machine(device, links, job.precision), software, known.constants)
    return Steps(seconds, held_bytes(shape, job, cuts, stack))


def held_bytes(shape: Shape, job: Training, cuts: Cut, stack: str = USUAL) -> Numbers:
    """Return the bytes that one accelerator must hold, for each of many layouts of one job. See `steps`."""
    known = fitted()
    software = known.stacks.get(stack) or known.stacks[USUAL]
    saved = SAVED_BYTES.get(job.precision, 2.0)
    return memory_bytes(_net(shape, job), cuts, software.is_fused, software.is_sequence_split, saved)


def _net(shape: Shape, job: Training) -> steptime.Net:
    net = steptime.net(shape)
    return replace(net, vocabulary=0.0) if job.method == "embed" else net


def step(
    shape: Shape, job: Training, layout: Layout, device: Accelerator, links: LinkRates, stack: str = USUAL
) -> StepTime:
    """Return the predicted time of one optimizer step of a job, cut as `layout` says.

    Args:
        shape: the network.
        job: what is trained.
        layout: how it is cut.
        device: the accelerator.
        links: what joins them.
        stack: software, a name in ``catalogue/training_stacks.csv``.

    Raises:
        Unsupported: it is larger than a scale-up domain, and no network joins the domains.
    """
    found = steps(shape, job, cut(job, layout), device, links, stack)
    return finished(shape, job, found, device, layout.accelerators)


def finished(shape: Shape, job: Training, found: Steps, device: Accelerator, accelerators: int) -> StepTime:
    """Return one layout's step time from the parts that the equations give."""
    compute, tensor, expert, bubble, data, other = (
        float(getattr(found.parts, part)) * METHODS[job.method].mid for part in PARTS
    )
    seconds = compute + tensor + expert + bubble + data + other
    flop = flop_per_step(shape, job)
    return StepTime(
        seconds=seconds,
        compute_seconds=compute,
        communication_seconds=tensor + expert + data,
        bubble_seconds=bubble,
        other_seconds=other,
        mfu_ratio=flop / (seconds * accelerators * device.bf16_flop_per_second),
        flop=flop,
        memory_bytes=float(found.memory_bytes),
        relative_error=fitted().errors[family(shape, accelerators)],
        method=METHODS[job.method],
    )


PARTS = tuple(field.name for field in fields(Parts))

METHODS = dict.fromkeys(("pretrain", "finetune", "lora", "embed"), ONCE) | {"rl": Interval(3.0, 2.0, 10.0)}
"""Time of a step over that of its gradient step. Reinforcement learning also writes the answers it learns from, which
takes half to nine tenths of the time. Source: Hu et al. 2024, arXiv:2405.11143, and Sheng et al. 2024,
arXiv:2409.19256, figure 3; the middle, two thirds of it, is assumed."""


def flop_per_step(shape: Shape, job: Training) -> float:
    """Return the model's operations of one step over all accelerators; an adapter needs no gradient of the weights."""
    tokens = float(job.batch_sequences * job.sequence_tokens)
    whole = shape.training_flop_per_token(job.sequence_tokens) * tokens
    return whole * 2 / 3 if job.method == "lora" else whole


def family(shape: Shape, accelerators: int) -> str:
    """Return the kind of job that the fitted errors are kept by."""
    return "mixture" if shape.is_mixture else "large" if accelerators >= MANY else "small"


def anchored(measured_seconds: float, here: StepTime, there: StepTime) -> Interval:
    """Return the step time of a larger or smaller run of one recipe, from a measured one.

    Args:
        measured_seconds: of a step where it was measured.
        here: what the model says of that run.
        there: what the model says of the other: the same network, software and cut, more or fewer replicas.
    """
    return spread(measured_seconds * there.seconds / here.seconds, fitted().errors["anchored"])
