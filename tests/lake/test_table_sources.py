"""Tables of rows are read by the types of their columns, or refused with what is wrong."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bessemer.core.errors import ConfigError, NotFound
from bessemer.lake.table_sources import FileTable, fingerprint_table, read_table


def rows(folder: Path, name: str, content: str | bytes, *columns: str) -> list[dict[str, object]]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_table(FileTable(path=name, columns=columns), folder))


def test_values_have_the_type_of_their_column(tmp_path: Path) -> None:
    text = "id,price,at,new\n1,2,2026-01-02 03:04:05,true\n2,,2026-01-03 00:00:00,false\n3,0.5,,\n"
    found = rows(tmp_path, "t.csv", text)
    assert found[0] == {"id": 1, "price": 2.0, "at": datetime(2026, 1, 2, 3, 4, 5), "new": True}
    assert found[1]["price"] is None and found[2]["at"] is None and found[2]["new"] is None
    assert rows(tmp_path, "t.tsv", "a\tb\n1\tx,y\n") == [{"a": 1, "b": "x,y"}]
    assert rows(tmp_path, "t.jsonl", '{"a": 1}\n{"a": 2, "b": "x"}\n')[1] == {"a": 2, "b": "x"}


def test_a_fraction_far_below_whole_numbers_is_read(tmp_path: Path) -> None:
    text = "a\n" + "1\n" * 2_000_000 + "0.5\n"
    assert rows(tmp_path, "late.csv", text)[-1] == {"a": 0.5}


def test_chosen_columns_alone_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", None]}), tmp_path / "t.parquet")
    assert list(read_table(FileTable(path="t.parquet", columns=("b",)), tmp_path)) == [{"b": "x"}, {"b": None}]
    assert rows(tmp_path, "t.csv", "a,b\n1,2\n", "b") == [{"b": 2}]


@pytest.mark.parametrize(
    ("name", "content", "columns", "said"),
    [
        ("t.csv", "", (), "cannot be read as a table"),
        ("t.csv", "a,b\n", (), "no rows"),
        ("t.csv", "a,b\n1,2,3\n", (), "Expected 2 columns"),
        ("t.csv", "a,a\n1,2\n", (), "names the column 'a' twice"),
        ("t.csv", b"a\n\xff\xfe\n", (), "column 'a' of .* is not UTF-8"),
        ("t.csv", "a\n1\n", ("b",), "no column 'b'"),
        ("t.parquet", b"not parquet", (), "cannot be read as a table"),
        ("t.jsonl", "{", (), "cannot be read as a table"),
        ("t.txt", "a\n1\n", (), "no table of a known form"),
    ],
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, name: str, content: str | bytes, columns: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        rows(tmp_path, name, content, *columns)
    assert caught.value.hint


def test_a_missing_file_is_named_and_a_change_is_noticed(tmp_path: Path) -> None:
    source = FileTable(path="t.csv")
    for call in (lambda: list(read_table(source, tmp_path)), lambda: fingerprint_table(source, tmp_path)):
        with pytest.raises(NotFound, match=r"t\.csv"):
            call()
    (tmp_path / "t.csv").write_text("a\n1\n")
    before = fingerprint_table(source, tmp_path)
    (tmp_path / "t.csv").write_text("a\n2\n")
    assert fingerprint_table(source, tmp_path) != before
