"""Streams whose process was killed: booked as broken, for what they had taken by then, each once.

    what is in slots  -  what the journal has already  ->  one segment, there at once  ->  the slots are removed

The segment is named after the dead process and comes to be by one renaming, so that a recovery that is killed itself
leaves nothing or all of it, and the next one sees which. One process does it at a time, by the dead one's lock.

What a stream is charged was written down at its start, so that no later price book changes it. Its joules are its share
of the dead meter's count, which no other entry has; that meter's readings end before it, so nothing is compared twice.

Owns the reading of slots and the recovery. Knows no wire.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import re
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

from bessemer.core.digest import canonical_json
from bessemer.core.errors import BackendError, BessemerError
from bessemer.core.nouns import EnergyClass, Entry, Measurement, Usage
from bessemer.core.units import Money
from bessemer.meter.energy import MICRO, Energy
from bessemer.meter.journal import SegmentReader, add_segment, segments
from bessemer.meter.kept import (
    CACHED,
    ID_BYTES,
    JOULES,
    MOST,
    PERIOD,
    READ,
    SEEN,
    SET,
    START,
    UNITS,
    WORDS,
    WRITTEN,
    BookedAs,
    boot,
    is_at,
)

if TYPE_CHECKING:
    from bessemer.meter.local import LocalMeter

logger = logging.getLogger("bessemer.meter")

_LOOK_SECONDS = 5.0
_BOOT = re.compile(r"[0-9a-f-]*")
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN, errno.ESTALE})
"""Errors of the moment, which say nothing of a file."""
_ID = re.compile(r'"id":"request:([^"]+)"')


@dataclass(frozen=True, slots=True)
class Left:
    """What a dead process left of a stream.

    Attributes:
        started_at: Unix seconds.
        seen_at: when its process was last known to live, Unix seconds.
        missing_seconds: how long it may have gone on after that.
        usage: that it had taken.
        energy: that it had of the sensors' count when they were last read.
        maybe_booked: its entry was being written.
    """

    id: str
    booked_as: BookedAs
    started_at: float
    seen_at: float
    missing_seconds: float
    usage: Usage
    energy: Energy
    maybe_booked: bool


def under_way(books: Path) -> set[str]:
    """Return the ids of streams, of any process living or dead, that the journal may not have yet.

    Args:
        books: the meters' folder.

    Raises:
        BackendError: a file cannot be read that is not one of a process known to be dead.
    """
    found: set[str] = set()
    for path in (books / "streams").glob("*.slots"):
        try:
            found.update(_id(slot) for slot in _slots(_words(path)))
        except FileNotFoundError:  # its process ended, or somebody has just booked what was in it
            continue
        except OSError as error:
            raise BackendError(
                f"the streams in {path} cannot be read: {error.strerror}",
                hint=f"Let this user read it, or move it out of {path.parent}; it may hold streams that nobody booked.",
            ) from error
    return found


class CutStreams:
    """Books what other meters of a folder left, each once; safe to use from several threads.

    Args:
        meter: of this machine: slots are believed on the one that they were written on.
        books: the meters' folder.
    """

    def __init__(self, meter: LocalMeter, books: Path) -> None:
        self._meter, self._books = meter, books
        self._lock = threading.Lock()
        self._looked, self._said = float("-inf"), ""

    def book(self) -> list[Entry]:
        """Book the streams of all processes that are gone; return the entries that are new.

        A file that cannot be read is set aside, which the log says, and the others are booked.

        Raises:
            BackendError: the disk or a file's owner refused, or too many files are open; what was not booked is booked
                next time.
            IntegrityError: a record of the journal is damaged; what it may be about is not booked.
        """
        entries: list[Entry] = []
        with self._lock:
            try:
                for path in self._left():
                    with _of_the_dead(path) as is_mine:
                        entries += self._book(path, self._books / "journal") if is_mine else ()
            except OSError as error:
                raise BackendError(
                    f"the streams that a kill cut cannot be booked: {error}",
                    hint=f"Free space on the disk of {self._books}, or let this user write there; they are kept.",
                ) from error
        return entries

    def _left(self) -> list[Path]:
        """Return where slots are, or were before a kill came while their files were being removed."""
        folder = self._books / "streams"
        return sorted({path.with_suffix(".slots") for end in ("slots", "lock") for path in folder.glob(f"*.{end}")})

    def look(self) -> None:
        """Do so if it was not done for a while; what goes wrong is logged, once while it stays so, and tried again."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        said = ""
        try:
            self.book()
        except BessemerError as error:
            said = f"{error.message} {error.hint}"
        except Exception as error:  # a thread that ends would read no sensor any more
            said = f"the streams that a kill cut cannot be booked: {error!r}"
        if said and said != self._said:
            logger.error("%s", said)
        self._said = said

    def _book(self, path: Path, journal: Path) -> list[Entry]:
        name, draft = f"{path.stem}-cut.jsonl", path.with_suffix(".draft")
        entries: list[Entry] = []
        if path.exists() and not (journal / name).exists():
            try:
                if _elsewhere(path):
                    return []
                left = list(_read(path))
            except (OSError, LookupError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in _PASSING:
                    raise
                return _set_aside(path, error)
            booked = _booked(journal, [each for each in left if each.maybe_booked], path.stem)
            left = [each for each in left if each.id not in booked]
            try:
                entries = [self._entry(each, len(left)) for each in left]
            except ValueError as error:  # numbers that are none of an entry
                return _set_aside(path, error)
            if entries:
                add_segment(journal, name, [canonical_json(entry.model_dump(mode="json")) for entry in entries], draft)
        # The slots first, or a kill in between could leave some without what they are read by; the lock last.
        for suffix in (".slots", ".draft", ".sets", ".lock"):
            path.with_suffix(suffix).unlink(missing_ok=True)
        return entries

    def _entry(self, left: Left, beside: int) -> Entry:
        """Return the entry of a stream, one of several that were under way."""
        meter, booked_as = self._meter, left.booked_as
        energy, measurement = self._measurement(left, beside)
        effectiveness, prices = meter.config.power_usage_effectiveness, meter.price_history.at(left.started_at)
        return Entry(
            id=f"request:{left.id}",
            subject=booked_as.subject.model_copy(update={"id": left.id}),
            started_at=left.started_at,
            status="broken",
            usage=left.usage,
            measurement=measurement,
            carbon=meter.grid.footprint(measurement, effectiveness),
            energy_cost=Money(
                micros=round(prices.exact_energy_cost(energy.total, effectiveness)), currency=prices.currency
            ),
            charge=Money(micros=booked_as.rates.charge(left.usage), currency=booked_as.currency),
            price_version=booked_as.price_version,
        )

    def _measurement(self, left: Left, beside: int) -> tuple[Energy, Measurement]:
        """Return its share until the last reading; what the machine took after that is in the upper bound."""
        meter, found = self._meter, left.energy
        after = meter._model.energy(left.missing_seconds, left.missing_seconds * meter._model.threads).high // beside
        energy = Energy(found.measured, found.modelled, found.low, found.high + after)
        return energy, Measurement(
            seconds=left.seen_at - left.started_at,
            **energy.joules(),
            energy_class=EnergyClass.ASSUMED,
            boundary=meter._boundary(),
            source=f"{meter._source()}: its share until the last reading before its process was killed",
        )


@contextmanager
def _of_the_dead(path: Path) -> Iterator[bool]:
    """Tell within a block whether the process of these slots is gone and nobody else settles them.

    The slots themselves may be gone, too: then a kill came while the rest was removed.
    """
    with path.with_suffix(".lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
            is_mine = is_at(lock, path.with_suffix(".lock"))
        except BlockingIOError:
            is_mine = False
        yield is_mine


def _set_aside(path: Path, error: Exception) -> list[Entry]:
    """Move what cannot be read out of the way, whole: it may be billable, and is booked if mended and put back."""
    aside = path.parent / "unreadable"
    aside.mkdir(exist_ok=True)
    for suffix in (".sets", ".slots"):  # the slots last: a kill in between, and what has no slots is removed
        with suppress(FileNotFoundError):
            path.with_suffix(suffix).rename(aside / path.with_suffix(suffix).name)
    path.with_suffix(".lock").unlink(missing_ok=True)
    why = f"{type(error).__name__}: {error}".partition("\n")[0]
    logger.error(
        "the streams in %s cannot be read (%s): they are not booked, cost nobody anything, and are set aside in %s; "
        "mended and moved back with its .sets they are booked",
        *(path, why, aside),
    )
    return []


def _elsewhere(path: Path) -> bool:
    """Tell whether slots are another machine's that shares the folder: in use since this one was switched on.

    Raises:
        ValueError: they are none.
    """
    words = _words(path)
    if not _BOOT.fullmatch(_named(words)):
        raise ValueError("its header is damaged")
    used = max(int(path.stem.partition("-")[0]) / 1000, words[SEEN] / MICRO if words else 0)
    return not _is_of_this_boot(words) and used > booted_at()


def booted_at() -> float:
    """Return when this machine was switched on, Unix seconds; infinity where the system does not say."""
    since = getattr(time, "CLOCK_BOOTTIME", None)
    return float("inf") if since is None else time.time() - time.clock_gettime(since)


def _is_of_this_boot(words: array[int]) -> bool:
    return _named(words) == boot()


def _words(path: Path) -> array[int]:
    words = array("q")
    data = path.read_bytes()
    words.frombytes(data[: len(data) // (8 * WORDS) * 8 * WORDS])
    return words


def _named(words: array[int]) -> str:
    return words[: ID_BYTES // 8].tobytes().rstrip(b"\0").decode("ascii", "replace")


def _slots(words: array[int]) -> Iterator[array[int]]:
    """Yield the slots that are not free; none of a machine that has been switched off since."""
    if words and _is_of_this_boot(words):
        for at in compress(range(WORDS, len(words), WORDS), words[WORDS::WORDS]):
            yield words[at : at + WORDS]


def _id(slot: array[int]) -> str:
    return slot[: ID_BYTES // 8].tobytes().rstrip(b"\0").decode("utf-8", "replace")


def _read(path: Path) -> Iterator[Left]:
    words = _words(path)
    slots = list(_slots(words))
    if not slots:
        return
    lines = path.with_suffix(".sets").read_bytes().split(b"\n")[:-1]
    for slot in slots:
        read, written, most = slot[READ], slot[WRITTEN], slot[MOST]
        if most:  # it was counted, not told
            read, written = max(1, read), max(1, min(written, most))
        started = slot[START]
        yield Left(
            id=_id(slot),
            booked_as=BookedAs.model_validate_json(lines[slot[SET] // 2]),
            started_at=started / MICRO,
            seen_at=max(started, words[SEEN]) / MICRO,
            missing_seconds=words[PERIOD] / MICRO,
            usage=Usage(
                input_tokens=read, output_tokens=written, cached_tokens=min(slot[CACHED], read), units=slot[UNITS]
            ),
            energy=Energy(*slot[JOULES:WORDS]),
            maybe_booked=bool(slot[SET] & 1),
        )


def _booked(journal: Path, asked: Sequence[Left], stem: str) -> set[str]:
    """Return the ids, of those asked for, that the dead process booked; the newest segments first."""
    wanted, found = {each.id for each in asked}, set[str]()
    if not wanted:
        return found
    since, process = min(each.started_at for each in asked), stem.split("-")[1]
    for path in reversed(segments(journal)):
        began, writer, *_ = *path.name.split("-"), ""
        if writer == process:
            ids = (id for record in SegmentReader(path) for id in _ID.findall(record.text))
            found |= wanted.intersection(ids)
            if found == wanted or int(began) / 1000 < since:
                break
    return found
