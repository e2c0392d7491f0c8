"""What each accelerator does, as a time line: states with a start, an end and a number, added up by the hour.

Owns the states and the adding. Knows no job and no rule.
"""

from __future__ import annotations

from array import array
from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class State(IntEnum):
    """What an accelerator does; at each moment exactly one of these. DOWN are replicas that start or recover, THROTTLED
    is what boards that a cap or a cut of power slows do less."""

    WORKING = auto()
    THROTTLED = auto()
    SERVING = auto()
    HEADROOM = auto()
    DOWN = auto()
    STRAGGLING = auto()
    CHECKPOINTING = auto()
    LOST = auto()
    PREEMPTED = auto()
    RECOVERING = auto()
    STARTING = auto()
    PLANNED = auto()
    REPAIR = auto()
    MAINTENANCE = auto()
    SPARE = auto()
    IDLE = auto()


class Timeline:
    """Stretches of time in which a number of accelerators are in a state."""

    def __init__(self) -> None:
        self._rows = {state: array("d") for state in State}

    def add(self, state: State, start: float, end: float, accelerators: float) -> None:
        """Add a stretch, in seconds from the start; a negative number takes away."""
        if end > start and accelerators:
            self._rows[state].extend((start, end, accelerators))

    def hourly(self, state: State, hours: int) -> Array:
        """Return the mean number of accelerators in a state, for each hour; nothing is lost to rounding of times.

        Shape: (hours,). Stretches beyond the last hour are cut off.
        """
        rows = np.frombuffer(self._rows[state], dtype=float).reshape(-1, 3)
        edges = np.arange(hours + 1) * 3600.0
        times = np.concatenate([rows[:, 0], rows[:, 1]])
        steps = np.concatenate([rows[:, 2], -rows[:, 2]])
        order = np.argsort(times, kind="stable")
        times, levels = times[order], np.cumsum(steps[order])
        if not len(times):
            return np.zeros(hours)
        area = np.concatenate([[0.0], np.cumsum(levels[:-1] * np.diff(times))])
        upto = np.interp(edges, times, area)
        return np.asarray(np.diff(upto) / 3600.0)

    def seconds(self, state: State) -> float:
        """Return the accelerator-seconds in a state."""
        rows = np.frombuffer(self._rows[state], dtype=float).reshape(-1, 3)
        return float(((rows[:, 1] - rows[:, 0]) * rows[:, 2]).sum())

    def __len__(self) -> int:
        return sum(len(rows) // 3 for rows in self._rows.values())
