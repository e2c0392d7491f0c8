"""Plays out months of a site's jobs: they come, wait, run, fail, recover and end.

Owns the events of jobs; ``services`` adds those of the hour. What follows from the time line (power, money) is counted
in ``simulate``.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect, insort
from collections.abc import Sequence
from functools import cache

import numpy as np

from bessemer.twin.hazards import hazards, job_failures_per_day, planned_per_day
from bessemer.twin.operations import DAY_SECONDS, checkpoints, per_node, reserved_servers
from bessemer.twin.pace import Pace
from bessemer.twin.records import Chance, Phase, Record, Terms
from bessemer.twin.scheduling import Allocation, Floor, Policy, Waiting, block_nodes
from bessemer.twin.site import Site
from bessemer.twin.timeline import State, Timeline
from bessemer.twin.traffic import Job, Service

ARRIVE, PHASE, REPAIRED, TICK, HOUR = range(5)


class Run:
    """One simulation; `play` runs it to the end.

    Attributes:
        timeline: what each accelerator did.
        records: of each job, in the order they were given.
        causes: component -> failures.
        events: how many were handled.
        waiting_hours: jobs in the queue at each full hour.
    """

    def __init__(self, site: Site, work: Sequence[Job | Service], seed: int, policy: Policy, pace: Pace) -> None:
        hours = len(pace.speeds)
        self.site, self.policy, self.pace, self.end = site, policy, pace, hours * 3600.0
        self.timeline, self.chance, self.size = Timeline(), Chance(seed), per_node(site)
        jobs = sorted((each for each in work if isinstance(each, Job)), key=lambda job: job.submit_seconds)
        self.records = [Record(job) for job in jobs]
        self._needs = [-(-job.accelerators // self.size) for job in jobs]
        self.causes = {hazard.component: 0 for hazard in hazards()}
        self.events, self.waiting_hours = 0, [0] * hours
        self._build()

    def _build(self) -> None:
        nodes = self.site.accelerators // self.size
        out, self._spares = reserved_servers(self.site.operations, nodes)
        self._spares_full = self._spares
        usable = nodes - out - self._spares
        self.usable_nodes, self._shared_free, self._debts = usable, 0, list[Allocation]()
        self._shared: list[Allocation] = []
        self.timeline.add(State.MAINTENANCE, 0.0, self.end, self.site.accelerators - (nodes - out) * self.size)
        self.timeline.add(State.SPARE, 0.0, self.end, self._spares * self.size)
        self.timeline.add(State.IDLE, 0.0, self.end, usable * self.size)
        block = self.policy.block_nodes or block_nodes(self.site)
        self._floor = Floor(usable, block, self.policy.packing == "packed")
        self._waiting = Waiting(
            self.policy, [each.job.priority for each in self.records], [each.job.owner for each in self.records]
        )
        self._phases: dict[int, Phase] = {}
        self._running: dict[int, int] = {}
        self._ends: list[tuple[float, int, int]] = []
        self._since: dict[int, float] = {}
        self._heap: list[tuple[float, int, int, int]] = []
        self._serial = self._current = 0
        self._ticking, self._reserved = False, (-1, -math.inf, 0.0, 0)
        shares = np.cumsum([hazard.share_ratio for hazard in hazards()]).tolist()
        self._shares, self._hazards = shares, hazards()
        self._terms = cache(self._terms_of)

    def play(self) -> None:
        """Handle all events up to the end, then close what still runs."""
        for number, record in enumerate(self.records):
            self._push(record.job.submit_seconds, ARRIVE, number)
        self._push(0.0, HOUR, 0)
        handlers = (self._arrive, self._phase_ends, self._repaired, self._tick, self._hour)
        heap = self._heap
        while heap and heap[0][0] < self.end:
            now, self._current, kind, which = heapq.heappop(heap)
            self.events += 1
            handlers[kind](now, which)
        for number in list(self._phases):
            self._close(number, self.end, is_safe=True)
        for number, since in self._since.items():
            self.records[number].waited += self.end - since

    def _push(self, when: float, kind: int, which: int) -> int:
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, kind, which))
        return self._serial

    def _arrive(self, now: float, number: int) -> None:
        record = self.records[number]
        if self._needs[number] > self.usable_nodes:
            usable = self.usable_nodes * self.size
            record.reason = f"wants {record.job.accelerators} accelerators; {usable} can be given"
            return
        self._queue(now, number)

    def _queue(self, now: float, number: int) -> None:
        self._waiting.join(number)
        self._since[number] = now
        self._look(now)

    def _look(self, now: float) -> None:
        """Let the scheduler look at its next turn, unless it will anyway."""
        if not self._ticking and self._since:
            self._ticking = True
            cycle = self.policy.cycle_seconds
            self._push((math.floor(now / cycle) + 1) * cycle if now else 0.0, TICK, 0)

    def _tick(self, now: float, _: int) -> None:
        self._ticking = False
        started: set[int] = set()
        shadow, extra = math.inf, 0
        is_blocked = False
        for number in self._waiting.first(self.policy.depth):
            nodes = self._needs[number]
            if is_blocked:
                if nodes > self._floor.free + (self._shared_free > 0):
                    continue
                late = now + self.records[number].job.work_seconds * self.policy.estimate_ratio > shadow
                if late and nodes > extra:
                    continue
                if self._start(now, number):
                    started.add(number)
                    extra -= nodes * late
            elif self._start(now, number) or (self.policy.preempt and self._make_room(now, number)):
                started.add(number)
            elif self.policy.backfill:
                is_blocked = True
                shadow, extra = self._reservation(now, number, nodes)
            else:
                break
        if is_blocked:
            self._reserved = (*self._reserved[:3], extra)
        self._waiting.leave(started)

    def _reservation(self, now: float, number: int, nodes: int) -> tuple[float, int]:
        """Return when enough servers should be free for the first job that waits, and how many will be left over."""
        who, when, shadow, extra = self._reserved
        if who == number and now < when + 3600 and now < shadow:
            return shadow, extra
        free, shadow, extra = self._floor.free, math.inf, 0
        for end, _, count in self._ends:
            free += count
            if free >= nodes:
                shadow, extra = max(end, now), free - nodes
                break
        self._reserved = (number, now, shadow, extra)
        return shadow, extra

    def _start(self, now: float, number: int) -> bool:
        job = self.records[number].job
        place = self._take(now, job.accelerators)
        if place is None:
            return False
        record = self.records[number]
        record.waited += now - self._since.pop(number)
        reading = self._terms(job.accelerators, job.checkpoint_bytes).kept.read_seconds if record.started >= 0 else 0.0
        record.started = now if record.started < 0 else record.started
        self._begin(now, number, place, State.STARTING, self.site.operations.restart_seconds + reading)
        return True

    def _take(self, now: float, accelerators: int) -> Allocation | None:
        """Return servers for a job, or a part of a shared one; parts are packed as if jobs could be moved."""
        size = self.size
        if accelerators < size:
            if self._shared_free < accelerators:
                place = self._floor.take(1)
                if place is None:
                    return None
                self._shared.append(place)
                self._shared_free += size
            self._shared_free -= accelerators
            self.timeline.add(State.IDLE, now, self.end, -accelerators)
            return ()
        place = self._floor.take(-(-accelerators // size))
        if place is not None:
            self.timeline.add(State.IDLE, now, self.end, -size * -(-accelerators // size))
        return place

    def _give(self, now: float, place: Allocation, accelerators: int) -> None:
        if place:
            self._floor.give(place)
        else:
            self._shared_free += accelerators
            if self._shared_free >= self.size:
                self._shared_free -= self.size
                self._floor.give(self._shared.pop())
        self.timeline.add(State.IDLE, now, self.end, self._held(accelerators))

    def _held(self, accelerators: int) -> int:
        """Return how many accelerators a job keeps from others: whole servers, or its part of one."""
        return accelerators if accelerators < self.size else -(-accelerators // self.size) * self.size

    def _terms_of(self, accelerators: int, checkpoint_bytes: float) -> Terms:
        operations, nodes = self.site.operations, accelerators / self.size
        failures, planned = job_failures_per_day(operations, nodes), planned_per_day(operations, nodes)
        kept = checkpoints(self.site, accelerators, checkpoint_bytes)
        both = failures + planned
        return Terms(both / DAY_SECONDS, planned / both if both else 0.0, kept)

    def _begin(self, now: float, number: int, place: Allocation, state: State, recovery: float) -> None:
        """Put a job to work on its servers, and draw what stops it: a failure, or its end."""
        record = self.records[number]
        job = record.job
        terms = self._terms(job.accelerators, job.checkpoint_bytes)
        speed = 1 - self.site.operations.straggler_ratio
        if len(place) > 1 and self._floor.crosses(place):
            speed *= 1 - self.policy.crossing_ratio
        walls = (job.work_seconds - record.done) / speed
        writes = max(0, math.ceil(walls / terms.kept.interval_seconds - 1e-9) - 1)
        lasts = self.pace.until(now + recovery, walls + writes * terms.kept.stall_seconds) - now
        fails_after = self.chance.wait(1 / terms.hazard) if terms.hazard > 0 else math.inf
        serial = self._push(now + min(lasts, fails_after), PHASE, number)
        phase = Phase(now, recovery, state, place, speed, walls, serial, fails_after < lasts)
        if place:
            phase.nodes = sum(count for _, count in place)
            phase.estimate = now + recovery + walls * self.policy.estimate_ratio
            insort(self._ends, (phase.estimate, number, phase.nodes))
            self._running[job.priority] = self._running.get(job.priority, 0) + phase.nodes
        self._phases[number] = phase

    def _close(self, number: int, now: float, *, is_safe: bool, lost: State = State.LOST) -> Phase:
        """End a phase and write down what its accelerators did; unsafe work since the last checkpoint is lost."""
        phase, record = self._phases.pop(number), self.records[number]
        job, held = record.job, self._held(record.job.accelerators)
        kept = self._terms(job.accelerators, job.checkpoint_bytes).kept
        ready = min(now, phase.start + phase.recovery)
        self.timeline.add(phase.recovers, phase.start, ready, held)
        ran = self.pace.done(ready, now)
        cycle = kept.interval_seconds + kept.stall_seconds
        whole = int((ran if is_safe else max(0.0, ran - kept.unsafe_seconds)) / cycle)
        worked, used = whole * kept.interval_seconds, whole * cycle
        if is_safe:
            worked, used = worked + min(kept.interval_seconds, ran - used), ran
        safe = ready
        if used > 0:
            share, safe = held * worked / used, min(now, self.pace.until(ready, used))
            self.timeline.add(State.WORKING, ready, safe, share * phase.speed)
            self.timeline.add(State.STRAGGLING, ready, safe, share * (1 - phase.speed))
            self.timeline.add(State.CHECKPOINTING, ready, safe, held - share)
        self.timeline.add(lost, safe, now, held)
        record.done = min(job.work_seconds, record.done + worked * phase.speed)
        self._waiting.used(number, held * (now - phase.start))
        if phase.place:
            self._running[job.priority] -= phase.nodes
            del self._ends[bisect(self._ends, (phase.estimate, number, phase.nodes)) - 1]
        return phase

    def _phase_ends(self, now: float, number: int) -> None:
        phase = self._phases.get(number)
        if phase is None or phase.number != self._current:
            return  # it was stopped before
        record = self.records[number]
        if not phase.fails:
            self._close(number, now, is_safe=True)
            record.done, record.finished = record.job.work_seconds, now
            self._give(now, phase.place, record.job.accelerators)
            self._look(now)
            return
        terms = self._terms(record.job.accelerators, record.job.checkpoint_bytes)
        operations = self.site.operations
        restart = operations.restart_seconds + terms.kept.read_seconds
        if self.chance.share() < terms.planned_ratio:
            record.planned += 1
            self._close(number, now, is_safe=True)
            self._begin(now, number, phase.place, State.PLANNED, restart)
            return
        record.failures += 1
        self._close(number, now, is_safe=False)
        if self._survives(now):
            self._begin(now, number, phase.place, State.RECOVERING, operations.detect_seconds + restart)
            return
        self._give(now, phase.place, record.job.accelerators)
        self._lose_server(now)
        self._queue(now, number)

    def _survives(self, now: float) -> bool:
        """Draw what broke; return whether work can go on in place: nothing to repair, or a spare server for it."""
        hazard = self._hazards[min(bisect(self._shares, self.chance.share()), len(self._hazards) - 1)]
        self.causes[hazard.component] += 1
        if not hazard.replaces:
            return True
        if not self._spares:
            return False
        self._spares -= 1
        self.timeline.add(State.SPARE, now, self.end, -self.size)
        self._repair(now)
        return True

    def _repair(self, now: float) -> None:
        back = now + self.chance.wait(self.site.operations.repair_seconds)
        self.timeline.add(State.REPAIR, now, min(back, self.end), self.size)
        self._push(back, REPAIRED, 0)

    def _lose_server(self, now: float) -> None:
        """Send a free server to repair; there is one where a job of whole servers just left."""
        place = self._floor.take(1)
        if place is not None:
            self._debts.append(place)
            self.timeline.add(State.IDLE, now, self.end, -self.size)
            self._repair(now)

    def _repaired(self, now: float, _: int) -> None:
        if self._debts:  # jobs first, then spares
            self._floor.give(self._debts.pop())
            self.timeline.add(State.IDLE, now, self.end, self.size)
            self._look(now)
            return
        self._spares += 1
        self.timeline.add(State.SPARE, now, self.end, self.size)

    def _make_room(self, now: float, number: int) -> bool:
        """Stop jobs of lower priority, the last started first, until another fits, and start it."""
        priority = self.records[number].job.priority
        return self._clear(now, self._needs[number], priority) and self._start(now, number)

    def _clear(self, now: float, nodes: int, priority: float, *, is_planned: bool = False) -> bool:
        """Stop jobs of lower priority until so many servers are free; stop none if that would not do.

        What is planned waits for their checkpoints, so that they lose nothing.
        """
        free = self._floor.free
        if free + sum(count for rank, count in self._running.items() if rank < priority) < nodes:
            return False
        ranked = ((self.records[n].job.priority, -p.start, n) for n, p in self._phases.items() if p.nodes)
        found = []
        for _rank, _start, number in sorted(each for each in ranked if each[0] < priority):
            if free >= nodes:
                break
            found.append(number)
            free += self._phases[number].nodes
        for number in found:
            phase = self._close(number, now, is_safe=is_planned, lost=State.PREEMPTED)
            self.records[number].planned += is_planned
            self.records[number].preemptions += not is_planned
            self._give(now, phase.place, self.records[number].job.accelerators)
            self._queue(now, number)
        return True

    def _hour(self, now: float, hour: int) -> None:
        self.waiting_hours[hour] = len(self._waiting)
        self._waiting.age(now)
        self._push(now + 3600.0, HOUR, hour + 1)
