"""A number that moves with every change of the accounts: looking costs a fraction of a microsecond.

Owns when what was read of it is still believed: while no bell sounds, and no longer than `STALE_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable

from bessemer.serve.accounts.bells import FileBell

STALE_SECONDS = 0.5


class Changes:
    """What is known of the number.

    Args:
        read: asks the database for it.
        bell: sounds otherwise after each change; None where `heard` is called instead.
        clock: any seconds; only differences are used.
    """

    def __init__(self, read: Callable[[], int], bell: FileBell | None, clock: Callable[[], float]) -> None:
        self._read, self._bell, self._clock = read, bell, clock
        self._version, self._read_at, self._times_heard = -1, float("-inf"), 0
        self._sound = 0

    def version(self) -> int:
        """Return the number."""
        now = self._clock()
        sound = self._bell.sound() if self._bell else 0
        if now - self._read_at >= STALE_SECONDS or sound != self._sound:
            before = self._times_heard
            self._version = self._read()
            self._sound = sound
            if before == self._times_heard:  # else another thread's change may have come after the reading
                self._read_at = now
        return self._version

    def heard(self) -> None:
        """Believe nothing any more that was read."""
        self._times_heard += 1
        self._read_at = float("-inf")
