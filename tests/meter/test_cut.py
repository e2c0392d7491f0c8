"""Streams whose process is killed: each is booked once, for no less than had left and no more than was counted."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from bessemer.core.errors import BackendError, IntegrityError
from bessemer.core.forwarding import Spent
from bessemer.core.nouns import EnergyClass, Entry, Subject, Usage
from bessemer.core.protocols import Keeping
from bessemer.core.usage import MOST_TOKENS
from bessemer.meter import LocalMeter, MeterConfig, mispriced, open_ledger, open_meter, under_way, verify
from bessemer.meter import cut as cutting
from bessemer.meter.kept import SET, WORDS, Slot

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


@pytest.mark.parametrize("all_booked", [False, True])
def test_killed_at_any_step_of_booking_what_was_cut_it_is_booked_once(
    streamed: list[Path], tmp_path: Path, all_booked: bool
) -> None:
    (tmp_path / "book").mkdir()
    expected = {"a": "ok"} if all_booked else {"a": "ok", "a-span": "ok", "b": "broken", "b-span": "broken"}
    left = tmp_path / "left"
    if all_booked:
        booked_and_killed(left / "books")
    else:
        shutil.copytree(streamed[-1], left, ignore=shutil.ignore_patterns("through"))
    subprocess.run([sys.executable, str(SCRIPT), "book", str(tmp_path / "book"), str(left)], check=True, timeout=60)
    folders = list((tmp_path / "book").iterdir())
    assert len(folders) > 20
    for folder in folders:
        found = recovered(folder / "books")
        assert {name: entry.status for name, entry in found.items()} == expected, folder
        assert not list((folder / "books" / "streams").iterdir()), folder


def booked_and_killed(books: Path) -> None:
    """Leave what a kill leaves that comes between a record and the freeing of its slot."""
    dead, spent = open_meter(QUIET, books), Spent("a", "p", "k", "m")
    dead.batch.begin(spent)
    dead.batch.keep(spent, (5, 50))[0] = 3
    kept, spent.kept = spent.kept, None
    assert isinstance(kept, Slot)
    dead.streams.booking(kept)
    spent.usage, spent.status = (5, 3, 0), "ok"
    dead.batch.book([spent])
    died(dead)


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


def test_what_cannot_be_read_is_set_aside_said_once_and_stops_nothing_else(
    left: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sick = {name: kept_by_a_dead(left, name) for name in ("absent", "empty", "foreign", "negative", "header", "folder")}
    sick["absent"].with_suffix(".sets").unlink()
    sick["empty"].with_suffix(".sets").write_bytes(b"")
    sets = sick["foreign"].with_suffix(".sets")
    sets.write_bytes(sets.read_bytes().replace(b'"currency"', b'"more":1,"currency"'))
    slots = array("q", sick["negative"].read_bytes())
    slots[WORDS + SET] = -9
    sick["negative"].write_bytes(slots.tobytes())
    sick["header"].write_bytes(b"\xff" * 8 + sick["header"].read_bytes()[8:])
    sick["folder"].unlink()
    sick["folder"].mkdir()
    monkeypatch.setattr(cutting, "_LOOK_SECONDS", 0)
    with opened(left, QUIET.model_copy(update={"sample_seconds": 0.02})) as meter:
        meter.book_cut()
        meter._closed.wait(0.2)
        assert meter._sampler.is_alive()
    assert {entry.subject.id for entry in entries_of(left)} == {"a", "a-span", "b", "b-span"}
    assert under_way(left) == set(), "no budget waits for what nobody can read"
    aside = left / "streams" / "unreadable"
    assert list((left / "streams").iterdir()) == [aside]
    assert {path.name for path in aside.glob("*.slots")} == {path.name for path in sick.values()}
    assert len(list(aside.glob("*.sets"))) == 5
    said = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert len(said) == 6 and all(any(str(path) in one for one in said) for path in sick.values())


def test_what_was_set_aside_is_booked_once_when_it_is_mended_and_moved_back(tmp_path: Path) -> None:
    slots = kept_by_a_dead(tmp_path, "sick")
    whole = slots.read_bytes()
    slots.write_bytes(b"\xff" * 8 + whole[8:])
    aside = slots.parent / "unreadable"
    with opened(tmp_path) as meter:
        assert meter.book_cut() == []
        (aside / slots.name).write_bytes(whole)
        for path in aside.iterdir():
            path.rename(slots.parent / path.name)
        assert [entry.subject.id for entry in meter.book_cut()] == ["sick"]
    assert [entry.subject.id for entry in entries_of(tmp_path)] == ["sick"]


def test_what_cannot_be_read_at_the_moment_is_booked_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = kept_by_a_dead(tmp_path, "late")

    def too_many(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with opened(tmp_path) as meter:
        with monkeypatch.context() as patched, pytest.raises(BackendError, match="Too many open files"):
            patched.setattr(Path, "read_bytes", too_many)
            meter.book_cut()
        assert slots.exists()
        assert [entry.subject.id for entry in meter.book_cut()] == ["late"]


def test_what_a_living_process_has_and_nobody_can_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "streams" / "1-2-3.slots").mkdir(parents=True)
    with pytest.raises(BackendError, match=r"1-2-3\.slots cannot be read") as raised:
        under_way(tmp_path)
    assert "move it out of" in raised.value.hint


def kept_by_a_dead(books: Path, name: str) -> Path:
    """Leave the slots of a process that was killed in a stream."""
    dead, spent = open_meter(QUIET, books), Spent(name, "p", "k", "m")
    dead.batch.begin(spent)
    dead.batch.keep(spent, (5, 50))[0] = 1
    died(dead)
    return dead.streams._path


def test_what_goes_wrong_is_logged_once_while_it_stays_so_and_the_sampler_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def book(self: object) -> list[Entry]:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(cutting, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(cutting.CutStreams, "book", book)
    with opened(tmp_path, QUIET.model_copy(update={"sample_seconds": 0.02})) as meter:
        meter._closed.wait(0.2)
        assert meter._sampler.is_alive()
    assert caplog.text.count("a mistake of ours") == 1


def test_after_close_a_stream_is_not_kept_and_no_other_file_is_written(tmp_path: Path) -> None:
    meter = open_meter(QUIET, tmp_path / "books")
    first, late = Spent("first", "p", "k", "m"), Spent("late", "p", "k", "m")
    meter.batch.begin(first)
    meter.batch.keep(first, (5, 50))[0] = 1
    first.usage, first.status = (5, 1, 0), "ok"
    meter.batch.book([first])
    meter.batch.begin(late)
    meter.close()
    (tmp_path / "other").write_bytes(b"precious")
    files = [os.open(tmp_path / "other", os.O_RDWR) for _ in range(4)]  # of the numbers that were closed
    meter.batch.keep(late, (5, 50))[0] = 1
    for file in files:
        os.close(file)
    assert (tmp_path / "other").read_bytes() == b"precious"
    assert under_way(tmp_path / "books") == set()


def test_slots_that_cannot_be_made_leave_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, *args: int) -> int:
        if str(path).endswith(".slots"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opening(path, *args)

    opening = os.open
    with opened(tmp_path) as meter, monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        before = len(list(Path("/dev/fd").iterdir()))
        for number in range(3):
            spent = Spent(f"r{number}", "p", "k", "m")
            meter.batch.begin(spent)
            meter.batch.keep(spent, (5, 50))[0] = 1
        assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_lock_that_was_taken_for_a_dead_ones_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(file: IO[bytes], how: int) -> None:
        locking(file, how)
        if not taken:
            taken.append(next((tmp_path / "streams").glob("*.lock")))
            taken[0].unlink()

    locking, taken = fcntl.flock, list[Path]()
    with opened(tmp_path) as meter, opened(tmp_path) as other:
        monkeypatch.setattr(fcntl, "flock", late)
        spent = Spent("r", "p", "k", "m")
        meter.batch.begin(spent)
        meter.batch.keep(spent, (5, 50))[0] = 1
        assert taken[0].exists()
        assert other.book_cut() == []
        assert under_way(tmp_path) == {"r"}
        spent.usage, spent.status = (5, 1, 0), "ok"
        meter.batch.book([spent])


def test_more_tokens_than_a_word_holds_are_kept_as_the_most_that_is_believed(tmp_path: Path) -> None:
    dead = open_meter(QUIET, tmp_path)
    keep = dead.keep(dead.start(Subject(kind="request", id="r", project="p", model="m")))
    keep(Usage(input_tokens=5, output_tokens=2**63))
    died(dead)
    usage = recovered(tmp_path)["r"].usage
    assert (usage.input_tokens, usage.output_tokens) == (5, MOST_TOKENS)


def test_slots_of_another_machine_that_shares_the_folder_are_left_to_it(
    left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((left / "streams").iterdir())
    monkeypatch.setattr(cutting, "boot", lambda: "another machine's time")
    with opened(left) as meter:
        assert meter.book_cut() == []
    assert sorted((left / "streams").iterdir()) == before


def test_after_a_restart_of_the_machine_nothing_is_believed(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cutting.booted_at() < time.time()
    monkeypatch.setattr(cutting, "boot", lambda: "another time")
    monkeypatch.setattr(cutting, "booted_at", time.time)
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
