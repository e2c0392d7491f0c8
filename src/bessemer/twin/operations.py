"""How much of the time a job trains: failures, checkpoints, restarts, spares.

Owns the interval between checkpoints, and goodput in closed form. Knows no queue, no power and no money; `simulate`
plays the same rules out event by event.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bessemer.core.errors import Unsupported
from bessemer.twin.hazards import (
    WIDTH,
    constants,
    hazards,
    job_failures_per_day,
    mttf_hours,
    node_failures_per_day,
    planned_per_day,
    replace_ratio,
)
from bessemer.twin.interval import Interval
from bessemer.twin.site import Operations, Site
from bessemer.twin.storage import bytes_per_second

DAY_SECONDS = 86400.0
LEAST_SHORTAGE = 1e-12
"""Share of the time that counts as none."""


def young_seconds(write_seconds: float, mttf_seconds: float) -> float:
    """Return the best interval between checkpoints to first order.

    Source: Young 1974, doi:10.1145/361147.361115.

    >>> young_seconds(50.0, 10_000.0)
    1000.0
    """
    return math.sqrt(2 * write_seconds * mttf_seconds)


def daly_seconds(write_seconds: float, mttf_seconds: float) -> float:
    """Return the best interval between checkpoints to a higher order, without the writing itself.

    Source: Daly 2006, doi:10.1016/j.future.2004.11.016, equation 37.

    >>> round(daly_seconds(50.0, 10_000.0), 1)
    966.9
    """
    if write_seconds >= 2 * mttf_seconds:
        return mttf_seconds
    small = write_seconds / (2 * mttf_seconds)
    return young_seconds(write_seconds, mttf_seconds) * (1 + math.sqrt(small) / 3 + small / 9) - write_seconds


def training_ratio(rate: float, interval: float, stall: float, recovery: float) -> float:
    """Return the share of the time that trains, exactly, when failures have no memory.

    They may strike while the work recovers. What is written in the background is safe only when it is written: that
    time counts as recovery, exactly. Source: Daly 2006, doi:10.1016/j.future.2004.11.016, equation 20.

    >>> round(training_ratio(1e-4, 1000.0, 50.0, 300.0), 4)
    0.8766
    >>> training_ratio(0.0, 900.0, 100.0, 300.0)
    0.9
    """
    cycle = rate * (interval + stall)
    if cycle < 1e-12:  # nothing fails
        return interval / (interval + stall)
    if cycle > 700:
        return 0.0
    return rate * interval * math.exp(-rate * recovery) / math.expm1(cycle)


def best_interval(ratio: Callable[[float], float], low: float, high: float) -> float:
    """Return the interval of the highest ratio, by golden section over its logarithm; one peak is presumed.

    >>> round(best_interval(lambda x: -abs(x - 30), 1, 1000), 2)
    30.0
    """
    golden = (math.sqrt(5) - 1) / 2
    left, right = math.log(low), math.log(max(high, low * (1 + 1e-9)))
    while right - left > 1e-7:
        a, b = right - golden * (right - left), left + golden * (right - left)
        if ratio(math.exp(a)) >= ratio(math.exp(b)):
            right = b
        else:
            left = a
    return math.exp((left + right) / 2)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """What checkpoints cost a job.

    Attributes:
        interval_seconds: of work between two.
        stall_seconds: for which one stops the work.
        unsafe_seconds: for which one is still being written while work goes on.
        read_seconds: to read one after a failure.
    """

    interval_seconds: float
    stall_seconds: float
    unsafe_seconds: float
    read_seconds: float


def checkpoints(site: Site, accelerators: int, checkpoint_bytes: float, step_seconds: float = 0.0) -> Checkpoints:
    """Return when a job should write checkpoints at a site, and what that costs.

    Args:
        site: its storage writes them; its operations say how often a job fails.
        accelerators: of the job.
        checkpoint_bytes: weights and optimizer, all of them.
        step_seconds: a checkpoint comes after a whole number of steps; 0: whenever it is best.
    """
    read, write = bytes_per_second(site, accelerators / per_node(site))
    writing = checkpoint_bytes / write
    stall, unsafe = writing, 0.0
    if site.operations.background_checkpoints:
        copying = checkpoint_bytes / accelerators / constants()["checkpoint"]["copy_bytes_per_second"]
        stall = min(copying, writing)
        unsafe = writing - stall
    rate = job_failures_per_day(site.operations, accelerators / per_node(site)) / DAY_SECONDS
    least = max(2 * unsafe, step_seconds, 1.0)  # storage writes at most half of the time
    interval = max(least, DAY_SECONDS)  # at least once a day, even if nothing fails
    if rate * interval > 1e-6:
        interval = best_interval(lambda each: training_ratio(rate, each, stall, 0.0), least, interval)
    if step_seconds > 1e-3:
        interval = math.ceil(interval / step_seconds - 0.5) * step_seconds
    reading = checkpoint_bytes / read
    return Checkpoints(max(interval, least), stall, unsafe, reading)


def per_node(site: Site) -> int:
    """Return how many accelerators a server of the site has; of the most numerous kind.

    Raises:
        Unsupported: the site has no accelerators.
    """
    kinds = [nodes for nodes in site.nodes if nodes.accelerators]
    if not kinds:
        raise Unsupported(f"site '{site.name}' has no accelerators", hint="Give [[nodes]] an accelerator and a count.")
    return max(kinds, key=lambda nodes: nodes.count * nodes.accelerators).accelerators


def shortage_ratio(in_repair: float, spares: int) -> float:
    """Return the share of the time in which a job waits because more servers are in repair than there are spares.

    A job that waits breaks nothing more, so that at most one more than the spares are in repair. Source: Erlang 1917,
    loss formula B, by its recursion; it holds for any distribution of repair times.

    Args:
        in_repair: mean number of servers in repair if the job never waited.
        spares: servers kept for that.

    >>> round(shortage_ratio(2.0, 3), 4), shortage_ratio(0.0, 0)
    (0.0952, 0.0)
    """
    blocked = 1.0
    for servers in range(1, spares + 2):
        blocked = in_repair * blocked / (servers + in_repair * blocked)
        if blocked < LEAST_SHORTAGE:
            return 0.0
    return blocked


@dataclass(frozen=True, slots=True)
class Goodput:
    """How much of the time a job trains, and what takes the rest. Shares are of the job's elapsed time.

    Attributes:
        effective_ratio: trains (the published "effective training time").
        goodput_ratio: trains, less what slow members cost.
        mttf_hours: mean time between unplanned interruptions.
        interruptions_per_day: all, planned ones too.
        checkpoint_interval_seconds: of work between two.
        checkpoint_stall_seconds: for which one stops the work.
        recovery_seconds: from a failure until work goes on.
        loss: cause -> share; with `goodput_ratio` they sum to 1.
        failures_per_day: component -> how many.
    """

    effective_ratio: Interval
    goodput_ratio: float
    mttf_hours: Interval
    interruptions_per_day: Interval
    checkpoint_interval_seconds: float
    checkpoint_stall_seconds: float
    recovery_seconds: float
    loss: Mapping[str, float]
    failures_per_day: Mapping[str, float]


def goodput(
    site: Site,
    accelerators: int,
    checkpoint_bytes: float,
    step_seconds: float = 0.0,
    habit: Checkpoints | None = None,
) -> Goodput:
    """Return how much of the time a training job does useful work at a site.

    Bounds: the hazard is as uncertain as it differs between measured systems, the recovery by a factor of two.

    Args:
        site: its operations, its storage, its spare servers.
        accelerators: of the job.
        checkpoint_bytes: of one checkpoint.
        step_seconds: of a training step.
        habit: when checkpoints are written and what that costs, where that is known; else whatever is best.

    Raises:
        Unsupported: the site has no accelerators, or fewer than the job wants.
    """
    if not 0 < accelerators <= max(site.accelerators, per_node(site)):
        raise Unsupported(
            f"a job of {accelerators} accelerators does not fit on the {site.accelerators} of '{site.name}'",
            hint=f"Ask for at most {site.accelerators}.",
        )
    operations = site.operations
    kept = habit or checkpoints(site, accelerators, checkpoint_bytes, step_seconds)
    nodes = accelerators / per_node(site)
    failures, planned = job_failures_per_day(operations, nodes), planned_per_day(operations, nodes)
    known = node_failures_per_day()
    hazard_sigma = math.log(known.high / known.low) / (2 * WIDTH)
    sigma = math.hypot(hazard_sigma, recovery_log_sigma())
    shares = [_shares(site, nodes, kept, math.exp(way * sigma * WIDTH)) for way in (1, 0, -1)]
    low, mid, high = (each.pop("effective") for each in shares)
    spread = Interval(1.0, math.exp(-hazard_sigma * WIDTH), math.exp(hazard_sigma * WIDTH))
    return Goodput(
        effective_ratio=Interval(mid, low, high),
        goodput_ratio=mid * (1 - operations.straggler_ratio),
        mttf_hours=spread.scaled(mttf_hours(operations, nodes)) if failures else Interval.exactly(math.inf),
        interruptions_per_day=spread.scaled(failures + planned),
        checkpoint_interval_seconds=kept.interval_seconds,
        checkpoint_stall_seconds=kept.stall_seconds,
        recovery_seconds=recovery_seconds(operations, kept),
        loss=shares[1],
        failures_per_day={hazard.component: hazard.share_ratio * failures for hazard in hazards()},
    )


def recovery_log_sigma() -> float:
    """Return how sure the times of repairs and restarts are: the standard deviation of their logarithm."""
    return float(constants()["uncertainty"]["recovery_log_sigma"])


def reserved_servers(operations: Operations, servers: int) -> tuple[int, int]:
    """Return how many of some servers are out for planned work and how many are kept as spares.

    >>> reserved_servers(Operations(), 127), reserved_servers(Operations(), 1)
    ((1, 3), (0, 0))
    """
    out = round(servers * operations.maintenance_ratio)
    return out, min(servers - out - 1, round(servers * operations.spare_ratio)) if servers > 1 else 0


def recovery_seconds(operations: Operations, kept: Checkpoints) -> float:
    """Return the seconds from a failure until work goes on."""
    return operations.detect_seconds + operations.restart_seconds + kept.read_seconds


def _shares(site: Site, nodes: float, kept: Checkpoints, factor: float) -> dict[str, float]:
    """Return the share of the time that trains and the share that each cause takes, with losses times a factor."""
    operations = site.operations
    rate = factor * job_failures_per_day(operations, nodes) / DAY_SECONDS
    recovery = recovery_seconds(operations, kept)
    training = training_ratio(rate, kept.interval_seconds, kept.stall_seconds, recovery + kept.unsafe_seconds)
    recovering = -math.expm1(-rate * recovery)
    writing = training * kept.stall_seconds / kept.interval_seconds
    planned = factor * planned_per_day(operations, nodes) * (operations.restart_seconds + kept.read_seconds)
    planned = min(1.0, planned / DAY_SECONDS)
    spares = max(site.accelerators / per_node(site) - nodes, operations.spare_ratio * nodes)
    in_repair = replace_ratio() * nodes * operations.node_failures_per_day * factor
    short = shortage_ratio(in_repair * operations.repair_seconds / DAY_SECONDS, int(spares))
    left = (1 - planned) * (1 - short)
    detecting = operations.detect_seconds / recovery if recovery else 0.0
    return {
        "effective": training * left,
        "detection": recovering * detecting * left,
        "restart": recovering * (1 - detecting) * left,
        "lost work": max(0.0, 1 - training - recovering - writing) * left,
        "checkpoints": writing * left,
        "planned": planned * (1 - short),
        "no spare": short,
        "stragglers": training * left * operations.straggler_ratio,
    }
