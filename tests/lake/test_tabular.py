"""Typed columns from files and back: kinds that are seen, kinds that are declared, and files that are no tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.tabular import ColumnConfig, TableDeclaration
from bessemer.lake.tabular.reading import read_arrow, read_table
from bessemer.lake.tabular.writing import to_arrow, write_table

TEXT = """customer_id,age,plan,joined,seen,active,score,big
C001,31,gold,2020-01-05,2024-01-01 10:00:00,true,1.25,9007199254740993
C002,,basic,2021-02-06,2024-01-02 11:30:00,false,,9007199254740995
C003,44,,2022-03-07,,true,3.5,9007199254740997
"""


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_kinds_are_seen(csv: Path) -> None:
    table = read_table(csv)
    kinds = {name: column.config.kind for name, column in table.columns.items()}
    assert kinds == {
        "customer_id": "id", "age": "integer", "plan": "categorical", "joined": "datetime", "seen": "datetime",
        "active": "boolean", "score": "numerical", "big": "id",
    }  # fmt: skip
    assert table.columns["customer_id"].config.pattern == "C{:03d}"
    assert table.columns["score"].config.decimals == 2
    assert np.isnan(table.columns["age"].values[1]) and table.columns["plan"].values[2] == -1
    assert table.columns["joined"].values[0] == 1578182400.0


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_what_is_written_is_read_again(csv: Path, tmp_path: Path, ending: str) -> None:
    table = read_table(csv)
    write_table(table, tmp_path / f"out.{ending}")
    again = read_table(tmp_path / f"out.{ending}", TableDeclaration(columns=dict(table.schema.columns)))
    for name, column in table.columns.items():
        assert np.array_equal(column.values, again.columns[name].values, equal_nan=column.config.numeric), name
        assert column.categories == again.columns[name].categories
    assert not list(tmp_path.glob("*.part"))


def test_declarations_overrule_and_mistakes_are_named(csv: Path) -> None:
    table = read_table(csv, TableDeclaration(columns={"age": ColumnConfig(kind="categorical")}, primary_key="big"))
    assert table.columns["age"].categories == ("31", "44") and table.columns["age"].config.written == "integer"
    assert to_arrow(table).column("age").to_pylist() == [31, None, 44]
    assert table.columns["big"].config == ColumnConfig(kind="id", written="integer")
    with pytest.raises(ConfigError, match="no column 'agee'; the columns are: customer_id"):
        read_table(csv, TableDeclaration(columns={"agee": ColumnConfig()}))
    with pytest.raises(ConfigError, match="'plan' is declared numerical"):
        read_table(csv, TableDeclaration(columns={"plan": ColumnConfig(kind="numerical")}))
    with pytest.raises(ConfigError, match="there is no column 'who'"):
        read_table(csv, TableDeclaration(primary_key="who"))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", "name\nJos\u00e9\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read"),
        ("a.csv", b"a,b\n", "no rows"),
        ("a.csv", b"", "cannot be read"),
        ("a.csv", b"a,a\n1,2\n", "'a' twice"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.jsonl", b'{"a": {"b": 1}}\n', "no plain values"),
        ("a.txt", b"a\n1\n", "known form"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=said):
        read_table(tmp_path / name)
    with pytest.raises(NotFound):
        read_arrow(tmp_path / "gone.csv")
