"""What comes in: jobs with their sizes and lengths, and services with their daily traffic.

Owns the nouns and a usual mix of them. Knows no scheduler and no failure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.twin.hazards import constants
from bessemer.twin.operations import DAY_SECONDS, per_node
from bessemer.twin.shape import Shape
from bessemer.twin.site import Site
from bessemer.twin.workload import Training

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Job:
    """Work that ends: training, fine-tuning, a batch of answers.

    Attributes:
        name: of the job.
        submit_seconds: when it comes, from the start.
        accelerators: that it takes at once.
        work_seconds: of undisturbed work on all of them.
        checkpoint_bytes: of one checkpoint; 0: it costs nothing to write.
        owner: whose share it counts on.
        priority: higher goes first.
    """

    name: str
    submit_seconds: float
    accelerators: int
    work_seconds: float
    checkpoint_bytes: float = 0.0
    owner: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A served model, scaled to its traffic each hour.

    Attributes:
        name: of the service.
        replica_accelerators: of one replica.
        replica_requests_per_second: that one replica answers within its promises.
        peak_requests_per_second: at the busiest hour.
        daily_swing_ratio: how much of that is missing in the quietest hour.
        headroom_ratio: replicas kept above what the traffic needs.
        least: replicas that always run.
        peak_hour: of the day.
    """

    name: str
    replica_accelerators: int
    replica_requests_per_second: float
    peak_requests_per_second: float
    daily_swing_ratio: float = 0.6
    headroom_ratio: float = 0.15
    least: int = 1
    peak_hour: float = 15.0

    def requests_per_second(self, hours: Array) -> Array:
        """Return the traffic at hours from the start; a cosine over the day, its weekend as at night halfway."""
        quiet = self.daily_swing_ratio / 2 * (1 - np.cos(2 * np.pi * (hours - self.peak_hour) / 24))
        weekend = np.where((hours // 24) % 7 >= 5, 1 - self.daily_swing_ratio / 4, 1.0)
        return np.asarray(self.peak_requests_per_second * (1 - quiet) * weekend)

    def replicas(self, hours: Array) -> NDArray[np.int64]:
        """Return how many replicas the traffic wants, hour by hour."""
        wanted = self.requests_per_second(hours) * (1 + self.headroom_ratio) / self.replica_requests_per_second
        return np.maximum(self.least, np.ceil(wanted)).astype(np.int64)


def arrivals(per_day: float, days: float, rng: np.random.Generator) -> Array:
    """Return when jobs come, in seconds: more by day than by night and on working days; sorted.

    Source: the shape is that of arXiv:2109.01313 figure 2 (busy from morning to evening); its numbers are assumed.
    """
    fitted = constants()["arrivals"]
    swing, weekend = fitted["daily_swing_ratio"], fitted["weekend_ratio"]
    days_of_week = 7 / (5 + 2 * weekend)
    top = (1 + swing) * days_of_week
    times = np.sort(rng.uniform(0.0, days * DAY_SECONDS, rng.poisson(per_day * days * top)))
    wave = 1 + swing * np.cos(2 * np.pi * (times / 3600 - fitted["peak_hour"]) / 24)
    wave *= np.where((times // DAY_SECONDS) % 7 >= 5, weekend, 1.0) * days_of_week
    return np.asarray(times[rng.uniform(0.0, top, len(times)) < wave])


def usual(
    site: Site, days: float, seed: int, load_ratio: float = 0.7, per_day: float = 0.0, *, is_warm: bool = False
) -> list[Job]:
    """Return jobs that ask for a share of a site's accelerator-hours: many small ones, most of the time in large ones.

    Source: sizes are powers of two, and most jobs are small while most time goes to large ones (arXiv:2410.21680
    figure 6); the numbers are assumed, see ``[jobs]`` in ``catalogue/fitted_operations.toml``.

    Args:
        site: that they are sent to.
        days: over which they come.
        seed: of the draws.
        load_ratio: accelerator-hours asked for, over those that the site has.
        per_day: how many jobs come a day; 0: as many as is usual for the size of the site.
        is_warm: whether jobs that came before are there at the start, with what is left of them as if they had run at
            once. Without them a site fills up for weeks, as long as its longest jobs last.
    """
    rng = np.random.default_rng([seed, 1])
    fitted = constants()["jobs"]
    usually = max(fitted["least_per_day"], fitted["per_accelerator_day"] * site.accelerators)
    before = 7 * np.ceil(fitted["longest_days"] / 7) if is_warm else 0.0
    times = arrivals(per_day or usually, before + days, rng) - before * DAY_SECONDS
    top = np.log2(max(1.0, site.accelerators * fitted["largest_ratio"]))
    steps = np.arange(0, int(top) + 1)
    chance = 2.0 ** (-fitted["size_slope"] * steps)
    sizes = 2 ** rng.choice(steps, len(times), p=chance / chance.sum())
    lengths = rng.lognormal(0.0, fitted["length_log_sigma"], len(times)) * sizes ** fitted["length_slope"]
    lengths = _scaled(
        lengths, sizes, load_ratio * site.accelerators * (before + days) * DAY_SECONDS, fitted["longest_days"]
    )
    owners = rng.integers(0, int(fitted["owners"]), len(times))
    names = [f"job-{number}" for number in range(len(times))]
    bytes_each = fitted["checkpoint_bytes_per_accelerator"]
    left, times = lengths - np.maximum(-times, 0.0), np.maximum(times, 0.0)
    rows = zip(names, times.tolist(), sizes.tolist(), left.tolist(), owners.tolist(), strict=True)
    return [
        Job(name, when, size, length, size * bytes_each, f"owner-{owner}", int(size >= 64 * per_node(site)))
        for name, when, size, length, owner in rows
        if length > 0
    ]


def usual_service(site: Site, share_ratio: float = 0.1) -> Service:
    """Return a service whose busiest hour takes a share of the site; its speed is assumed, the planner knows better.

    Args:
        site: that serves it.
        share_ratio: of the accelerators at the busiest hour.
    """
    replica = min(per_node(site), max(1, int(share_ratio * site.accelerators)))
    replicas = max(1, int(share_ratio * site.accelerators / replica))
    rate = constants()["jobs"]["replica_requests_per_second"]
    headroom = constants()["jobs"]["headroom_ratio"]
    return Service("service", replica, rate, rate * replicas / (1 + headroom), headroom_ratio=headroom)


def training_job(name: str, work: Training, shape: Shape, accelerators: int, step_seconds: float) -> Job:
    """Return a declared training as a job that comes at the start.

    A checkpoint holds 14 bytes a weight: bf16 weights, and fp32 weights and two moments of the optimizer; an adapter's
    is taken as a hundredth. Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 3.1, without gradients.

    Args:
        name: of the job.
        work: as declared.
        shape: of its model.
        accelerators: that it gets.
        step_seconds: of one step on these.
    """
    steps = np.ceil(work.tokens / (work.batch_sequences * work.sequence_tokens))
    size = 14.0 * shape.parameters * (0.01 if work.method == "lora" else 1.0)
    return Job(name, 0.0, accelerators, float(steps) * step_seconds, size, priority=1)


def _scaled(lengths: Array, sizes: NDArray[np.int64], asked: float, longest_days: float) -> Array:
    """Return lengths times a factor, none above the longest, so that all ask for so many accelerator-seconds."""
    longest = longest_days * DAY_SECONDS
    for _ in range(20):
        is_cut = lengths >= longest
        rest = asked - float((sizes * longest)[is_cut].sum())
        total = float((sizes * lengths)[~is_cut].sum())
        if total <= 0 or rest <= 0:
            break
        lengths = np.where(is_cut, longest, np.minimum(lengths * rest / total, longest))
    return lengths
