"""Streams whose process is killed: each is booked once, for no less than had left and no more than was counted."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bessemer.core.errors import BackendError, IntegrityError
from bessemer.core.forwarding import Spent
from bessemer.core.nouns import EnergyClass, Entry, Subject, Usage
from bessemer.core.protocols import Keeping
from bessemer.meter import LocalMeter, MeterConfig, mispriced, open_ledger, open_meter, under_way, verify
from bessemer.meter import cut as cutting

SCRIPT = Path(__file__).with_name("cut_steps.py")
QUIET = MeterConfig(sensors="model", durability="interval", sample_seconds=60)
PRICES = """
version = "{version}"
[default]
input = 2_000_000
output = {output}
[default.tiers.flex]
input = 1_000_000
output = 1_000_000
"""


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Give the folders of processes that streamed; the last got through before it was killed."""
    folder = tmp_path_factory.mktemp("stream")
    subprocess.run([sys.executable, str(SCRIPT), "stream", str(folder)], check=True, timeout=60)
    return sorted(folder.iterdir(), key=lambda path: int(path.name.partition("-")[2]))


@pytest.fixture
def left(streamed: list[Path], tmp_path: Path) -> Path:
    """Give a copy of the books that the last of them left."""
    return Path(shutil.copytree(streamed[-1] / "books", tmp_path / "left"))


@contextmanager
def opened(books: Path, config: MeterConfig = QUIET) -> Iterator[LocalMeter]:
    with open_meter(config, books) as meter:
        yield meter


def entries_of(books: Path) -> list[Entry]:
    with closing(open_ledger(books)) as ledger:
        return ledger.entries(limit=-1)


def recovered(books: Path) -> dict[str, Entry]:
    """Return the entries by request after a recovery that nobody disturbs; there is no other record."""
    with opened(books) as meter:
        meter.book_cut()
        assert meter.book_cut() == []
        prices = meter.price_history
    entries = entries_of(books)
    assert mispriced(entries, prices) == []
    assert verify(books / "journal").records == len(entries)
    assert max(Counter(entry.id for entry in entries).values(), default=1) == 1
    assert not list((books / "streams").glob("*")) or under_way(books) == set()
    return {entry.subject.id: entry for entry in entries}


def test_killed_at_any_step_each_stream_has_one_entry_for_what_had_left(streamed: list[Path], tmp_path: Path) -> None:
    assert len(streamed) > 60
    judged = Counter[str]()
    for folder in streamed:
        found = recovered(Path(shutil.copytree(folder / "books", tmp_path / folder.name)))
        said = [line.split() for line in (folder / "said").read_text().splitlines()]
        sent = {name: int(tokens) for what, name, tokens in said if what == "sent"}
        for what, name, tokens in said:
            if what == "booked":
                assert (found[name].status, found[name].usage.output_tokens) == ("ok", int(tokens)), folder
        for name, tokens in sent.items():
            entry = found[name]
            judged[entry.status] += 1
            assert entry.status in ("ok", "broken"), folder
            assert entry.usage.input_tokens == 5
            most = 4 if entry.status == "ok" else tokens + 1  # kept, and killed before it was said here that it left
            assert tokens <= entry.usage.output_tokens <= most
            assert entry.charge.micros > 0
        assert set(found) <= {"a", "b", "a-span", "b-span"}
        assert len(found) <= len(sent) + 1, "one may have been entered before its first piece was told here"
    assert min(judged["ok"], judged["broken"]) > 40


def test_killed_at_any_step_of_booking_what_was_cut_it_is_booked_once(streamed: list[Path], tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    left = shutil.copytree(streamed[-1], tmp_path / "left")
    (left / "through").unlink()
    subprocess.run([sys.executable, str(SCRIPT), "book", str(tmp_path / "book"), str(left)], check=True, timeout=60)
    folders = list((tmp_path / "book").iterdir())
    assert len(folders) > 40
    for folder in folders:
        found = recovered(folder / "books")
        assert {name: entry.status for name, entry in found.items()} == {
            "a": "ok",
            "a-span": "ok",
            "b": "broken",
            "b-span": "broken",
        }, folder


def test_what_a_living_process_streams_is_left_alone_and_two_who_look_book_once(left: Path) -> None:
    with opened(left) as living, opened(left) as other:
        assert isinstance(living, Keeping)
        span = living.start(Subject(kind="request", id="mine", project="p", model="m"))
        living.keep(span)(Usage(input_tokens=1, output_tokens=1))
        assert under_way(left) == {"mine", "b", "b-span"}
        with ThreadPoolExecutor(4) as threads:
            booked = [threads.submit(meter.book_cut) for meter in (living, other, living, other)]
        assert sorted(entry.subject.id for each in booked for entry in each.result()) == ["b", "b-span"]
        assert under_way(left) == {"mine"}
        living.stop(span, Usage(input_tokens=1, output_tokens=2))
        assert under_way(left) == set()
    assert Counter(entry.subject.id for entry in entries_of(left)) == dict.fromkeys(
        ("a", "a-span", "b", "b-span", "mine"), 1
    )


def test_it_is_looked_for_without_being_asked(left: Path) -> None:
    with opened(left, QUIET.model_copy(update={"sample_seconds": 0.05})) as meter:
        meter._closed.wait(0.5)
        assert under_way(left) == set()
    assert len(entries_of(left)) == 4


def test_it_is_charged_by_the_price_at_its_start_whatever_the_price_book_says_now(tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(PRICES.format(version="then", output=4_000_000))
    config = QUIET.model_copy(update={"price_book": str(book)})
    dead = open_meter(config, tmp_path / "books")
    for tier in ("", "flex"):
        subject = Subject(kind="request", id=f"tier {tier}", project="p", model="m", service_tier=tier)
        dead.keep(dead.start(subject))(Usage(input_tokens=10, output_tokens=7))
    died(dead)
    book.write_text(PRICES.format(version="now", output=9_000_000))
    with opened(tmp_path / "books", config) as meter:
        told = {entry.subject.id: (entry.charge.micros, entry.price_version) for entry in meter.book_cut()}
    assert [micros for micros, _ in told.values()] == [10 * 2 + 7 * 4, 10 + 7]
    assert all(version.startswith("then@") for _, version in told.values())


def died(meter: LocalMeter) -> None:
    """Let go of a meter's lock, as the kernel does when a process dies, and tidy nothing."""
    meter._closed.set()
    meter._sampler.join()
    assert meter.streams._alive
    meter.streams._alive.close()


def test_what_was_counted_is_never_none_and_never_more_than_was_allowed(tmp_path: Path) -> None:
    dead = open_meter(QUIET, tmp_path)
    for name, tokens in (("none", 0), ("some", 3), ("many", 90)):
        spent = Spent(name, "p", "k", "m")
        dead.batch.begin(spent)
        dead.batch.keep(spent, (5, 50))[0] = tokens
    died(dead)
    assert {name: entry.usage.output_tokens for name, entry in recovered(tmp_path).items()} == {
        "none": 1,
        "some": 3,
        "many": 50,
    }


def test_its_joules_are_its_share_until_the_last_reading_with_bounds_for_the_rest(tmp_path: Path) -> None:
    dead = open_meter(QUIET.model_copy(update={"sample_seconds": 0.05}), tmp_path)
    spans = [dead.start(Subject(kind="request", id=f"span {n}", project="p", model="m")) for n in range(2)]
    for span in spans:
        dead.keep(span)(Usage(input_tokens=1, output_tokens=1))
    spent = Spent("bytes", "p", "k", "m")
    dead.batch.begin(spent)
    dead.batch.keep(spent, (5, 50))[0] = 1
    dead._closed.wait(0.4)
    died(dead)
    counted = dead.books().meter.joules()["joules"]
    found = recovered(tmp_path)
    assert len(found) == 3
    for entry in found.values():
        took = entry.measurement
        assert took.energy_class is EnergyClass.ASSUMED and "killed" in took.source
        assert 0 < took.joules_low <= took.joules <= took.joules_high
        assert 0.2 < took.seconds < 5
    assert sum(entry.measurement.joules for entry in found.values()) <= counted


def test_after_a_loss_of_power_nothing_is_believed(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "boot", lambda: "another time")
    assert under_way(left) == set()
    assert set(recovered(left)) == {"a", "a-span"}
    assert not list((left / "streams").iterdir())


def test_of_a_damaged_journal_nothing_is_booked_that_it_may_have(streamed: list[Path], tmp_path: Path) -> None:
    for folder in streamed:
        books = Path(shutil.copytree(folder / "books", tmp_path / folder.name))
        left = [each for path in (books / "streams").glob("*.slots") for each in cutting._read(path)]
        found = b"".join(path.read_bytes() for path in (books / "journal").glob("*.jsonl")).rpartition(b"\n")[0]
        if any(each.maybe_booked and f'"request:{each.id}"'.encode() in found for each in left):
            break
    else:
        pytest.fail("none was killed between its record and its slot")
    (segment,) = (books / "journal").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"project":"p"', b'"project":"q"'))
    with opened(books) as meter, pytest.raises(IntegrityError):
        meter.book_cut()
    assert under_way(books)


def test_a_full_disk_stops_no_stream_and_loses_nothing_that_was_left(
    left: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(left) as meter:
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            spent = Spent("unkept", "p", "k", "m")
            meter.batch.begin(spent)
            meter.batch.keep(spent, (5, 50))[0] = 1
            assert "unkept is not kept" in caplog.text
            spent.usage, spent.status = (5, 2, 0), "ok"
            meter.batch.book([spent])
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(BackendError):
                meter.book_cut()
    assert set(recovered(left)) == {"a", "a-span", "b", "b-span", "unkept"}


def test_there_is_room_for_as_many_as_come(tmp_path: Path) -> None:
    with opened(tmp_path) as meter:
        spent = [Spent(f"r{n}", "p", "k", "m") for n in range(9000)]
        for each in spent:
            meter.batch.begin(each)
            meter.batch.keep(each, (5, 50))[0] = 1
        assert under_way(tmp_path) == {each.id for each in spent}
        for each in spent:
            each.usage, each.status = (5, 1, 0), "ok"
        meter.batch.book(spent[:5000])
        assert under_way(tmp_path) == {each.id for each in spent[5000:]}
        meter.batch.book(spent[5000:])
    assert not list((tmp_path / "streams").iterdir())
