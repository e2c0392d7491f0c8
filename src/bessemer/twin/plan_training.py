"""What a training job takes at a site: time, energy, money and carbon, what limits it, and what would be cheaper.

Owns the joining of the models of compute, network, failures, power and money, and the uncertainty of the whole. Knows
no file and no clock: sites and work are handed in, and so is the day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from bessemer.core.errors import Unsupported
from bessemer.twin import changes, clouds, layout, money, network, power, training
from bessemer.twin.accelerators import Accelerator
from bessemer.twin.answer import Plan, around, main_nodes, rents, with_part
from bessemer.twin.embodied import kgco2e_per_hour
from bessemer.twin.interval import Interval
from bessemer.twin.operations import Goodput, goodput
from bessemer.twin.shape import Shape, shape
from bessemer.twin.site import Site
from bessemer.twin.storage import bytes_per_second
from bessemer.twin.training import StepTime
from bessemer.twin.uncertainty import Array, Model, propagate, tornado
from bessemer.twin.workload import Layout, Training

DAY_SECONDS = 86400.0
STATE_BYTES_PER_PARAMETER = 14.0
"""Of a checkpoint: weights in bf16, and master weights and two moments in fp32. Source: Rajbhandari et al. 2020,
arXiv:1910.02054, section 3.1, without gradients."""

WORTH_TELLING, WAITING = 0.95, 0.2
"""Time over that of today from which fewer accelerators are told; share of a step in the pipeline's bubble likewise."""

LEAST = 0.05
"""Share of the time that must train: below it a prediction of the end means nothing."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A training job placed at a site."""

    site: Site
    job: Training
    shape: Shape
    device: Accelerator
    accelerators: int
    layout: Layout
    step: StepTime


def plan_training(site: Site, work: Training, today: date, *, tries: bool = True) -> Plan:
    """Return what a training job takes at a site. See `bessemer.twin.plan.plan`."""
    placed = _place(site, work)
    inputs = _inputs(placed)
    answer = {name: propagate(_outcome(placed, name), inputs) for name in FIGURES}
    answer |= {"step_seconds": placed.step.interval, "mfu_ratio": _mfu(placed.step)}
    read = answer["tokens_per_second"].scaled(work.bytes_per_token / placed.accelerators)
    answer["read_bytes_per_second_per_accelerator"] = read
    shares = _shares(placed, inputs["effective_ratio"].mid)
    swings = tuple(tornado(_outcome(placed, "cost_usd"), inputs))
    now = answer["cost_usd"].mid, answer["days"].mid
    cheaper = changes.cheapest(_variants(placed), _cost, now) if tries else ()
    warnings = tuple(clouds.stale(clouds.offers(placed.device.name), today)) if rents(site) else ()
    warnings = (*_advice(placed), *_doubts(inputs["effective_ratio"]), *power.unpublished(site), *warnings)
    limit, most = _limit(shares), max(shares, key=shares.__getitem__)
    return Plan(site, work, answer, placed.layout, limit, most, shares, cheaper, swings, warnings, _notes(work))


def _place(site: Site, job: Training) -> _Job:
    nodes = main_nodes(site)
    net, device, links = shape(job.model), power.capped_device(site), network.links(site, nodes)
    if device.unit(job.precision) != job.precision:
        units = [each for each in ("bf16", "fp8", "fp4") if device.unit(each) == each]
        told = f"{device.name} does not multiply in {job.precision}"
        raise Unsupported(told, hint=f"It does in {' and '.join(units)}.")
    count = _asked(job) or _all(site)
    if count > _all(site):
        told = f"the job wants {count:,} accelerators; '{site.name}' has {_all(site):,} {device.name}"
        raise Unsupported(told, hint=f"Ask for at most {_all(site):,}, or name a larger site.")
    if job.layout is not None:
        cut, step = job.layout, training.step(net, job, job.layout, device, links)
        if step.memory_bytes > device.memory_bytes:
            raise Unsupported(
                f"{job.model} cut so needs {step.memory_bytes / 1e9:.0f} GB on each accelerator; it has "
                f"{device.memory_bytes / 1e9:.0f}",
                hint="Leave the layout out: one that fits is searched for.",
            )
    elif _asked(job):
        found = layout.search(net, job, device, count, links)[0]
        cut, step = found.layout, found.step
    else:
        found = _soonest(site, net, job, count)
        cut, step = found.layout, found.step
    return _Job(site, job, net, device, cut.accelerators, cut, _fed(site, job, cut.accelerators, step))


def _fed(site: Site, job: Training, accelerators: int, step: StepTime) -> StepTime:
    """Return a step that ends no sooner than the next one's data are read, which happens beside it."""
    rate, _ = bytes_per_second(site, accelerators / main_nodes(site).accelerators)
    waiting = job.batch_sequences * job.sequence_tokens * job.bytes_per_token / rate - step.seconds
    if waiting <= 0:
        return step
    seconds = step.seconds + waiting
    return replace(step, seconds=seconds, data_seconds=waiting, mfu_ratio=step.mfu_ratio * step.seconds / seconds)


def _asked(job: Training) -> int:
    """Return the accelerators that a job names; 0: as many as there are."""
    return job.accelerators or (job.layout.accelerators if job.layout else 0)


def _all(site: Site) -> int:
    nodes = main_nodes(site)
    return nodes.count * nodes.accelerators


def _soonest(site: Site, net: Shape, job: Training, most: int) -> layout.Found:
    """Return the layout that ends first on up to so many accelerators: of all, of half, and so on while that helps."""
    device, links = power.capped_device(site), network.links(site, main_nodes(site))
    tried = [(_lasting(site, net, job, each), each) for each in layout.fastest(net, job, device, most, links)]
    seconds, found = min(tried, key=lambda pair: pair[0])
    while most > 1:
        most //= 2
        try:
            tried = [(_lasting(site, net, job, each), each) for each in layout.fastest(net, job, device, most, links)]
        except Unsupported:
            break
        fewer, other = min(tried, key=lambda pair: pair[0])
        if fewer > seconds or fewer == seconds < float("inf"):
            break
        if fewer < seconds:
            seconds, found = fewer, other
    return found


def _lasting(site: Site, net: Shape, job: Training, found: layout.Found) -> float:
    """Return the seconds that a step takes with its share of failures, checkpoints and waits for data and servers."""
    step = _fed(site, job, found.layout.accelerators, found.step)
    effective = _kept(site, net, found.layout.accelerators, step).effective_ratio.mid
    return step.seconds / effective if effective > LEAST else float("inf")


def _kept(site: Site, net: Shape, accelerators: int, step: StepTime) -> Goodput:
    return goodput(site, accelerators, STATE_BYTES_PER_PARAMETER * net.parameters, step.seconds)


def _standing_still(placed: _Job, kept: Goodput) -> Unsupported:
    """Return the refusal of a job that trains for hardly any of its time, with each change that alone would help."""
    site, count, step = placed.site, placed.accelerators, placed.step
    alone = replace(step, seconds=step.seconds - step.data_seconds, data_seconds=0.0)
    fast = with_part(site, "storage", write_bytes_per_second=1e18, read_bytes_per_second=1e18)
    tried = {
        "faster storage (storage.write_bytes_per_second, read_bytes_per_second)": (fast, count),
        "fewer failures (operations.node_failures_per_day)": (
            with_part(site, "operations", node_failures_per_day=0.0, job_failures_per_day=0.0),
            count,
        ),
        "quicker restarts (operations.detect_seconds, restart_seconds)": (
            with_part(site, "operations", detect_seconds=0.0, restart_seconds=0.0),
            count,
        ),
        "quicker repairs or more spares (operations.repair_seconds, spare_ratio)": (
            with_part(site, "operations", repair_seconds=0.0),
            count,
        ),
        "fewer accelerators": (site, min(count, main_nodes(site).accelerators)),
    }
    helps = [
        name
        for name, (other, number) in tried.items()
        if _kept(other, placed.shape, number, _fed(other, placed.job, number, alone)).effective_ratio.mid > LEAST
    ]
    return Unsupported(
        f"{placed.job.model} on {count:,} accelerators of '{site.name}' makes no progress: "
        f"{kept.effective_ratio.mid:.1%} of the time trains; it fails every {kept.mttf_hours.mid:.3g} h, goes on "
        f"{kept.recovery_seconds / 3600:.3g} h later, and keeps a checkpoint every "
        f"{kept.checkpoint_interval_seconds / 3600:.3g} h",
        hint=f"What alone would help: {'; '.join(helps)}." if helps else "It takes several at once: see [operations].",
    )


def _advice(placed: _Job) -> Iterator[str]:
    """Yield what to know of a job's number of accelerators and of its batch."""
    site, job, cut, step = placed.site, placed.job, placed.layout, placed.step
    count, there, links = placed.accelerators, _all(site), network.links(site, main_nodes(site))
    alone = training.alone_accelerators(links)
    if not _asked(job) and alone < there:
        yield (
            f"no network joins the servers of '{site.name}', so the job has {alone:,.0f} accelerators of {there:,}; a "
            "[fabric] and network adapters (nics) would join them"
        )
    elif not _asked(job) and count < there:
        yield (
            f"{count:,} of the site's {there:,} accelerators take the least time: a batch of {job.batch_sequences:,} "
            f"sequences is cut well over them, and failures cost less; {there - count:,} stay idle"
        )
    if job.accelerators and job.layout is None:
        best = layout.fastest(placed.shape, job, placed.device, count, links)[0]
        if best.step.seconds < WORTH_TELLING * step.seconds:
            yield (
                f"{best.layout.accelerators:,} accelerators take {1 - best.step.seconds / step.seconds:.0%} less time "
                f"for a step than {count:,}, which cannot be cut well"
            )
    if step.bubble_seconds > WAITING * step.seconds:
        rounds = -(-job.batch_sequences // (cut.data * cut.micro_batch))
        yield (
            f"{step.bubble_seconds / step.seconds:.0%} of a step waits in the pipeline: a batch of "
            f"{job.batch_sequences:,} sequences gives {cut.pipeline} stages {rounds} micro-batches; a larger batch or "
            "fewer accelerators wait less"
        )


def _doubts(effective: Interval) -> Iterator[str]:
    if effective.low <= LEAST:
        yield (
            f"one in ten such jobs trains less than {LEAST:.0%} of its time: failures are too many for what a "
            "checkpoint and a restart take; the upper bounds of time and cost say little"
        )


def _inputs(placed: _Job) -> dict[str, Interval]:
    """Return what is uncertain about a job."""
    site, share = placed.site, placed.accelerators / placed.site.accelerators
    kept = _kept(site, placed.shape, placed.accelerators, placed.step)
    if kept.effective_ratio.mid <= LEAST:
        raise _standing_still(placed, kept)
    drawn = power.site_power(site, load=1.0).facility_watts
    bill = money.bill(site, drawn)
    people = bill.people + bill.rent
    return {
        "step_seconds": placed.step.interval,
        "effective_ratio": kept.effective_ratio.scaled(1 - site.operations.straggler_ratio),
        "facility_watts": drawn.scaled(share),
        "fixed_usd_per_hour": Interval(*(bound + people for bound in _bounds(bill.capital))).scaled(share),
        "gco2e_per_kwh": around(site.power.gco2e_per_kwh, 0.15),
        "embodied_kgco2e_per_hour": kgco2e_per_hour(site).scaled(share),
        "usd_per_kwh": around(0.0 if rents(site) else site.power.usd_per_kwh, 0.15),
    }


def _bounds(given: Interval) -> tuple[float, float, float]:
    return given.mid, given.low, given.high


FIGURES = (
    "days",
    "energy_kwh",
    "cost_usd",
    "carbon_kgco2e",
    "embodied_kgco2e",
    "tokens_per_second",
    "usd_per_million_tokens",
)
NOTES = {
    "carbon_kgco2e": "of electricity alone",
    "embodied_kgco2e": "the job's share of making site and hardware, by accelerator-hours; modelled from published "
    "footprints",
}


def _notes(job: Training) -> dict[str, str]:
    """Return what figures mean and where their inputs are from."""
    if job.method != "rl":
        return NOTES
    factor = training.METHODS["rl"]
    told = f"{factor.mid:g} times a gradient step, for the answers it learns from: published are {factor.low:g} to "
    return NOTES | {"step_seconds": f"{told}{factor.high:g}, by their length; the middle is assumed"}


def _outcome(placed: _Job, name: str) -> Model:
    """Return the function from the uncertain inputs to one figure."""
    job = placed.job
    steps = max(1.0, job.tokens / (job.batch_sequences * job.sequence_tokens))

    def outcome(given: Mapping[str, Array]) -> Array:
        seconds = steps * given["step_seconds"] / np.minimum(given["effective_ratio"], 1.0)
        energy_kwh = given["facility_watts"] * seconds / 3.6e6
        usd = given["fixed_usd_per_hour"] * seconds / 3600 + energy_kwh * given["usd_per_kwh"]
        values = {
            "days": seconds / DAY_SECONDS,
            "energy_kwh": energy_kwh,
            "cost_usd": usd,
            "carbon_kgco2e": energy_kwh * given["gco2e_per_kwh"] / 1000,
            "embodied_kgco2e": given["embodied_kgco2e_per_hour"] * seconds / 3600,
            "tokens_per_second": job.tokens / seconds,
            "usd_per_million_tokens": usd / job.tokens * 1e6,
        }
        return values[name]

    return outcome


def _mfu(step: StepTime) -> Interval:
    time = step.interval
    return Interval(step.mfu_ratio, step.mfu_ratio * time.mid / time.high, step.mfu_ratio * time.mid / time.low)


def _shares(placed: _Job, effective: float) -> dict[str, float]:
    step = placed.step
    parts = {
        "computing": step.compute_seconds,
        "waiting for the network": step.communication_seconds,
        "waiting for other pipeline stages": step.bubble_seconds,
        "waiting for data from storage": step.data_seconds,
        "launching, optimizer and hand-over": step.other_seconds,
    }
    return {name: seconds / step.seconds * effective for name, seconds in parts.items()} | {
        "lost to failures, checkpoints and slow members": 1 - effective
    }


def _limit(shares: Mapping[str, float]) -> str:
    name, share = max(shares.items(), key=lambda item: item[1])
    others = sorted(((value, other) for other, value in shares.items() if other != name), reverse=True)
    return f"{share:.0%} of the time goes into {name}; next is {others[0][1]} with {others[0][0]:.0%}"


def _cost(site: Site, job: Training) -> tuple[float, float]:
    """Return the middle of what a job costs and how many days it takes."""
    placed = _place(site, job)
    inputs = _inputs(placed)
    usd, days = (propagate(_outcome(placed, name), inputs, draws=1).mid for name in ("cost_usd", "days"))
    return usd, days


def _variants(placed: _Job) -> Iterator[tuple[str, Site, Training]]:
    site, job, device, count = placed.site, placed.job, placed.device, placed.accelerators
    free = job.model_copy(update={"layout": None})
    if job.layout is not None:
        yield "let the layout be searched for", site, free
    if job.precision == "bf16" and device.fp8_flop_per_second:
        yield "train in fp8", site, free.model_copy(update={"precision": "fp8"})
    yield "on half as many accelerators", site, free.model_copy(update={"accelerators": max(1, count // 2)})
    if 2 * count <= _all(site):
        yield "on twice as many accelerators", site, free.model_copy(update={"accelerators": 2 * count})
    if site.fabric.oversubscription > 1:
        yield "a fabric without oversubscription", with_part(site, "fabric", oversubscription=1.0), job
    if placed.step.data_seconds:
        read = site.storage.read_bytes_per_second * 4
        yield "storage that reads four times as fast", with_part(site, "storage", read_bytes_per_second=read), job
    fast = site.storage.write_bytes_per_second * 4
    yield "four times the checkpoint bandwidth", with_part(site, "storage", write_bytes_per_second=fast), job
    restart = {"detect_seconds": 60.0, "restart_seconds": site.operations.restart_seconds / 3}
    yield "failures noticed in a minute, restarts three times as fast", with_part(site, "operations", **restart), job
    for name, other in changes.of_site(site):
        yield name, other, job
