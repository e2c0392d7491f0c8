"""What the simulation keeps of jobs and services while it plays, and its draws.

Owns these nouns. Knows no rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from bessemer.twin.operations import Checkpoints
from bessemer.twin.scheduling import Allocation
from bessemer.twin.timeline import State
from bessemer.twin.traffic import Job, Service


@dataclass(slots=True)
class Record:
    """What became of a job; times in seconds from the start, -1: not yet.

    Attributes:
        job: as it was sent.
        started: first start.
        finished: end of the work.
        waited: seconds in the queue, all stays.
        done: seconds of work that are safe.
        failures: unplanned interruptions.
        planned: planned interruptions.
        preemptions: stops in favour of others.
        reason: why it never can start; empty if it can.
    """

    job: Job
    started: float = -1.0
    finished: float = -1.0
    waited: float = 0.0
    done: float = 0.0
    failures: int = 0
    planned: int = 0
    preemptions: int = 0
    reason: str = ""


@dataclass(slots=True)
class Terms:
    """What holds for all jobs of one size: hazard in failures a second, and checkpoints."""

    hazard: float
    planned_ratio: float
    kept: Checkpoints


@dataclass(slots=True)
class Phase:
    """A job on its servers, from a start to the next stop."""

    start: float
    recovery: float
    recovers: State
    place: Allocation
    speed: float
    walls: float
    number: int
    fails: bool
    nodes: int = 0
    estimate: float = 0.0


@dataclass(slots=True)
class Fleet:
    """Replicas of a service that run now, and what it could not answer, in requests."""

    service: Service
    wanted: list[int]
    traffic: list[float]
    places: list[Allocation] = field(default_factory=list)
    served: float = 0.0
    refused: float = 0.0
    broken: int = 0
    added: int = 0


class Chance:
    """Draws, one at a time, from blocks: deterministic by seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 0])
        self._waits, self._shares = self._blocks("exponential"), self._blocks("random")

    def _blocks(self, kind: str) -> Iterator[float]:
        while True:
            yield from getattr(self._rng, kind)(size=4096).tolist()

    def wait(self, mean: float) -> float:
        """Return an exponential draw."""
        return next(self._waits) * mean

    def share(self) -> float:
        """Return a draw between 0 and 1."""
        return next(self._shares)

    def count(self, mean: float) -> int:
        """Return a Poisson draw."""
        return int(self._rng.poisson(mean))
