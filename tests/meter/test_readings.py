"""What a meter wrote of itself agrees with its entries, and tells when they do not. See `agreed` in conftest too."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from bessemer.core.errors import IntegrityError
from bessemer.core.forwarding import Spent
from bessemer.core.nouns import Subject, Usage
from bessemer.meter import LocalMeter, MeterConfig, compare_readings, open_meter, verify
from bessemer.meter.journal import Journal, SegmentReader, segments

from .conftest import Machine, request_subject

OFTEN = MeterConfig(sample_seconds=0.05)
QUIET = MeterConfig(sample_seconds=60)


def drifts(folder: Path) -> list[str]:
    return compare_readings(folder / "readings", folder / "journal").drifts


def used(machine: Machine, folder: Path) -> None:
    """Leave behind a meter with requests one by one and in batches, and steps of all kinds."""
    chance, counter, energy = random.Random(4), machine.add_package(0), 0
    with open_meter(QUIET, folder, paths=machine.paths) as meter:
        meter.counted = lambda: {"m": Usage(input_tokens=150, output_tokens=30)}
        for number in range(30):
            energy += chance.randrange(1_000_000)
            counter.write_text(str(energy))
            one = [Spent(f"b{number}", "p", "k", "other", usage=(7, 1, 0))]
            meter.batch.begin(one[0])
            handle = meter.start(request_subject(f"r{number}"))
            energy += chance.randrange(1_000_000)
            counter.write_text(str(energy))
            meter.stop(handle, Usage(input_tokens=5, output_tokens=1), chance.choice(["ok", "error", "cancelled"]))
            meter.batch.book(one)
        meter.book_step(Subject(kind="step", id="s"), 5.0, 1.0, 0.5)  # before the meter was there
        meter.start(request_subject("never ended"))
        counter.write_text(str(energy + 12_345))


def forged(folder: Path, old: str, new: str) -> None:
    """Write the entries again with one text changed, and every hash right."""
    (path,) = segments(folder / "journal")
    texts = [record.text.replace(old, new) for record in SegmentReader(path)]
    shutil.rmtree(folder / "journal")
    journal = Journal(folder / "journal")
    journal.append_many(texts)
    journal.close()
    (made,) = segments(folder / "journal")
    (reading,) = segments(folder / "readings")
    (body,) = (json.loads(record.text) for record in SegmentReader(reading))
    shutil.rmtree(folder / "readings")
    readings = Journal(folder / "readings")
    readings.append({**body, "records": {made.name: len(texts)}})
    readings.close()
    verify(folder / "journal")


def test_all_that_a_meter_books_adds_up_to_what_it_counted(machine: Machine, tmp_path: Path) -> None:
    used(machine, tmp_path)
    found = compare_readings(tmp_path / "readings", tmp_path / "journal")
    assert (found.meters, found.entries, found.tokens, found.drifts) == (1, 61, 180, [])
    assert found.microjoules > 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"joules":0.', '"joules":1.', "microjoules, its entries have"),
        ('"input_tokens":5', '"input_tokens":6', "counted 150 + 30 tokens at"),
        ('"id":"request:r3"', '"id":"request:r3"', ""),
    ],
)
def test_a_forged_journal_whose_hashes_are_right_is_found_out(
    machine: Machine, tmp_path: Path, old: str, new: str, said: str
) -> None:
    used(machine, tmp_path)
    forged(tmp_path, old, new)
    found = drifts(tmp_path)
    assert bool(found) == bool(said) and all(said in each for each in found)
    shutil.rmtree(tmp_path / "readings")


def test_records_that_are_gone_are_missed(machine: Machine, tmp_path: Path) -> None:
    used(machine, tmp_path)
    (path,) = segments(tmp_path / "journal")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert drifts(tmp_path)[0].endswith("made 61 entries, the journal has 60")
    path.unlink()
    assert drifts(tmp_path)[0].endswith("made 61 entries, the journal has 0")
    shutil.rmtree(tmp_path / "readings")


def test_a_reading_that_was_changed_is_damaged(machine: Machine, tmp_path: Path) -> None:
    used(machine, tmp_path)
    (path,) = segments(tmp_path / "readings")
    path.write_bytes(path.read_bytes().replace(b'"entries":61', b'"entries":60'))
    with pytest.raises(IntegrityError, match="checksum"):
        drifts(tmp_path)
    shutil.rmtree(tmp_path / "readings")


def until_read(meter: LocalMeter, folder: Path) -> None:
    for _ in range(500):
        if list(folder.glob("readings/*.jsonl")):
            return
        meter._closed.wait(0.02)
    raise AssertionError("no reading came")


def test_a_meter_that_never_ended_is_compared_up_to_its_last_moment_of_rest(machine: Machine, tmp_path: Path) -> None:
    with open_meter(OFTEN, tmp_path / "books", paths=machine.paths) as meter:
        meter.stop(meter.start(request_subject("a")), Usage(output_tokens=1))
        until_read(meter, tmp_path / "books")
        meter.start(request_subject("open"))
        meter.stop(meter.start(request_subject("b")), Usage(output_tokens=1))
        shutil.copytree(tmp_path / "books", tmp_path / "killed")
    found = compare_readings(tmp_path / "killed" / "readings", tmp_path / "killed" / "journal")
    assert (found.meters, found.entries, found.drifts) == (1, 1, [])
    assert compare_readings(tmp_path / "books" / "readings", tmp_path / "books" / "journal").entries == 2


def test_what_is_under_way_is_no_moment_of_rest(machine: Machine, tmp_path: Path) -> None:
    with open_meter(OFTEN, tmp_path, paths=machine.paths) as meter:
        batch, one = meter.batch, [Spent("one", "p", "k", "m")]
        batch.begin(one[0])
        meter.stop(meter.start(request_subject("a")), Usage())
        meter._closed.wait(0.2)
        assert not list(tmp_path.glob("readings/*"))
        batch.book(one)
        until_read(meter, tmp_path)


def test_a_meter_that_booked_nothing_says_nothing(machine: Machine, tmp_path: Path) -> None:
    open_meter(OFTEN, tmp_path, paths=machine.paths).close()
    assert not (tmp_path / "readings").exists()
    assert compare_readings(tmp_path / "readings", tmp_path / "journal").meters == 0
