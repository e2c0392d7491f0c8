"""How one process hears at once that another has changed the accounts, so that a revoked key is refused everywhere.

With SQLite all processes are on one machine and share a few bytes of memory, which whoever changes something changes
too: looking costs a tenth of a microsecond. With Postgres a thread listens to notifications.

Owns both bells. What is not heard (a process was killed between its change and the bell, a connection broke) is found
by looking again after `changes.STALE_SECONDS`.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_BYTES = 8
_CHANNEL = "bessemer_accounts"
NOTIFY = f"NOTIFY {_CHANNEL}"
"""Rings Postgres's bell, when the transaction is committed."""
_AGAIN_SECONDS = 0.5


def shared_memory(file: int, size: int) -> mmap.mmap:
    """Return the beginning of a file as memory, which outlives its process and is shared by all that have it.

    Raises:
        OSError: the disk is full. To have it written first matters: else writing to the memory would kill the process.
    """
    if os.fstat(file).st_size < size and os.write(file, bytes(size)) < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return mmap.mmap(file, size)


class FileBell:
    """A few bytes that the processes of a machine share.

    Args:
        path: of the file; made if missing, for its owner only.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            self._memory = shared_memory(file, _BYTES)
            self._number = memoryview(self._memory).cast("Q")
        finally:
            os.close(file)

    def sound(self) -> int:
        """Return what differs after each ring."""
        return self._number[0]

    def ring(self) -> None:
        """Let all processes know that something was changed; to be called after the change."""
        self._memory[:_BYTES] = secrets.token_bytes(_BYTES)


class Listener:
    """Listens to Postgres's bell, in a thread of its own.

    Args:
        connect: opens a connection.
        heard: is called in the thread when something was changed, or may have been.
    """

    def __init__(self, connect: Callable[[], Any], heard: Callable[[], None]) -> None:
        self._connect, self._heard = connect, heard
        self._end, self._ended = os.pipe()
        self._listening = threading.Thread(target=self._listen, name="accounts bell", daemon=True)
        self._listening.start()

    def close(self) -> None:
        """Listen no more."""
        os.write(self._ended, b".")
        self._listening.join()
        os.close(self._end)
        os.close(self._ended)

    def _listen(self) -> None:
        while True:
            with suppress(Exception), self._connect() as connection:  # if it is away, others look again and are told
                connection.execute(f"LISTEN {_CHANNEL}")
                self._heard()
                while self._end not in self._wait(connection.fileno(), None):
                    list(connection.notifies(timeout=0))
                    self._heard()
                return
            if self._end in self._wait(None, _AGAIN_SECONDS):
                return

    def _wait(self, file: int | None, seconds: float | None) -> list[int]:
        files = [self._end] if file is None else [self._end, file]
        return select.select(files, [], [], seconds)[0]
