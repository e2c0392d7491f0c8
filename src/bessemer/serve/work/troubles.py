"""What stands in the way of work that may go on later: each trouble is news once, and is waited for ever longer.

Owns the pauses. Knows neither the work nor the log.
"""

from __future__ import annotations

_FIRST_SECONDS = 1.0
_MOST_SECONDS = 60.0


class Troubles:
    """Remembers what is put off, by id."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[type[Exception], float, float]] = {}

    def put_off(self, id: str, error: Exception, now: float) -> bool:
        """Put something off, for twice as long as the last time, and return whether it was not for the same before.

        >>> troubles = Troubles()
        >>> [troubles.put_off("a", OSError(), now) for now in (0, 1, 3)], troubles.are_put_off("a", 6)
        ([True, False, False], True)
        >>> troubles.put_off("a", ValueError(), 7), troubles.are_put_off("a", 8)
        (True, False)
        """
        known, pause, _ = self._known.get(id, (None, 0.0, 0.0))
        is_new = type(error) is not known
        pause = _FIRST_SECONDS if is_new else min(_MOST_SECONDS, 2 * pause)
        self._known[id] = type(error), pause, now + pause
        return is_new

    def are_put_off(self, id: str, now: float) -> bool:
        """Whether to wait on."""
        return id in self._known and self._known[id][2] > now

    def over(self, id: str) -> None:
        """Forget what went well, or is over."""
        self._known.pop(id, None)
