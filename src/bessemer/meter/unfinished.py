"""Steps that began and are not booked: noted on disk, so that the next process books those of one that was killed.

    unfinished/<meter>.json     what this meter's process has begun, with what it has taken so far
    unfinished/<meter>.lock     locked while that process lives; the kernel lets go of it, however it dies

A note is best effort: a disk that refuses it stops no step, and costs what is known of a step that is killed.

Owns the notes. Knows no sensor, and books nothing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bessemer.core.nouns import Boundary, EnergyClass, Measurement, Noun, Subject
from bessemer.meter.energy import Energy
from bessemer.meter.processor import PowerModel


class Note(Noun):
    """A step under way.

    Attributes:
        subject: of the entry, should it never be booked otherwise.
        started_at: Unix seconds.
        seen_at: when it was last known to run, Unix seconds.
        missing_seconds: how long it may have gone on after that before it was noted again.
        energy: what this machine used from its start to then and nobody else had: measured, modelled and the bounds
            of the two together, in microjoules.
    """

    subject: Subject
    started_at: float
    seen_at: float
    missing_seconds: float
    energy: tuple[int, int, int, int] = (0, 0, 0, 0)


_NOTES = TypeAdapter(tuple[Note, ...])


class Unfinished:
    """The notes of one meter, and those that dead ones left.

    Args:
        folder: where the notes are; made when there is the first.
        name: of this meter, unique for ever.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._path = folder / f"{name}.json"
        self._lock: BufferedWriter | None = None
        self.notes: dict[tuple[str, str], Note] = {}

    def begin(self, subject: Subject, started_at: float, missing_seconds: float) -> None:
        """Note a step; another attempt at the same step of the same run takes its place."""
        note = Note(subject=subject, started_at=started_at, seen_at=started_at, missing_seconds=missing_seconds)
        self.notes[subject.run, subject.name] = note
        self._write()

    def update(self, at: float, unclaimed: Callable[[float, float], Energy]) -> None:
        """Note that all steps run still, and what they have used; steps side by side share it evenly.

        Args:
            at: Unix seconds.
            unclaimed: gives the energy between two times that is nobody's.
        """
        for name, note in self.notes.items():
            found = unclaimed(note.started_at, at).share(1, len(self.notes))
            energy = (found.measured, found.modelled, found.low, found.high)
            self.notes[name] = note.model_copy(update={"seen_at": at, "energy": energy})
        if self.notes:
            self._write()

    def end(self, subject: Subject) -> None:
        """Forget the step of a run: it is booked."""
        if self.notes.pop((subject.run, subject.name), None):
            self._write()

    def _write(self) -> None:
        with suppress(OSError):
            if self._lock is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._lock = self._path.with_suffix(".lock").open("wb")
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            draft = self._path.with_suffix(".draft")
            draft.write_bytes(_NOTES.dump_json(tuple(self.notes.values())))
            draft.replace(self._path)

    def of_the_dead(self) -> Iterator[tuple[Note, ...]]:
        """Yield the notes of each process that is gone; they are removed when the next is asked for."""
        for path in sorted(self._folder.glob("*.json")):
            with suppress(OSError), path.with_suffix(".lock").open("rb+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
                if path.exists():
                    yield _read(path)
                    _remove(path)

    def close(self) -> None:
        """Let go of the notes; the next meter finds those of steps that were not ended."""
        if self._lock:
            if not self.notes:
                _remove(self._path)
            self._lock.close()
            self._lock = None


def so_far(note: Note, model: PowerModel, boundary: Boundary, source: str) -> tuple[Energy, Measurement]:
    """Return what a step is taken to have used that ended without telling: all that nobody else had until the note.

    The bounds are wider: below, of what is modelled, a machine at rest; above, one at full load after the note.

    Args:
        note: the last.
        model: of this machine's power.
        boundary: of the sensors.
        source: of the sensors.
    """
    found, seconds = Energy(*note.energy), max(0.0, note.seen_at - note.started_at)
    at_rest = model.energy(seconds, 0.0).low
    missing = model.energy(note.missing_seconds, note.missing_seconds * model.threads).high
    low = min(found.low, at_rest) if found.modelled else found.low
    energy = Energy(found.measured, found.modelled, low, found.high + missing)
    return energy, Measurement(
        seconds=seconds,
        **energy.joules(),
        energy_class=EnergyClass.ASSUMED,
        boundary=boundary,
        source=f"{source}: all that nobody else had, because the step ended without telling what it took",
    )


def _read(path: Path) -> tuple[Note, ...]:
    try:
        return _NOTES.validate_json(path.read_bytes())
    except ValidationError:  # power was lost while it was written: nothing is known
        return ()


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)
