"""What becomes of reservations whose process died: settled from the books, released when nothing was charged.

    workers/books            names the books that all workers of this folder write
    workers/<worker>.lock    locked while that process lives; the kernel lets go of it, however it dies
    workers/<worker>.slate   what its requests hold (`slates`)

Only who shares the books with a dead worker can know what it booked, so nobody else touches its reservations.

Owns the locks and the sweep. Knows no ledger: what requests were charged is handed in.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bessemer.core.errors import ConfigError
from bessemer.serve.accounts.budgets import Budgets
from bessemer.serve.accounts.leases import Leases
from bessemer.serve.accounts.slates import read_slate, remove_slate

Charged = Callable[[Sequence[str]], Mapping[str, int]]
"""From ids of requests whose process is dead to what they were charged, in micro-units: 0 only where it is certain
that nothing was charged and nothing will be; who is left out stays reserved."""


class Worker:
    """This process, known to be alive by the lock that it holds until it ends.

    Args:
        folder: of all workers that write the same books; made if missing.

    Attributes:
        id: of this process.
        books: names the books that it writes.

    Raises:
        ConfigError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = secrets.token_hex(8)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.books = _books(folder / "books")
            self._path = folder / f"{self.id}.lock"
            self._lock = self._path.open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise ConfigError(
                f"the folder {folder} cannot be used: {error.strerror}", hint="Check its permissions."
            ) from error

    def is_dead(self, worker: str) -> bool:
        """Whether another worker of this folder has ended."""
        if worker == self.id:
            return False
        try:
            with (self.folder / f"{worker}.lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True  # a lock is there before the first reservation and goes after the last
        except BlockingIOError:
            return False
        return True

    def forget(self, worker: str) -> None:
        """Remove the lock of a dead worker that has no reservations any more."""
        with suppress(FileNotFoundError):
            (self.folder / f"{worker}.lock").unlink()

    def close(self) -> None:
        """Let go of the lock: what is reserved still is settled by the others, from the books."""
        self.forget(self.id)
        self._lock.close()


JOBS = "jobs"
"""Stands for the worker in reservations of work that outlives the process that took it in."""


def sweep(budgets: Budgets, leases: Leases, worker: Worker, charged: Charged) -> int:
    """Settle what dead workers of the same books left reserved; return how many requests that were."""
    settled = 0
    reserved, holders = budgets.reserved(worker.books), {each.worker: each for each in leases.holders()}
    for other in sorted({*reserved, *holders} - {JOBS}):
        if not worker.is_dead(other):
            continue
        ids, holder = reserved.get(other, ()), holders.get(other)
        left = read_slate(worker.folder, other, holder.round) if holder else []
        known = charged(tuple(dict.fromkeys((*ids, *(request.id for request in left or ())))))
        settled += budgets.settle_all((id, known[id]) for id in ids if id in known)
        if holder and all(request.id in known for request in left or ()):
            leases.settle_dead(holder, left, known)
            settled += max(1, len(left or ()))
            holder = None
        if not holder and all(id in known for id in ids):
            remove_slate(worker.folder, other)
            worker.forget(other)
    return settled


def _books(path: Path) -> str:
    """Return the name of the books; whoever comes first gives it."""
    if not path.exists():
        draft = path.with_name(f".books.{os.getpid()}.{secrets.token_hex(4)}")
        draft.write_text(secrets.token_hex(16), encoding="ascii")
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text(encoding="ascii")
