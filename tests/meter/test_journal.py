"""The journal: what is torn is left alone, what is damaged is named, and several may write at once."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.core.errors import BackendError, IntegrityError
from bessemer.meter import Journal, verify
from bessemer.meter import journal as journal_module
from bessemer.meter.journal import SegmentReader, segments


def write(folder: Path, count: int, **options: str) -> Path:
    journal = Journal(folder, **options)
    for number in range(count):
        journal.append({"id": number, "text": "ünïcode\n" * 3})
    journal.close()
    return segments(folder)[-1]


def read(folder: Path) -> list[int]:
    return [json.loads(record.text)["id"] for path in segments(folder) for record in SegmentReader(path)]


@pytest.mark.parametrize("durability", ["fsync", "interval"])
def test_what_is_written_is_read(tmp_path: Path, durability: str) -> None:
    path = write(tmp_path, 5, durability=durability)
    assert read(tmp_path) == [0, 1, 2, 3, 4]
    assert verify(tmp_path).records == 5
    assert all(json.loads(line)["seq"] == n for n, line in enumerate(path.read_text().splitlines(), 1))


def test_a_line_torn_anywhere_loses_only_itself(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    whole = path.read_bytes()
    second_end = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for cut in range(second_end, len(whole)):
        path.write_bytes(whole[:cut])
        reader = SegmentReader(path)
        assert [json.loads(record.text)["id"] for record in reader] == [0, 1]
        assert reader.torn_bytes == cut - second_end
    write(tmp_path, 2)  # another process goes on in its own segment
    assert sorted(read(tmp_path)) == [0, 0, 1, 1]


def test_zeros_after_a_power_loss_are_a_torn_end(tmp_path: Path) -> None:
    path = write(tmp_path, 2)
    path.write_bytes(path.read_bytes() + b"\0" * 4096)
    assert read(tmp_path) == [0, 1]
    assert verify(tmp_path).torn_bytes == 4096
    # A later page may have reached the disk without the one before it.
    path.write_bytes(path.read_bytes() + b'ge":0}}\n{"body":{}}\n')
    assert read(tmp_path) == [0, 1]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found_and_the_record_named(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = write(folder, 4)
    raw = bytearray(path.read_bytes())
    ends = [i for i, byte in enumerate(raw) if byte == ord("\n")]
    at = data.draw(st.integers(0, ends[2] - 1).filter(lambda i: i not in ends))
    raw[at] = data.draw(st.integers(1, 255).filter(lambda value: value not in (raw[at], ord("\n"))))
    path.write_bytes(raw)
    bad = sum(end < at for end in ends) + 1
    with pytest.raises(IntegrityError, match=f"record {bad} of {path.name}"):
        verify(folder)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2), (0, 0, 1, 2), (1, 2)])
def test_records_moved_removed_or_repeated_break_the_chain(tmp_path: Path, order: tuple[int, ...]) -> None:
    path = write(tmp_path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[i] for i in order))
    with pytest.raises(IntegrityError, match="does not follow"):
        verify(tmp_path)


def test_a_segment_under_another_name_does_not_pass(tmp_path: Path) -> None:
    path = write(tmp_path, 2)
    path.rename(path.with_name("0000000000001-1-deadbeef.jsonl"))
    with pytest.raises(IntegrityError):
        verify(tmp_path)


def test_threads_write_one_chain(tmp_path: Path) -> None:
    journal = Journal(tmp_path)

    def work(first: int) -> None:
        for number in range(first, first + 25):
            journal.append({"id": number})

    threads = [threading.Thread(target=work, args=(n * 25,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert sorted(read(tmp_path)) == list(range(200))
    assert verify(tmp_path).segments == 1


def test_waiting_threads_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": -1})
    syncs, real = [], os.fsync

    def slow(file: int) -> None:
        syncs.append(file)
        time.sleep(0.02)
        real(file)

    monkeypatch.setattr(os, "fsync", slow)
    threads = [threading.Thread(target=journal.append, args=({"id": n},)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    journal.close()
    assert sorted(read(tmp_path)) == list(range(-1, 20))
    assert len(syncs) < 10


class Standing(threading.Event):
    """Time that stands still until it is let go; notes how long was to be waited."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float | None] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout)
        self.begun.set()
        assert self.go_on.wait(20)
        return self.is_set()


def test_interval_syncs_as_soon_as_the_documents_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "interval")
    journal._closed = time_ = Standing()
    journal.append({"id": 0})
    assert time_.begun.wait(20), "the thread waits as soon as something was written"
    waited, synced, real = [], threading.Event(), os.fsync

    def noted(file: int) -> None:
        real(file)
        waited.append(list(time_.asked))
        synced.set()

    monkeypatch.setattr(os, "fsync", noted)
    assert waited == []
    time_.go_on.set()
    assert synced.wait(20)
    journal.close()
    assert waited[0] == [0.020], "one wait of that many seconds, and then the disk"


@pytest.mark.parametrize(
    ("page", "promise"),
    [
        ("src/bessemer/meter/journal.py", "in the last 20 milliseconds"),
        ("src/bessemer/meter/config.py", "the last 20 ms or so"),
        ("docs/explanation/gateway.md", "power: 20 ms later"),
        ("docs/explanation/threat-model.md", "the last 20 ms or so"),
        ("README.md", "a loss of power 20 ms"),
    ],
)
def test_the_documents_promise_what_the_journal_does(page: str, promise: str) -> None:
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    assert promise in " ".join(text.split())
    assert f" {journal_module.SYNC_SECONDS * 1000:.0f} m" in promise


def test_a_full_disk_is_an_error_that_counts_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": 0})
    size = segments(tmp_path)[0].stat().st_size
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # The kernel now takes 20 more bytes and then refuses, as a full disk does in the middle of a line.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, old_limit[1]))
        with pytest.raises(BackendError, match="cannot write the journal"):
            journal.append({"id": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_signal)
    assert segments(tmp_path)[0].stat().st_size == size
    journal.append({"id": 1})
    journal.close()
    assert read(tmp_path) == [0, 1]


def test_after_a_failed_sync_the_segment_is_left_for_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": 0})

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BackendError, match="Input/output error"):
        journal.append({"id": 1})
    monkeypatch.undo()
    journal.append({"id": 1})
    journal.close()
    assert len(segments(tmp_path)) == 2
    assert set(read(tmp_path)) == {0, 1}


@pytest.mark.parametrize("durability", ["fsync", "interval"])
def test_a_full_segment_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1000)
    write(tmp_path, 30, durability=durability)
    assert len(segments(tmp_path)) > 3
    assert sorted(read(tmp_path)) == list(range(30))


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")  # imported by other tests; not used here
def test_a_forked_child_writes_its_own_segment(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": 0})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            journal.append({"id": 1})
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    journal.append({"id": 2})
    journal.close()
    assert sorted(read(tmp_path)) == [0, 1, 2]
    assert verify(tmp_path).segments == 2


def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    with pytest.raises(BackendError, match="closed"):
        journal.append({"id": 0})
