"""What a meter says of itself at moments of rest, written down so that its entries can be held against it later.

    energy of its entries == what it counted - idle + what it booked from elsewhere     exactly, in microjoules
    tokens of its entries == what the engines counted themselves                        exactly, where they count

A moment of rest is one in which no span is open and every entry is in the journal: the end of a meter that was closed,
and about once a minute before. Of a meter that was killed the last of these stands, and what it booked after that
cannot be compared.

Owns the readings and the comparison. Knows no sensor, no engine and no ledger.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bessemer.core.errors import BackendError
from bessemer.core.nouns import Noun, Usage
from bessemer.meter.attribution import Attribution
from bessemer.meter.energy import MICRO
from bessemer.meter.journal import Journal, SegmentReader, segments

READ_SECONDS = 60.0


class Reading(Noun):
    """What one meter had counted by a moment of rest.

    Attributes:
        meter: which, unique for ever.
        at: Unix seconds.
        entries: that it made.
        records: that it wrote, by segment of the journal; more than the entries where one was written twice.
        microjoules: that the meter counted.
        idle_microjoules: of these, what nobody had.
        open_microjoules: of these, what spans had that were never ended.
        elsewhere_microjoules: that entries have from a model or a note, and not from this meter's count.
        tokens: by model, what its engine counted as read and delivered; only at the end.
    """

    meter: str
    at: float
    entries: int
    records: Mapping[str, int]
    microjoules: int
    idle_microjoules: int
    open_microjoules: int = 0
    elsewhere_microjoules: int = 0
    tokens: Mapping[str, Usage] = {}

    @property
    def booked_microjoules(self) -> int:
        """What its entries must have."""
        return self.microjoules - self.idle_microjoules - self.open_microjoules + self.elsewhere_microjoules


@dataclass(slots=True)
class Compared:
    """What a comparison found.

    Attributes:
        meters: that said something.
        entries: of theirs.
        microjoules: that these entries have.
        tokens: of requests that engines counted too.
        drifts: what does not agree, in words.
    """

    meters: int = 0
    entries: int = 0
    microjoules: int = 0
    tokens: int = 0
    drifts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Booked:
    entries: int = 0
    microjoules: int = 0
    tokens: dict[str, list[int]] = field(default_factory=dict)

    def add(self, entry: dict[str, Any]) -> None:
        self.entries += 1
        self.microjoules += round(entry["measurement"]["joules"] * MICRO)
        subject, usage = entry["subject"], entry["usage"]
        if subject["kind"] == "request":
            sums = self.tokens.setdefault(str(subject["model"]), [0, 0])
            sums[0] += int(usage["input_tokens"])
            sums[1] += int(usage["output_tokens"])


class Readings:
    """The readings that one meter writes. A disk that refuses one stops nothing: there is one fewer to compare with.

    Args:
        folder: a journal of its own; made with the first.
        name: of the meter.
        journal: of the entries.
        counted: what the meter counted.
        clock: gives Unix seconds.

    Attributes:
        made: entries that were made, but for those of batches; each is counted before the journal has it.
        elsewhere: microjoules that entries have from a model or a note.
    """

    def __init__(
        self, folder: Path, name: str, journal: Journal, counted: Attribution, clock: Callable[[], float]
    ) -> None:
        self._folder, self._name, self._journal, self._counted, self._clock = folder, name, journal, counted, clock
        self.made = self.elsewhere = 0
        self._own: Journal | None = None
        self._written, self._due = 0, 0.0

    def note(self, made_in_batches: int, is_open: bool) -> None:
        """Write a reading if one is due and this is a moment of rest; `is_open` says whether anything is under way."""
        if not is_open and self.made + made_in_batches > self._written and time.monotonic() >= self._due:
            self._write(made_in_batches, {})

    def end(self, made_in_batches: int, is_open: bool, tokens: Mapping[str, Usage]) -> None:
        """Write the last reading, unless a batch is open: what its requests share is nobody's yet."""
        if self.made + made_in_batches and not is_open:
            self._write(made_in_batches, tokens)

    def close(self) -> None:
        """Close the readings' own journal, if there is one."""
        if self._own:
            self._own.close()

    def _write(self, made_in_batches: int, tokens: Mapping[str, Usage]) -> None:
        made, (accepted, records) = self.made + made_in_batches, self._journal.written()
        if accepted < made:
            return
        self._written, self._due = made, time.monotonic() + READ_SECONDS
        reading = Reading(
            meter=self._name,
            at=self._clock(),
            entries=made,
            records=records,
            microjoules=self._counted.meter.total,
            idle_microjoules=self._counted.idle.total,
            open_microjoules=self._counted.in_spans.total,
            elsewhere_microjoules=self.elsewhere,
            tokens=tokens,
        )
        with suppress(BackendError):
            self._own = self._own or Journal(self._folder)
            self._own.append(reading.model_dump(mode="json"))


def compare(folder: Path, journal: Path) -> Compared:
    """Hold the entries of every meter that wrote readings against the last of these.

    Args:
        folder: of the readings.
        journal: of the entries.

    Raises:
        IntegrityError: a record of either is damaged.
    """
    last: dict[str, Reading] = {}
    for path in segments(folder):
        for record in SegmentReader(path):
            reading = Reading.model_validate_json(record.text)
            if reading.meter not in last or last[reading.meter].at <= reading.at:
                last[reading.meter] = reading
    found = Compared(meters=len(last))
    for reading in last.values():
        booked = _booked(reading, journal)
        found.entries += booked.entries
        found.microjoules += booked.microjoules
        found.tokens += sum(sum(booked.tokens.get(model, ())) for model in reading.tokens)
        found.drifts += _drifts(reading, booked)
    return found


def _booked(reading: Reading, journal: Path) -> _Booked:
    booked = _Booked()
    seen: set[str] | None = set() if sum(reading.records.values()) > reading.entries else None
    for name, count in reading.records.items():
        path = journal / name
        if not path.exists():
            continue
        for record in SegmentReader(path):
            if record.after.seq > count:
                break
            entry = json.loads(record.text)
            if seen is not None:
                if entry["id"] in seen:
                    continue  # written again, after the disk had refused it
                seen.add(entry["id"])
            booked.add(entry)
    return booked


def _drifts(reading: Reading, booked: _Booked) -> list[str]:
    name, found = f"meter {reading.meter}", []
    if booked.entries != reading.entries:
        found.append(f"{name} made {reading.entries:,} entries, the journal has {booked.entries:,}")
    if booked.microjoules != reading.booked_microjoules:
        found.append(
            f"{name} gave out {reading.booked_microjoules:,} microjoules, its entries have {booked.microjoules:,}"
        )
    for model, counted in reading.tokens.items():
        told = (counted.input_tokens, counted.output_tokens)
        written = tuple(booked.tokens.get(model, (0, 0)))
        if told != written:
            found.append(
                f"the engine of {model} counted {told[0]:,} + {told[1]:,} tokens at {name},"
                f" its entries have {written[0]:,} + {written[1]:,}"
            )
    return found
