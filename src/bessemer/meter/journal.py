"""The journal: append-only segments of JSON lines, each chained to the one before by SHA-256, on disk before it counts.

    {"body":{...},"prev":"<hash of the record before>","seq":7,"hash":"<SHA-256 of all that stands before it>"}

Every process writes its own segments and never one that another began, so nothing needs to be repaired before
appending: a line that a crash tore stays at the end of its segment, where readers leave it alone.

What is lost when? ``fsync``: nothing that `append` returned for. ``interval``: after a crash of the process nothing;
after a loss of power what was appended in the last 20 milliseconds and the time that the disk then takes.

Owns files and hashes. Knows nothing of what a body means.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bessemer.core.digest import canonical_json, digest_bytes
from bessemer.core.errors import BackendError, IntegrityError
from bessemer.meter.chain import Position, beginning, chained

Durability = Literal["fsync", "interval"]

SYNC_SECONDS = 0.020
SEGMENT_BYTES = 64 * 1024 * 1024
_HEAD = b'{"body":'
_TAIL = len(',"hash":""}') + 64


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read: its body in JSON, and the position after it."""

    text: str
    after: Position


class _Segment:
    """One open file: writes in order under the journal's lock, and syncs for many threads at once."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _sync_folder(path.parent)
        self.end = beginning(path.name)
        self.broken = False
        self._synced = 0
        self._turn = threading.Lock()

    def write(self, bodies: Sequence[str]) -> Position:
        """Write records of bodies in JSON, all or none."""
        data, end = chained(self.end, bodies)
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            self._undo()
            raise
        self.end = end
        return end

    def sync(self, upto: Position) -> None:
        """Return when the disk has everything up to a position; whoever comes first syncs for all who wait."""
        with self._turn:
            if self._synced >= upto.offset:
                return
            if self.broken:
                raise OSError("an earlier sync of this segment failed")
            target = self.end.offset
            try:
                _flush(self._file)
            except OSError:
                self.broken = True  # the kernel may have dropped the pages: this file is not to be trusted again
                raise
            self._synced = target

    def close(self) -> None:
        os.close(self._file)

    def _undo(self) -> None:
        # A full disk leaves half a line: cut it off, or the next record would be glued to it.
        try:
            os.ftruncate(self._file, self.end.offset)
        except OSError:
            self.broken = True


class Journal:
    """Appends records for this process; safe to use from several threads.

    Args:
        folder: where the segments are; made if missing. Several processes may use it at once.
        durability: ``fsync`` or ``interval``, see above.
        clock: gives Unix seconds, for the names of segments only.
    """

    def __init__(self, folder: Path, durability: Durability = "fsync", clock: Callable[[], float] = time.time) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(folder.parent)
        self.folder = folder
        self.durability = durability
        self._clock = clock
        self._lock = threading.Lock()
        self._written: dict[str, int] = {}
        self._accepted = 0
        self._segment: _Segment | None = None
        self._owner = 0
        self._dirty = threading.Event()
        self._closed = threading.Event()
        self._syncer: threading.Thread | None = None

    def append(self, body: Mapping[str, Any]) -> Position:
        """Write a record, and return when it is as safe as the durability promises.

        Raises:
            BackendError: the disk refused. The record does not count; appending it again is safe.
        """
        return self.append_many((canonical_json(body),))

    def append_many(self, bodies: Sequence[str]) -> Position:
        """Write records with one write, and return when they are as safe as the durability promises.

        Args:
            bodies: JSON in one line each; at least one.

        Raises:
            BackendError: the disk refused. No record counts; appending them again is safe.
        """
        try:
            with self._lock:
                segment = self._open_segment()
                position = segment.write(bodies)
                self._written[position.segment] = position.seq
            if self.durability == "fsync":
                segment.sync(position)
            elif not self._dirty.is_set():
                self._dirty.set()
            with self._lock:
                self._accepted += len(bodies)
        except OSError as error:
            raise BackendError(
                f"cannot write the journal in {self.folder}: {error}",
                hint="Free space on that disk or mend it, then book again: nothing was counted.",
            ) from error
        return position

    def written(self) -> tuple[int, dict[str, int]]:
        """Return how many records `append` has returned for, and the last of each segment that was written."""
        with self._lock:
            return self._accepted, dict(self._written)

    def close(self) -> None:
        """Sync and close this process's segment."""
        self._closed.set()
        self._dirty.set()
        if self._syncer:
            self._syncer.join()
        with self._lock:
            if self._segment and self._owner == os.getpid():
                self._retire(self._segment)
            self._segment = None

    def _open_segment(self) -> _Segment:
        if self._closed.is_set():
            raise OSError("this journal is closed")
        current = self._segment
        if current and self._owner == os.getpid():
            if not current.broken and current.end.offset < SEGMENT_BYTES:
                return current
            self._retire(current)
        # After a fork the parent's segment stays the parent's.
        name = f"{int(self._clock() * 1000):013d}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._segment, self._owner = _Segment(self.folder / name), os.getpid()
        if self.durability == "interval" and (self._syncer is None or not self._syncer.is_alive()):
            self._syncer = threading.Thread(target=self._sync_often, name="journal-sync", daemon=True)
            self._syncer.start()
        return self._segment

    def _retire(self, segment: _Segment) -> None:
        try:
            if not segment.broken:
                segment.sync(segment.end)
        finally:
            segment.close()

    def _sync_often(self) -> None:
        while not self._closed.is_set():
            self._dirty.wait()
            self._dirty.clear()
            self._closed.wait(SYNC_SECONDS)
            with self._lock:
                segment = self._segment
                end = segment.end if segment else None
            if segment and end:
                with contextlib.suppress(OSError):  # it is marked broken, and the next append opens another
                    segment.sync(end)


def segments(folder: Path) -> list[Path]:
    """Return the segments of a journal, oldest first."""
    return sorted(folder.glob("*.jsonl"))


def add_segment(folder: Path, name: str, bodies: Sequence[str], draft: Path) -> None:
    """Add a segment that is whole at once and on disk: a kill at any instant leaves all of its records, or none.

    Args:
        folder: of the journal; made if missing.
        name: of the segment, which no other may have.
        bodies: JSON in one line each.
        draft: where it is written first, on the same file system.

    Raises:
        OSError: the disk refused; nothing was added.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, _ = chained(beginning(name), bodies)
    file = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        done = 0
        while done < len(data):
            done += os.write(file, data[done:])
        _flush(file)
    finally:
        os.close(file)
    draft.rename(folder / name)
    _sync_folder(folder)


class SegmentReader:
    """Iterates over the whole records of a segment, from a position on, and checks each.

    Attributes:
        torn_bytes: how much stands behind `end`: a line still being written, or one that a crash tore.
    """

    def __init__(self, path: Path, start: Position | None = None) -> None:
        self._path = path
        start = start or beginning(path.name)
        self._offset, self._seq, self._hash = start.offset, start.seq, start.hash
        self.torn_bytes = 0

    @property
    def end(self) -> Position:
        """The position after the last whole record that was read."""
        return Position(self._path.name, self._offset, self._seq, self._hash)

    def __iter__(self) -> Iterator[Record]:
        """Yield the records.

        Raises:
            IntegrityError: a whole line is not what was written, or something before the start is missing.
        """
        for body in self.bodies():
            yield Record(body.decode(), self.end)

    def bodies(self) -> Iterator[bytes]:
        """Yield the records' bodies, as JSON.

        Raises:
            IntegrityError: as iterating does.
        """
        with self._path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < self._offset:
                raise IntegrityError(
                    f"{self._path.name} is {size} bytes long, but {self._offset} were read from it before",
                    hint="Somebody cut or replaced it: restore it from a copy.",
                )
            file.seek(self._offset)
            for line in file:
                # Only a crash leaves a line without its end, or (power lost between two pages) zeros.
                if not line.endswith(b"\n") or b"\0" in line:
                    self.torn_bytes = max(len(line), size - self._offset)
                    return
                yield self._check(line)

    def _check(self, line: bytes) -> bytes:
        text, seq, wrong = line[: -_TAIL - 1], self._seq + 1, ""
        expected = digest_bytes(text)
        after = b',"prev":"%b","seq":%d' % (self._hash.encode(), seq)
        if not line.endswith(b',"hash":"%b"}\n' % expected.encode()):
            wrong = "its checksum does not match"
        elif not (text.startswith(_HEAD) and text.endswith(after)):
            wrong = "it does not follow the record before it"
        if wrong:
            raise IntegrityError(
                f"record {seq} of {self._path.name} (byte {self._offset}) is damaged: {wrong}",
                hint="Restore the file from a copy; records before this one are whole.",
            )
        self._offset += len(line)
        self._seq, self._hash = seq, expected
        return text[len(_HEAD) : -len(after)]


@dataclass(frozen=True, slots=True)
class JournalReport:
    """What a check of the whole journal found."""

    segments: int
    records: int
    torn_bytes: int


def verify(folder: Path) -> JournalReport:
    """Read every record of a journal and return how many are whole.

    Raises:
        IntegrityError: names the first bad record.
    """
    paths = segments(folder)
    records = torn = 0
    for path in paths:
        reader = SegmentReader(path)
        records += sum(1 for _ in reader)
        torn += reader.torn_bytes
    return JournalReport(len(paths), records, torn)


def _flush(file: int) -> None:
    os.fsync(file)
    if sys.platform == "darwin":  # where fsync leaves the data in the drive's cache
        import fcntl

        fcntl.fcntl(file, fcntl.F_FULLFSYNC)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
