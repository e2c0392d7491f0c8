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

    @classmethod
    def every(cls, seconds: float, name: str, flow: Callable[[str], Flow]) -> Trigger:
        """Return a schedule: it submits once in each interval, counted from 1970, and leaves out those it missed.

        Args:
            seconds: length of the interval.
            name: unique in the store.
            flow: makes the flow from the interval's number; unless a step's `inputs` say so, its results are reused.
        """
        return cls(name, flow, lambda: str(int(time.time() // seconds)))
