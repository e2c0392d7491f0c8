"""What every place for tables does; a test asks for the capabilities that it needs.

Lance's own object store over local files stands for S3 and its like: it goes through the same code, without locks.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import NotFound
from bessemer.core.protocols import Lake
from bessemer.lake import open_lake


@pytest.fixture(params=["path", "object store"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return open_lake({"path": str(tmp_path), "object store": f"file-object-store://{tmp_path}"}[request.param])


def test_it_is_a_lake_and_a_fresh_one_is_empty(lake: Lake) -> None:
    assert isinstance(lake, Lake)
    assert lake.name
    assert lake.list() == []


def test_each_put_is_a_version_and_older_ones_stay(lake: Lake) -> None:
    first = lake.put("t", [{"n": 1}, {"n": 2}])
    second = lake.put("t", [{"n": 3}], mode="append")
    third = lake.put("t", [{"n": 9}])
    assert first < second < third
    assert lake.get("t") == [{"n": 9}]
    assert lake.get("t", version=first) == [{"n": 1}, {"n": 2}]
    assert lake.get("t", version=second) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_tag_is_written_once_and_found_again(lake: Lake) -> None:
    first = lake.put("t", [{"n": 1}], tag="a")
    lake.put("t", [{"n": 2}], tag="b")
    assert lake.put("t", [{"n": 3}], tag="a") == first
    assert lake.get("t", version="a") == [{"n": 1}]
    assert lake.get("t") == [{"n": 2}]


def test_puts_at_the_same_time_under_one_tag_write_once(lake: Lake) -> None:
    if "exactly-once-tags" not in lake.capabilities:
        pytest.skip(f"{lake.name} does not declare 'exactly-once-tags' here")
    lake.put("t", [{"n": 0}])
    with ThreadPoolExecutor(4) as threads:
        versions = set(threads.map(lambda _: lake.put("t", [{"n": 1}], mode="append", tag="once"), range(4)))
    assert len(versions) == 1
    assert lake.get("t") == [{"n": 0}, {"n": 1}]


def test_rows_are_chosen_by_a_condition(lake: Lake) -> None:
    lake.put("t", [{"n": n, "word": "tea" if n % 2 else "milk"} for n in range(6)])
    assert lake.get("t", where="word = 'tea' AND n > 1") == [{"n": 3, "word": "tea"}, {"n": 5, "word": "tea"}]


def test_tables_are_listed_by_name(lake: Lake) -> None:
    for name in ("two", "one"):
        lake.put(name, [{"n": 1}])
    assert lake.list() == ["one", "two"]


def test_rows_that_end_in_an_error_leave_the_table_as_it_was(lake: Lake) -> None:
    def torn() -> Iterator[dict[str, Any]]:
        yield {"n": 1}
        raise ZeroDivisionError

    lake.put("t", [{"n": 0}])
    with pytest.raises(ZeroDivisionError):
        lake.put("t", torn(), mode="append")
    assert lake.get("t") == [{"n": 0}]


def test_the_backends_own_handle_opens_the_version_asked_for(lake: Lake) -> None:
    first = lake.put("t", [{"n": 1}])
    lake.put("t", [{"n": 2}, {"n": 3}])
    assert [lake.open("t", version=version).count_rows() for version in (first, None)] == [1, 2]


@pytest.mark.parametrize(("table", "version"), [("none", None), ("t", 99), ("t", "no-such-tag")])
def test_what_is_not_there_is_refused(lake: Lake, table: str, version: int | str | None) -> None:
    lake.put("t", [{"n": 1}])
    for read in (lake.get, lake.open):
        with pytest.raises(NotFound):
            read(table, version=version)
