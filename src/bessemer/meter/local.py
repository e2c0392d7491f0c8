"""The meter of this machine: reads the sensors at every start and stop, shares the joules out, and books.

    with open_meter(MeterConfig(region="DE"), folder) as meter:
        handle = meter.start(Subject(kind="request", id="r-1", model="m"))
        entry = meter.stop(handle, usage)          # the entry is on disk now

Two meters on one machine (two processes) both see the whole machine: each keeps its own books balanced, and what they
attribute at the same time overlaps.

Owns the wiring of sensors, attribution, prices, carbon and journal. Knows no stage that is metered.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

from bessemer.core.errors import BackendError, Conflict, NotFound
from bessemer.core.nouns import Boundary, EnergyClass, Entry, EntryStatus, Measurement, Subject, Usage
from bessemer.core.units import Money
from bessemer.meter.attribution import Attribution, Books
from bessemer.meter.batch import BatchBooks
from bessemer.meter.carbon import Grid, find_grid
from bessemer.meter.config import MeterConfig
from bessemer.meter.cut import CutStreams
from bessemer.meter.energy import Energy
from bessemer.meter.journal import Journal
from bessemer.meter.kept import Slot, Streams, about_of
from bessemer.meter.pricing import PriceBook, PriceHistory
from bessemer.meter.processor import PowerModel
from bessemer.meter.readings import Readings
from bessemer.meter.sensors import ModelSensor, Sensor
from bessemer.meter.unfinished import Note, Unfinished, so_far


@dataclass(frozen=True, slots=True)
class _Open:
    subject: Subject
    started_at: float
    began: float
    failures: int


class LocalMeter:
    """Meters this machine; calls may overlap, from several threads.

    Attributes:
        note: ends the source of all that it measures.
        counted: tells at the end what the engines counted that were metered, by model; see `readings`.
    """

    name = "local"

    def __init__(
        self,
        config: MeterConfig,
        sensors: list[Sensor],
        model: PowerModel,
        prices: PriceHistory,
        folder: Path,
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self.price_history, self.note = prices, ""
        self.counted: Callable[[], Mapping[str, Usage]] = dict
        self.grid: Grid = find_grid(config.region)
        self.capabilities = frozenset({"overlap", "steps"} | {s.name.split()[0] for s in sensors})
        self._sensors = sensors
        self._model = model
        self._journal = Journal(folder / "journal", config.durability, clock)
        self._clock = clock
        self._nonce = secrets.token_hex(4)
        name = f"{os.getpid()}-{self._nonce}"
        self._unfinished = Unfinished(folder / "unfinished", name)
        self._cut = CutStreams(self, folder)
        self.streams = Streams(folder / "streams", f"{int(clock() * 1000):013d}-{name}", config.sample_seconds)
        self._kept: dict[str, Slot] = {}
        self._issued = 0
        self._failures = 0
        self._last = [Energy()] * len(sensors)
        self._cost = Fraction(0)
        self._open: dict[str, _Open] = {}
        self._unbooked: dict[str, Entry] = {}
        self._lock = threading.Lock()
        at_rest = model.energy(1.0, 0.0).joules()["joules"]
        self._attribution = Attribution(self._read(), clock(), config.step_cost, at_rest)
        self.batch = BatchBooks(self)
        self._readings = Readings(folder / "readings", name, self._journal, self._attribution, clock)
        self._closed = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="meter-sampler", daemon=True)
        self._sampler.start()

    @property
    def prices(self) -> PriceBook:
        """The price book in force now."""
        return self.price_history.at(self._clock())

    def start(self, subject: Subject, /) -> str:
        """Begin a span; return its handle.

        Raises:
            Conflict: a span of the same subject is open.
        """
        with self._lock:
            if any(_entry_id(span.subject) == _entry_id(subject) for span in self._open.values()):
                raise Conflict(
                    f"{subject.kind} {subject.id} is being metered already", hint="Stop it, or use a new id."
                )
            began = time.monotonic()
            self._advance()
            self._issued += 1
            handle = f"{self._nonce}-{self._issued}"
            self._attribution.open(handle)
            self._open[handle] = _Open(subject, self._clock(), began, self._failures)
        return handle

    def follow(self, handle: str, progress: Callable[[], Usage], /) -> None:
        """Ask at each reading how many tokens a span has taken so far, and charge its joules by them; see `shares`."""
        self._attribution.follow(handle, progress)

    def keep(self, handle: str, /) -> Callable[[Usage], None]:
        """Return what is to be told, before each piece of a stream leaves, what an open span has taken by then.

        Should this process be killed, that is booked; see `book_cut`.
        """
        span = self._open[handle]
        book = self.price_history.at(span.started_at)
        about, energy = about_of(span.subject), lambda: self._attribution.so_far(handle)
        slot = self.streams.enter(span.subject.id, about, book, span.started_at, (0, 0), energy)
        self._kept[handle] = slot
        return slot.tell

    def stop(self, handle: str, usage: Usage, status: EntryStatus = "ok", /) -> Entry:
        """End a span; when this returns, the entry is on disk. If the disk refused, stop it again.

        What was counted stays as it was at the first stop; the status, and with it the charge, is that of the last:
        an answer that could not be booked has not left, so it did not end well.

        Raises:
            NotFound: this meter never gave that handle.
            Conflict: the span was stopped before; it is booked once.
            BackendError: the disk refused.
        """
        with self._lock:
            kept = self._unbooked.pop(handle, None)
            entry = self._ended(kept, status) if kept else self._finish(handle, usage, status)
        return self._book(handle, entry)

    def begin_step(self, subject: Subject, started_at: float) -> None:
        """Note that a step began, so that it is booked even if nobody is left to book it; `book_step` ends it.

        Args:
            subject: of the entry, should the step never be booked otherwise; `run` and `name` tell which step it is.
            started_at: Unix seconds.
        """
        with self._lock:
            self._unfinished.begin(subject, started_at, self.config.sample_seconds)

    def book_killed(self) -> list[Entry]:
        """Book, as errors, the steps that meters of this folder began whose process was killed; return the entries.

        Raises:
            BackendError: the disk refused; they are booked next time.
        """
        return [self._book_lost(note, "error") for dead in self._unfinished.of_the_dead() for note in dead]

    def book_cut(self) -> list[Entry]:
        """Book, as ``broken``, streams of processes that wrote this journal and were killed; return the entries.

        Done every few seconds, too. Each is booked once, also if this process is killed meanwhile.

        Raises:
            BackendError: the disk refused; they are booked next time.
            IntegrityError: the journal is damaged.
        """
        return self._cut.book()

    def book_step(
        self, subject: Subject, started_at: float, wall_seconds: float, cpu_seconds: float, status: EntryStatus = "ok"
    ) -> Entry:
        """Book a step after it ran somewhere on this machine, for example in a child process.

        If the meter was being read when the step began, the step gets the energy of that time which nobody else
        has: the measured part whole, the modelled part up to what its processor time explains. If not, its energy is
        modelled from its processor time alone (a graphics processor is then left out, as the source says). Of steps
        that overlapped, the one booked first takes what was measured: there `start` and `stop`, which share evenly,
        are fairer.

        Args:
            started_at: Unix seconds.
            wall_seconds: how long it ran.
            cpu_seconds: processor time of its process and children.

        Raises:
            BackendError: the disk refused.
        """
        with self._lock:
            kept = self._unbooked.pop(_entry_id(subject), None)
            if kept:
                entry = self._ended(kept, status)
            else:
                energy, measurement = self._measure_step(started_at, wall_seconds, cpu_seconds)
                entry = self._entry(subject, started_at, status, Usage(), measurement, energy)
        return self._book(entry.id, entry)

    def books(self) -> Books:
        """Read the sensors and return what was counted so far; open spans count as attributed."""
        with self._lock:
            self._advance()
            return Books(self._attribution.meter, self._attribution.attributed, self._attribution.idle)

    def close(self) -> None:
        """Book what the disk refused before, and as cancelled steps that did not end; kept spans are left to others.

        Raises:
            BackendError: the disk refuses still; the message says what is lost.
        """
        self._closed.set()
        self._sampler.join()
        try:
            self._book_kept()
            self._note_progress()
            for note in list(self._unfinished.notes.values()):
                self._book_lost(note.model_copy(update={"missing_seconds": 0.0}), "cancelled")
            with self._lock:
                self._readings.end(self.batch.made, self.batch.is_open, self.counted())
        finally:
            self.streams.close()
            self._unfinished.close()
            self._journal.close()
            self._readings.close()
            for sensor in self._sensors:
                sensor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _book_kept(self) -> None:
        while self._unbooked:
            handle, entry = self._unbooked.popitem()
            try:
                self._book(handle, entry)
            except BackendError as error:
                lost = sorted(self._unbooked.values(), key=lambda one: one.started_at)
                told = ", ".join(f"{one.id} ({one.measurement.joules:.3g} J, {one.charge})" for one in lost[:5])
                raise BackendError(
                    f"{len(lost)} entries were never booked, because the disk refuses; the first: {told}",
                    hint="Free space on that disk; what is named here is in no books.",
                ) from error

    def _sample(self) -> None:
        while not self._closed.wait(self.config.sample_seconds):
            self.batch.read()
            with self._lock:
                self._note_progress()
                self.streams.note(self._clock())
                self._readings.note(self.batch.made, self.batch.is_open or bool(self._open))
            self._cut.look()

    def _note_progress(self) -> None:
        self._advance()
        self._unfinished.update(self._clock(), self._attribution.unclaimed)

    def _book_lost(self, note: Note, status: EntryStatus) -> Entry:
        energy, measurement = so_far(note, self._model, self._boundary(), self._source())
        with self._lock:
            self._readings.elsewhere += energy.total
            entry = self._entry(note.subject, note.started_at, status, Usage(), measurement, energy)
        return self._book(entry.id, entry)

    def _advance(self) -> None:
        self._attribution.advance(self._read(), self._clock())

    def _read(self) -> Energy:
        for index, sensor in enumerate(self._sensors):
            try:
                self._last[index] = sensor.read()
            except OSError:
                self._failures += 1  # the entries of this time say so; booking tokens matters more than joules
        total = Energy()
        for energy in self._last:
            total += energy
        return total

    def _finish(self, handle: str, usage: Usage, status: EntryStatus) -> Entry:
        span = self._open.get(handle)
        if span is None:
            raise self._refusal(handle)
        self.prices.quote(usage, span.subject.model)  # refuses a usage that does not add up while the span is whole
        del self._open[handle]
        self._advance()
        energy, shared = self._attribution.close(handle)
        lost = self._failures - span.failures
        measurement = Measurement(
            seconds=max(0.0, time.monotonic() - span.began),
            **energy.joules(),
            energy_class=EnergyClass.ASSUMED if lost else self._class(shared),
            boundary=self._boundary(),
            source=self._source() + (f"; a sensor failed {lost} times" if lost else ""),
        )
        return self._entry(span.subject, span.started_at, status, usage, measurement, energy)

    def _measure_step(self, started_at: float, wall_seconds: float, cpu_seconds: float) -> tuple[Energy, Measurement]:
        self._advance()
        energy = self._model.energy(wall_seconds, cpu_seconds)
        kind, boundary = EnergyClass.MODELLED, Boundary.HOST
        source = f"model ({self._model.name}) from processor seconds; the meter was not running when it began"
        if self._attribution.covers(started_at):
            energy = self._attribution.claim(started_at, started_at + wall_seconds, energy.modelled)
            kind, boundary, source = self._class(shared=True), self._boundary(), self._source()
        else:
            self._readings.elsewhere += energy.total
        return energy, Measurement(
            seconds=wall_seconds, **energy.joules(), energy_class=kind, boundary=boundary, source=source
        )

    def _refusal(self, handle: str) -> Conflict | NotFound:
        nonce, _, number = handle.partition("-")
        if nonce == self._nonce and number.isdecimal() and 0 < int(number) <= self._issued:
            return Conflict(f"the span {handle} was stopped before", hint="Its entry is booked; stop a span once.")
        return NotFound(
            f"no span has the handle '{handle}'", hint="Use the handle that start() of this meter returned."
        )

    def _ended(self, kept: Entry, status: EntryStatus) -> Entry:
        """Return an entry that the disk refused, as it ended in the end."""
        charge = self.price_history.at(kept.started_at).charge_request(kept.usage, kept.subject, status)
        return kept.model_copy(update={"status": status, "charge": charge})

    def _entry(
        self,
        subject: Subject,
        started_at: float,
        status: EntryStatus,
        usage: Usage,
        measurement: Measurement,
        energy: Energy,
    ) -> Entry:
        self._readings.made += 1
        effectiveness, prices = self.config.power_usage_effectiveness, self.price_history.at(started_at)
        # Most requests cost less than a micro-unit: rounding the running sum keeps the sum of entries right.
        before = round(self._cost)
        self._cost += prices.exact_energy_cost(energy.total, effectiveness)
        quote = prices.quote_request(usage, subject)
        return Entry(
            id=_entry_id(subject),
            subject=subject,
            started_at=started_at,
            status=status,
            usage=usage,
            measurement=measurement,
            carbon=self.grid.footprint(measurement, effectiveness),
            energy_cost=Money(micros=round(self._cost) - before, currency=prices.currency),
            charge=prices.charge_request(usage, subject, status),
            price_version=quote.price_version if subject.kind == "request" else prices.stamp(),
        )

    def _book(self, handle: str, entry: Entry) -> Entry:
        slot = self._kept.get(handle)
        if slot:
            self.streams.booking(slot)
        try:
            self._journal.append(entry.model_dump(mode="json"))
        except BaseException:
            with self._lock:
                self._unbooked[handle] = entry
            raise
        if slot:
            self.streams.free(self._kept.pop(handle))
        if entry.subject.kind == "step":
            with self._lock:
                self._unfinished.end(entry.subject)
        return entry

    def _source(self) -> str:
        return " + ".join(sensor.name for sensor in self._sensors) + self.note

    def _class(self, shared: bool) -> EnergyClass:
        if any(isinstance(sensor, ModelSensor) for sensor in self._sensors):
            return EnergyClass.MODELLED
        return EnergyClass.ATTRIBUTED if shared else EnergyClass.MEASURED

    def _boundary(self) -> Boundary:
        kinds = {sensor.boundary for sensor in self._sensors}
        # Of several counters the narrowest says what all of them include; with the model they make up the host.
        return next(kind for kind in (Boundary.HOST, Boundary.CHIP, Boundary.BOARD) if kind in kinds)


def _entry_id(subject: Subject) -> str:
    return f"{subject.kind}:{subject.id}"
