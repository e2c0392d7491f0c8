"""Writers that are killed, raced, starved: a reader sees the version before or the version after, never a half."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer.core.errors import Conflict, IntegrityError
from bessemer.lake import open_lake
from bessemer.lake.commits import Mode
from bessemer.lake.document import make_document
from bessemer.lake.places import find_place

PROGRAM = Path(__file__).with_name("writers.py")


def start(what: str, lake: Path | str, argument: object = 0) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), what, str(lake), str(argument)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kill_9_leaves_the_previous_version(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"n": 0, "text": "x"}] * 2_000, tag="first")
    chance = random.Random(7)
    for attempt in range(1, 4):
        writer = start("overwrite_for_ever", tmp_path, attempt * 1_000)
        assert writer.stdout is not None
        writer.stdout.readline()  # it writes now
        time.sleep(chance.uniform(0, 0.1))
        writer.kill()
        writer.communicate()
        rows = lake.get("t")
        assert len(rows) == 2_000
        assert len({row["n"] for row in rows}) == 1, "rows of two writes in one version"
        assert rows[0]["n"] >= attempt * 1_000
    assert {row["n"] for row in lake.get("t", version="first")} == {0}
    lake.put("t", [{"n": -1, "text": ""}])
    assert lake.get("t") == [{"n": -1, "text": ""}]


def test_a_writer_that_died_before_its_tag_is_finished_not_doubled(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"n": 1}])
    writer = start("die_before_the_tag", tmp_path, 2)
    writer.communicate()
    assert writer.returncode == -9
    assert lake.get("t") == [{"n": 1}, {"n": 2}], "the commit is there, the tag is not"
    version = lake.put("t", [{"n": 2}], mode="append", tag="once")
    assert lake.get("t") == [{"n": 1}, {"n": 2}]
    assert lake.get("t", version="once") == [{"n": 1}, {"n": 2}]
    assert lake.put("t", [{"n": 2}], mode="append", tag="once") == version


def test_the_tag_of_a_dead_writer_never_names_what_was_written_since(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"n": 1}])
    start("die_before_the_tag", tmp_path, 2).communicate()
    documents = [make_document("s", f"document {n}", title="t", group="g") for n in range(3)]
    lake.put_documents("t", documents)  # leaves the version that its index made, and no other
    lake.put("t", [{"n": 2}], mode="append", tag="once")
    assert lake.get("t", version="once") == [{"n": 1}, {"n": 2}]
    assert list(lake.get_documents("t")) == documents


def test_two_that_append_to_a_table_that_is_not_there_both_count(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))

    def rows() -> Iterator[dict[str, int]]:
        yield {"n": 1}
        lake.put("t", [{"n": 2}], mode="append")

    lake.put("t", rows(), mode="append")
    assert lake.get("t") == [{"n": 2}, {"n": 1}]


def test_writers_at_the_same_time_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"who": 0, "n": 0}])
    writers = [start("append", tmp_path, who) for who in (1, 2, 3)]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    rows = [(row["who"], row["n"]) for row in lake.get("t")]
    assert sorted(rows) == sorted([(0, 0), *((who, n) for who in (1, 2, 3) for n in range(20))])
    assert lake.get("shared") == [{"n": 1}]
    assert len(lake.history("shared")) == 1


def test_small_appends_are_joined(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    for number in range(25):
        lake.put("t", [{"n": number}], mode="append", tag="early" if number == 4 else "")
    done = lake.compact("t")
    assert (done.fragments_before, done.fragments_after) == (25, 1)
    assert [row["n"] for row in lake.get("t")] == list(range(25))
    assert len(lake.history("t")) > 25
    again = lake.compact("t", retain_versions=1)
    assert (again.fragments_before, again.fragments_after) == (1, 1)
    assert [v.tags for v in lake.history("t")] == [("early",), ()]
    assert [row["n"] for row in lake.get("t", version="early")] == list(range(5))
    files = [p for p in tmp_path.glob("t.lance/data/*") if p.is_file()]
    assert len(files) == 6  # one of the latest version, five of the tagged one


def test_a_full_disk_is_one_clear_error_and_breaks_nothing(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"n": 1, "text": "before"}], tag="before")
    writer = start("fill_the_disk", tmp_path)
    writer.communicate()
    assert writer.returncode == 7
    assert lake.get("t") == [{"n": 1, "text": "before"}]


def test_a_writer_that_never_ends_is_a_conflict(tmp_path: Path) -> None:
    place = find_place(str(tmp_path), None)
    with place.writing("t"), pytest.raises(Conflict, match="another writer"), place.writing("t", wait_seconds=0.05):
        pass
    with place.writing("t", wait_seconds=0.05):
        pass


def test_a_missing_file_is_an_integrity_error(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"n": 1}])
    for path in tmp_path.glob("t.lance/data/*"):
        path.unlink()
    with pytest.raises(IntegrityError):
        lake.get("t")


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_an_erasure_makes_a_slow_writer_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
    monkeypatch.setattr("bessemer.lake.rows._FRAGMENT_BYTES", 1)  # a file for each thousand rows
    lake = open_lake(str(tmp_path))
    lake.put("t", [{"id": "a"}, {"id": "b"}])
    new = [{"id": str(n)} for n in range(3_000)]

    def rows() -> Iterator[dict[str, str]]:
        for number, row in enumerate(new):
            if number == 2_500:  # two files are written, none is committed
                lake.erase(["a"])
            yield row

    with pytest.raises(Conflict, match="erasure"):
        lake.put("t", rows(), mode=mode)
    assert lake.get("t") == [{"id": "b"}]
    lake.put("t", new, mode=mode)
    assert lake.get("t") == [{"id": "b"}] * (mode == "append") + new
