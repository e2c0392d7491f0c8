"""How much work passes while all boards run slower for some hours.

Owns the translation between seconds and seconds at full speed. Knows not why boards are slow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


class Pace:
    """Speeds, hour by hour; full speed after the last one.

    >>> slow = Pace([1.0, 0.5])
    >>> slow.done(0.0, 7200.0), slow.until(0.0, 5400.0), slow.until(7200.0, 60.0)
    (5400.0, 7200.0, 7260.0)
    """

    def __init__(self, speeds: ArrayLike) -> None:
        self.speeds = np.asarray(speeds, dtype=float)
        self.is_full = bool((self.speeds == 1.0).all())
        self._times = np.arange(len(self.speeds) + 1) * 3600.0
        self._done = np.concatenate([[0.0], np.cumsum(self.speeds) * 3600.0])

    def done(self, start: float, end: float) -> float:
        """Return the seconds at full speed that pass between two times."""
        return end - start if self.is_full else self._upto(end) - self._upto(start)

    def until(self, start: float, seconds: float) -> float:
        """Return when so many seconds at full speed have passed."""
        if self.is_full:
            return start + seconds
        wanted = self._upto(start) + seconds
        if wanted >= self._done[-1]:
            return float(self._times[-1] + wanted - self._done[-1])
        return float(np.interp(wanted, self._done, self._times))

    def _upto(self, time: float) -> float:
        if time >= self._times[-1]:
            return float(self._done[-1] + time - self._times[-1])
        return float(np.interp(time, self._times, self._done))
