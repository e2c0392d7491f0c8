"""What submits runs by itself: at an interval, or when data has changed.

Owns when; any number of coordinators may tick the same name, and one of them submits. Knows no step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bessemer.flow.declare import Flow
from bessemer.flow.store import Store


@dataclass(frozen=True, slots=True)
class Trigger:
    """Submits a flow when a fingerprint is no longer what it was at the last submission.

    Attributes:
        name: unique in the store.
        flow: makes the flow from the new fingerprint.
        fingerprint: of the data that is watched.
    """

    name: str
    flow: Callable[[str], Flow]
    fingerprint: Callable[[], str]

    def tick(self, store: Store) -> str:
        """Submit a run if there is something new; return its id, or ""."""
        found = self.fingerprint()
        if store.fingerprint(self.name) == found:
            return ""
        return store.submit(self.flow(found), trigger=(self.name, found))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Submits a flow once in each interval, counted from 1970; intervals that nobody was there for are left out.

    Attributes:
        name: unique in the store.
        flow: makes the flow from the number of the interval; unless a step's `inputs` say so, its results are reused.
        every_seconds: length of the interval.
        clock: Unix time in seconds.
    """

    name: str
    flow: Callable[[str], Flow]
    every_seconds: float
    clock: Callable[[], float] = time.time

    def tick(self, store: Store) -> str:
        """Submit a run if none was in this interval; return its id, or ""."""
        return Trigger(self.name, self.flow, lambda: str(int(self.clock() // self.every_seconds))).tick(store)
