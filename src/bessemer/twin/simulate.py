"""Months of operation: what each hour brings in work, power, money and carbon, and what became of the rest.

Owns the result and its counting. The events are played in ``engine``; watts and weather come from outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError
from bessemer.twin.embodied import kgco2e_per_hour
from bessemer.twin.energy import Energy, rates, site_energy
from bessemer.twin.interval import Interval
from bessemer.twin.pace import Pace
from bessemer.twin.records import Record
from bessemer.twin.scenario import Scenario, cut_ratios, speeds
from bessemer.twin.services import Months
from bessemer.twin.site import Site
from bessemer.twin.timeline import State
from bessemer.twin.traffic import Job, Service

Array = NDArray[np.float64]

FULL = (State.WORKING, State.THROTTLED, State.SERVING, State.STRAGGLING, State.LOST, State.PREEMPTED)
"""States that draw the power of work; the others that of waiting, but for servers that are out, which draw none."""
OUT = (State.REPAIR, State.MAINTENANCE)
GIVEN = (
    State.WORKING,
    State.THROTTLED,
    State.STRAGGLING,
    State.CHECKPOINTING,
    State.LOST,
    State.PREEMPTED,
    State.RECOVERING,
    State.STARTING,
    State.PLANNED,
)
"""States of accelerators that a job holds."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Time lines; each has one value an hour. Shape of each: (hours,).

    Attributes:
        states: state -> mean number of accelerators in it; they sum to the site's.
        waiting: jobs in the queue at the start of the hour.
        it_watts: servers, network and storage.
        facility_watts: with cooling and losses.
        usd: for electricity.
        gco2e: of electricity.
    """

    states: Mapping[str, Array]
    waiting: Array
    it_watts: Array
    facility_watts: Array
    usd: Array
    gco2e: Array

    @property
    def pue(self) -> Array:
        """Facility over IT power."""
        return np.asarray(self.facility_watts / np.maximum(self.it_watts, 1e-9))


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole time in numbers.

    Attributes:
        accelerator_hours: that the site has.
        useful_ratio: share of them that worked or served.
        goodput_ratio: share of the hours given to jobs that were work.
        interruptions: unplanned, of jobs.
        finished: jobs that ended.
        unfinished: jobs that had not ended, or could not start.
        wait_median_seconds: in the queue, of those that started.
        it_joules: servers, network and storage.
        facility_joules: with cooling and losses.
        energy_usd: for electricity.
        fixed_usd: for all else.
        gco2e: of electricity.
        embodied_gco2e: the share of these hours in making the site and its hardware; modelled.
        served_requests: that services answered.
        refused_requests: that they could not.
        over_envelope_hours: in which the site took more than its grid gives.
    """

    accelerator_hours: float
    useful_ratio: float
    goodput_ratio: float
    interruptions: int
    finished: int
    unfinished: int
    wait_median_seconds: float
    it_joules: float
    facility_joules: float
    energy_usd: float
    fixed_usd: float
    gco2e: float
    embodied_gco2e: float
    served_requests: float
    refused_requests: float
    over_envelope_hours: int

    @property
    def usd(self) -> float:
        """All money."""
        return self.energy_usd + self.fixed_usd


@dataclass(frozen=True, slots=True)
class Simulation:
    """What months of operation brought.

    Attributes:
        hours: time lines.
        totals: the whole.
        loss: cause -> accelerator-hours that neither worked nor served; with the useful ones they sum to all.
        causes: component -> failures.
        jobs: what became of each, by time of submission.
        events: how many were handled.
    """

    hours: Hours
    totals: Totals
    loss: Mapping[str, float]
    causes: Mapping[str, int]
    jobs: Sequence[Record]
    events: int


def simulate(
    site: Site,
    jobs: Sequence[Job | Service],
    days: float,
    seed: int,
    *,
    scenario: Scenario | None = None,
    energy: Energy | None = None,
    fixed_usd_per_hour: float = 0.0,
) -> Simulation:
    """Return what happens at a site in so many days; the same seed gives the same.

    Args:
        site: with its operations, power and cooling.
        jobs: what is sent to it, and what it serves.
        days: how long; whole hours are played.
        seed: of all draws.
        scenario: policy, cuts of power and windows of maintenance; its loads are not used, jobs are handed in.
        energy: the site's power; by default from its parts and its weather.
        fixed_usd_per_hour: what the site costs without electricity.

    Raises:
        ConfigError: less than an hour is asked for, or a cut or a cap is more than boards can give.
        Unsupported: the site has no accelerators.
    """
    hours = int(days * 24 + 1e-9)
    if hours < 1:
        raise ConfigError(f"{days} days are no whole hour", hint="Simulate one hour or more.")
    played = scenario or Scenario()
    cuts = cut_ratios(played.cuts, hours)
    run = Months(site, jobs, seed, played.policy, Pace(speeds(site, cuts)), played.windows)
    run.play()
    states = _slowed({state.name.lower(): run.timeline.hourly(state, hours) for state in State}, run.pace)
    out = sum((states[state.name.lower()] for state in OUT), np.zeros(hours))
    busy = sum((states[state.name.lower()] for state in FULL), np.zeros(hours))
    present = site.accelerators - out
    load = np.clip(busy / np.maximum(present, 1.0), 0.0, 1.0)
    it_watts, facility_watts = (
        (1 - cuts) * each for each in (energy or site_energy)(site, load, present / site.accelerators)
    )
    price, carbon = rates(site, hours)
    kwh = facility_watts / 1000
    lines = Hours(states, np.asarray(run.waiting_hours, float), it_watts, facility_watts, kwh * price, kwh * carbon)
    loss = {name: float(line.sum()) for name, line in states.items() if name not in ("working", "serving")}
    return Simulation(lines, _totals(run, lines, hours, fixed_usd_per_hour), loss, run.causes, run.records, run.events)


def _slowed(states: Mapping[str, Array], pace: Pace) -> dict[str, Array]:
    """Return the states with the part of the work that slower boards did not do set apart."""
    worked = states["working"]
    return {**states, "working": worked * pace.speeds, "throttled": worked * (1 - pace.speeds)}


def across(simulations: Sequence[Simulation]) -> dict[str, Interval]:
    """Return each total and each loss as an interval over simulations that differ in their seed.

    Args:
        simulations: of the same site and work.
    """
    totals = {name: [getattr(each.totals, name) for each in simulations] for name in Totals.__dataclass_fields__}
    losses = {f"loss: {cause}": [each.loss[cause] for each in simulations] for cause in simulations[0].loss}
    return {name: Interval.of(draws) for name, draws in (totals | losses).items()}


def as_csv(simulation: Simulation) -> str:
    """Return the time lines as CSV: one row an hour, accelerators by state, watts, dollars and grams."""
    hours = simulation.hours
    lines = {**hours.states, "waiting_jobs": hours.waiting, "it_watts": hours.it_watts}
    lines |= {"facility_watts": hours.facility_watts, "usd": hours.usd, "gco2e": hours.gco2e}
    rows = np.column_stack(list(lines.values())).tolist()
    told = [",".join(["hour", *lines])]
    told += [f"{hour}," + ",".join(f"{value:.6g}" for value in row) for hour, row in enumerate(rows)]
    return "\n".join(told) + "\n"


def _totals(run: Months, lines: Hours, hours: int, fixed_usd_per_hour: float) -> Totals:
    states, records = lines.states, run.records
    everything = float(run.site.accelerators) * hours
    work = float(states["working"].sum())
    given = sum(float(states[state.name.lower()].sum()) for state in GIVEN)
    waits = [record.waited for record in records if record.started >= 0]
    finished = sum(record.finished >= 0 for record in records)
    return Totals(
        accelerator_hours=everything,
        useful_ratio=(work + float(states["serving"].sum())) / everything,
        goodput_ratio=work / given if given else 0.0,
        interruptions=sum(record.failures for record in records),
        finished=finished,
        unfinished=len(records) - finished,
        wait_median_seconds=float(np.median(waits)) if waits else 0.0,
        it_joules=float(lines.it_watts.sum()) * 3600,
        facility_joules=float(lines.facility_watts.sum()) * 3600,
        energy_usd=float(lines.usd.sum()),
        fixed_usd=fixed_usd_per_hour * hours,
        gco2e=float(lines.gco2e.sum()),
        embodied_gco2e=kgco2e_per_hour(run.site).mid * 1000 * hours,
        served_requests=sum(fleet.served for fleet in run.fleets),
        refused_requests=sum(fleet.refused for fleet in run.fleets),
        over_envelope_hours=int((lines.facility_watts > (run.site.power.envelope_watts or math.inf)).sum()),
    )
