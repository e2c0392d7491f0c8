"""The register of invoices: one record for each that was issued, with its whole text, in one file that only grows.

Records are chained as the journal's are. The first one opens the register; an invoice's own file is a copy.

Owns the file. Knows nothing of what an invoice says.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bessemer.core.digest import canonical_json
from bessemer.core.errors import BackendError
from bessemer.core.nouns import Noun
from bessemer.meter.chain import Position, beginning, chained
from bessemer.meter.journal import SegmentReader

_OPENED = '{"register":"invoices"}'


class Issued(Noun):
    """One record: an invoice as it was issued, and what the ledger said then.

    Attributes:
        project: whom it was issued to.
        month: YYYY-MM.
        number: 1 is the first for the month.
        text: of the invoice's file.
        charged_micros: what the ledger had for the project and the month.
        read: how many records of each segment of the journal it had read, where that differs from the record before;
            None: it has entries of other hosts too, whose journals are not here.
        taken_in: it was issued before there was a register, and stands here as it was found.
    """

    project: str
    month: str
    number: int
    text: str
    charged_micros: int
    read: Mapping[str, int] | None
    taken_in: bool = False


class Register:
    """Reads and appends; what it read once it reads on from. Several threads may read.

    Args:
        path: of the file; made by the first who writes.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._ends = [beginning(path.name)]
        self._found: list[Issued] = []

    @property
    def end(self) -> Position:
        """The position after the last record that was read."""
        return self._ends[-1]

    def is_open(self) -> bool:
        """Tell whether there is a register."""
        return self._path.exists() and self._path.stat().st_size > 0

    def has(self, seq: int, hash: str) -> bool:
        """Tell whether a record, of those that were read, has this hash."""
        return seq < len(self._ends) and self._ends[seq].hash == hash

    def records(self) -> list[Issued]:
        """Return all records, in order.

        Raises:
            IntegrityError: one is not what was written, or the file is shorter than before.
        """
        with self._lock:
            if self._path.exists() or self.end.seq:
                for record in SegmentReader(self._path, self.end):
                    if record.after.seq > 1:
                        self._found.append(Issued.model_validate_json(record.text))
                    self._ends.append(record.after)
            return list(self._found)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one who appends; half a line that a crash left is cut off.

        Raises:
            BackendError: the disk refuses the file.
            IntegrityError: as `records`.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _refused(self._path, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.records()
            os.ftruncate(file, self.end.offset)
            yield
        finally:
            os.close(file)

    def append(self, records: Sequence[Issued]) -> None:
        """Write records, all or none, and return when they are on disk; the first time the one that opens comes first.

        Raises:
            BackendError: the disk refused.
        """
        bodies = [canonical_json(record.model_dump(mode="json")) for record in records]
        data, _ = chained(self.end, bodies if self.end.seq else [_OPENED, *bodies])
        with self._path.open("ab", buffering=0) as file:
            try:
                if file.write(data) < len(data):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(self.end.offset)
                raise _refused(self._path, error) from error
        self.records()


def _refused(path: Path, error: OSError) -> BackendError:
    return BackendError(f"{path} cannot be written: {error}", hint="Free some space or check the permissions.")
