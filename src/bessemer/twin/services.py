"""What happens by the hour beside the jobs: services follow their traffic, and windows of maintenance open and close.

Owns both. The events of jobs are those of ``engine``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bessemer.twin.engine import Run
from bessemer.twin.pace import Pace
from bessemer.twin.records import Fleet
from bessemer.twin.scenario import Window
from bessemer.twin.scheduling import Allocation, Policy
from bessemer.twin.site import Site
from bessemer.twin.timeline import State
from bessemer.twin.traffic import Job, Service


class Months(Run):
    """A simulation with services and windows of maintenance.

    Attributes:
        fleets: of each service.
    """

    def __init__(
        self,
        site: Site,
        work: Sequence[Job | Service],
        seed: int,
        policy: Policy,
        pace: Pace,
        windows: Sequence[Window],
    ) -> None:
        super().__init__(site, work, seed, policy, pace)
        self.windows, self._out = windows, dict[int, Allocation]()
        clock = np.arange(len(pace.speeds), dtype=float)
        services = [each for each in work if isinstance(each, Service)]
        self.fleets = [
            Fleet(each, each.replicas(clock).tolist(), each.requests_per_second(clock).tolist()) for each in services
        ]

    def _hour(self, now: float, hour: int) -> None:
        super()._hour(now, hour)
        for number, window in enumerate(self.windows):
            if hour == window.start_hour + window.hours and number in self._out:
                self._open(now, number)
        for number, window in enumerate(self.windows):
            if hour == window.start_hour:
                self._shut(now, number)
        for fleet in self.fleets:
            self._scale(now, fleet, fleet.wanted[hour])
            self._serve(now, fleet, fleet.traffic[hour])

    def _shut(self, now: float, number: int) -> None:
        """Take servers out for planned work: free ones, then those of jobs, which write a checkpoint before."""
        window = self.windows[number]
        most = self._floor.free + sum(self._running.values())
        nodes = min(round(window.servers_ratio * self.usable_nodes), most)
        self._clear(now, nodes, math.inf, is_planned=True)
        place = self._floor.take(nodes) if nodes else None
        if place:
            self._out[number] = place
            self.timeline.add(State.IDLE, now, self.end, -self.size * nodes)
            self.timeline.add(State.MAINTENANCE, now, now + window.hours * 3600.0, self.size * nodes)

    def _open(self, now: float, number: int) -> None:
        place = self._out.pop(number)
        self._floor.give(place)
        self.timeline.add(State.IDLE, now, self.end, self.size * sum(count for _, count in place))
        self._look(now)

    def _scale(self, now: float, fleet: Fleet, wanted: int) -> None:
        """Start or stop replicas; services come before all jobs where the policy may stop jobs."""
        accelerators = fleet.service.replica_accelerators
        for _ in range(min(fleet.broken, len(fleet.places))):  # the last hour's, for which no spare server was left
            self._give(now, fleet.places.pop(), accelerators)
            self._lose_server(now)
        before = len(fleet.places)
        while len(fleet.places) > wanted:
            self._give(now, fleet.places.pop(), accelerators)
        while len(fleet.places) < wanted:
            place = self._take(now, accelerators)
            if place is None and self.policy.preempt and self._clear(now, -(-accelerators // self.size), math.inf):
                place = self._take(now, accelerators)
            if place is None:
                break
            fleet.places.append(place)
        fleet.added = max(0, len(fleet.places) - before)
        self._look(now)

    def _serve(self, now: float, fleet: Fleet, traffic: float) -> None:
        """Answer an hour's requests with the replicas that run, less the time that failures take from them."""
        service, operations = fleet.service, self.site.operations
        rate = service.replica_requests_per_second * self.pace.speeds[int(now / 3600)]
        held, count = self._held(service.replica_accelerators), len(fleet.places)
        terms = self._terms(service.replica_accelerators, 0.0)
        failures = self.chance.count(count * terms.hazard * (1 - terms.planned_ratio) * 3600.0)
        starts = failures + fleet.added
        away = failures * operations.detect_seconds + starts * operations.restart_seconds
        down = min(float(count), away / 3600.0)
        answered = min(traffic, (count - down) * rate)
        fleet.served += answered * 3600.0
        fleet.refused += (traffic - answered) * 3600.0
        busy = min(count - down, answered / rate)
        parts = {State.SERVING: busy, State.DOWN: down, State.HEADROOM: count - down - busy}
        for state, replicas in parts.items():
            self.timeline.add(state, now, now + 3600.0, replicas * held)
        fleet.broken = sum(not self._survives(now) for _ in range(failures))
