"""What streams have taken so far, kept where a kill of their process leaves it, so that they are billed all the same.

    streams/<meter>.slots   128 bytes a stream: its id, what it has taken so far, whether its entry is being written
    streams/<meter>.sets    as what streams are booked: a line of JSON each, with the prices in force at their start
    streams/<meter>.lock    locked while that process lives; the kernel lets go of it, however it dies

The slots are memory that the kernel keeps when the process dies, so that a piece costs one store and no system call.
A slot is entered before the first piece of its stream leaves, and freed when the entry is in the journal; it says when
that is being tried, so that after a kill between both the journal has to be asked about very few.

It is not waited for the disk: after a restart of the machine slots are not believed. Where the system does not name the
time since it was switched on (Linux does), they are believed always.

Owns the files of a living process. Books nothing; `cut` reads what a dead one left.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from io import BufferedIOBase, BufferedWriter
from pathlib import Path

from bessemer.core.nouns import Noun, Subject, Usage
from bessemer.core.usage import MOST_TOKENS
from bessemer.meter.energy import MICRO, Energy
from bessemer.meter.pricing import PriceBook, Rates

logger = logging.getLogger("bessemer.meter")

About = tuple[str, str, str, str, str, str, bool]
"""Project, key, model, name, run, service tier and batch: all that a subject says of a request but its id."""

WORDS = 16
ID_BYTES = 40
SET, START, READ, CACHED, WRITTEN, UNITS, MOST, JOULES = range(ID_BYTES // 8, 13)
"""Words of a slot after its id: number of its set, and whether it is being booked; Unix microseconds; tokens; the most
output tokens that it may have, 0 where the engine tells them; four of energy. The first word is 0 in a free slot."""
SEEN, PERIOD = ID_BYTES // 8, ID_BYTES // 8 + 1
"""Words of the header, after the time since the machine was switched on: when the sensors were last read (Unix
microseconds) and how often they are."""

_SLOT_BYTES = 8 * WORDS
_CHUNK = 4096
_CHUNK_BYTES = _CHUNK * _SLOT_BYTES


class BookedAs(Noun):
    """What the entries of many streams have in common.

    Attributes:
        subject: of them all; without an id.
        rates: that they are charged by.
        currency: of the rates.
        price_version: that the rates are of.
    """

    subject: Subject
    rates: Rates
    currency: str
    price_version: str


class Slot:
    """The place of one stream.

    Attributes:
        words: 16 of them, 8 bytes each.
        energy: what the stream has of the sensors' count so far.
    """

    __slots__ = ("energy", "place", "words")

    def __init__(self, place: int, words: memoryview, energy: Callable[[], Energy]) -> None:
        self.place, self.words, self.energy = place, words, energy

    def tell(self, usage: Usage) -> None:
        """Keep what the stream has taken so far; a number that has no room in a word as the most that is believed."""
        words = self.words
        try:
            words[READ], words[WRITTEN], words[UNITS] = usage.input_tokens, usage.output_tokens, usage.units
            words[CACHED] = usage.cached_tokens
        except ValueError:
            told = (usage.input_tokens, usage.output_tokens, usage.units, usage.cached_tokens)
            for word, value in zip((READ, WRITTEN, UNITS, CACHED), told, strict=True):
                words[word] = max(0, min(value, MOST_TOKENS))

    @property
    def written(self) -> memoryview:
        """The word of the output tokens."""
        return self.words[WRITTEN : WRITTEN + 1]


class Streams:
    """The streams of this process; safe to use from several threads.

    Args:
        folder: where the files are; made with the first stream.
        stem: of the files' names, unique for ever.
        sample_seconds: how often `note` is called.
    """

    def __init__(self, folder: Path, stem: str, sample_seconds: float) -> None:
        self._path, self._seconds = folder / f"{stem}.slots", sample_seconds
        self._lock = threading.Lock()
        self._alive: BufferedWriter | None = None
        self._closed = False
        self._files: list[int] = []
        self._chunks: list[memoryview] = []
        self._free: list[int] = []
        self._open: dict[int, Slot] = {}
        self._numbers: dict[tuple[About, int], int] = {}

    def enter(
        self, id: str, about: About, book: PriceBook, at: float, likely: tuple[int, int], energy: Callable[[], Energy]
    ) -> Slot:
        """Return the place of a stream that begins; where the disk gives none, or after `close`, one no kill leaves.

        Args:
            id: of the request, 40 bytes at most.
            about: what it is booked as.
            book: in force at its start.
            at: its start, Unix seconds.
            likely: input tokens, and the most output tokens that are believed (0: as many as are told).
            energy: tells what it has of the sensors' count so far.
        """
        name = id.encode().ljust(ID_BYTES, b"\0")
        try:
            with self._lock:
                if self._closed:
                    return _unkept(energy)
                number = self._number(about, book)
                place = self._place()
                words = self._chunks[place // _CHUNK][place % _CHUNK * WORDS :][:WORDS]
                slot = self._open[place] = Slot(place, words, energy)
        except OSError as error:
            logger.error("request %s is not kept while it streams: %s", id, error.strerror)
            return _unkept(energy)
        read, most = likely
        for word, value in ((SET, 2 * number), (START, round(at * MICRO)), (READ, read), (MOST, most)):
            words[word] = value
        for word in (CACHED, WRITTEN, UNITS, *range(JOULES, WORDS)):
            words[word] = 0
        words[1 : ID_BYTES // 8] = memoryview(name[8:]).cast("q")
        words[0] = int.from_bytes(name[:8], sys.byteorder)  # last, and at once: a slot without it is free
        return slot

    def booking(self, slot: Slot) -> None:
        """Note that the entry of a stream is being written: from now on the journal may have it."""
        slot.words[SET] |= 1

    def free(self, slot: Slot) -> None:
        """Make room: the journal has the entry."""
        with self._lock:
            if self._open.get(slot.place) is slot:
                slot.words[0] = 0
                del self._open[slot.place]
                self._free.append(slot.place)

    def note(self, at: float) -> None:
        """Keep that the process lives, and what each stream has of the sensors' count.

        Args:
            at: Unix seconds.
        """
        if not self._chunks:
            return
        with self._lock:
            for slot in self._open.values():
                found = slot.energy()
                energy = (found.measured, found.modelled, found.low, found.high)
                for word, value in enumerate(energy, JOULES):
                    slot.words[word] = value
            self._chunks[0][SEEN] = round(at * MICRO)

    def close(self) -> None:
        """Close the files, and remove them unless a stream is in them: then the next meter books it."""
        with self._lock:
            self._closed = True
            if not self._alive:
                return
            if not self._open:
                for path in (self._path, self._path.with_suffix(".sets"), self._path.with_suffix(".lock")):
                    path.unlink(missing_ok=True)
            for file in self._files:
                os.close(file)
            self._alive.close()  # last: who can lock it finds the others as they will stay
            self._alive, self._files, self._chunks, self._free, self._numbers = None, [], [], [], {}

    def _number(self, about: About, book: PriceBook) -> int:
        """Return the number of a set, which is written down first."""
        found = self._numbers.get((about, id(book)))
        if found is None:
            self._made()
            line, size = _booked_as(about, book).model_dump_json().encode() + b"\n", os.fstat(self._files[0]).st_size
            if os.write(self._files[0], line) < len(line):
                os.ftruncate(self._files[0], size)  # or the next line would be glued to half of this one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            found = self._numbers[about, id(book)] = len(self._numbers)
        return found

    def _place(self) -> int:
        if not self._free:
            place = len(self._chunks) * _CHUNK
            self._chunks.append(self._grown())
            first = 1 if not place else 0
            self._free = list(range(place + _CHUNK - 1, place + first - 1, -1))
        return self._free.pop()

    def _grown(self) -> memoryview:
        """Return more memory, which the disk has room for: else writing to it would kill the process."""
        data = bytearray(_CHUNK_BYTES)
        if not self._chunks:
            header = memoryview(data)
            header[:ID_BYTES] = boot().encode().ljust(ID_BYTES, b"\0")[:ID_BYTES]
            header.cast("q")[PERIOD] = round(self._seconds * MICRO)
        size = len(self._chunks) * _CHUNK_BYTES
        if os.pwrite(self._files[1], data, size) < _CHUNK_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return memoryview(mmap.mmap(self._files[1], _CHUNK_BYTES, offset=size)).cast("q")

    def _made(self) -> None:
        """Make the files: the lock is held before there is anything that it stands for."""
        if self._alive:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undone:
            alive = undone.enter_context(self._locked())
            flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
            sets = os.open(self._path.with_suffix(".sets"), flags, 0o600)
            undone.callback(os.close, sets)
            self._files = [sets, os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)]
            self._alive = alive
            undone.pop_all()

    def _locked(self) -> BufferedWriter:
        while True:
            alive = (path := self._path.with_suffix(".lock")).open("wb")
            try:
                fcntl.flock(alive, fcntl.LOCK_EX)
                if is_at(alive, path):  # else somebody took it for a dead process's before it was locked
                    return alive
            except OSError:
                alive.close()
                raise
            alive.close()


def is_at(file: BufferedIOBase, path: Path) -> bool:
    """Tell whether an open file is the one at a path still."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _unkept(energy: Callable[[], Energy]) -> Slot:
    return Slot(-1, memoryview(bytearray(_SLOT_BYTES)).cast("q"), energy)


def about_of(subject: Subject) -> About:
    """Return all that a subject says of a request but its id."""
    whose = subject.project, subject.key_id, subject.model
    return *whose, subject.name, subject.run, subject.service_tier, subject.batch


def _booked_as(about: About, book: PriceBook) -> BookedAs:
    project, key_id, model, name, run, service_tier, batch = about
    subject = Subject(
        kind="request", id="", name=name, run=run, project=project, key_id=key_id, model=model,
        service_tier=service_tier, batch=batch,
    )  # fmt: skip
    rates = book.price(model, project)[0].rates(service_tier, batch=batch)
    return BookedAs(
        subject=subject,
        rates=Rates(input=rates.input, output=rates.output, cached=rates.cached, unit=rates.unit),
        currency=book.currency,
        price_version=book.quote_request(Usage(), subject).price_version,
    )


def boot() -> str:
    """Return the name of the time since this machine was switched on; empty where the system gives it none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
