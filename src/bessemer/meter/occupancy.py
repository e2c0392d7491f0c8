"""Who had the machine: its time, split at each moment equally over what was open, and the time when nothing was.

    sum of shares + sum of gaps == the last end - the first start

Owns the split. Knows no money and no database.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share(Generic[T]):
    """Time of the machine: of a span, or of nobody (`of` is None).

    Attributes:
        started_at: Unix seconds.
        seconds: that it had the machine for itself, in sum.
    """

    of: T | None
    started_at: float
    seconds: float


def occupancy(spans: Iterable[tuple[T, float, float]]) -> Iterator[Share[T]]:
    """Yield a share for each span, as it ends, and one for each gap between them.

    Memory grows with the spans that are open at once, not with all of them.

    Args:
        spans: what it is, start in Unix seconds and duration in seconds, in order of their starts.

    >>> [(share.of, share.seconds) for share in occupancy([("a", 0.0, 4.0), ("b", 2.0, 4.0), ("c", 10.0, 1.0)])]
    [('a', 3.0), ('b', 3.0), (None, 4.0), ('c', 1.0)]
    """
    level = now = 0.0
    waiting: list[tuple[float, int, T, float, float]] = []
    for number, (of, start, seconds) in enumerate(spans):
        while waiting and waiting[0][0] <= start:
            level, now, share = _ended(waiting, level, now)
            yield share
        if waiting:
            level += (start - now) / len(waiting)
        elif number and start > now:
            yield Share(None, now, start - now)
        now = max(now, start) if number else start
        heapq.heappush(waiting, (start + max(0.0, seconds), number, of, start, level))
    while waiting:
        level, now, share = _ended(waiting, level, now)
        yield share


def _ended(
    waiting: list[tuple[float, int, T, float, float]], level: float, now: float
) -> tuple[float, float, Share[T]]:
    end, _, of, start, begun = waiting[0]
    level += (end - now) / len(waiting)
    heapq.heappop(waiting)
    return level, end, Share(of, start, level - begun)
