"""Tables to CSV, JSON Lines and Parquet files, and to rows of the lake.

Owns how each kind is written. Knows no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import Column, Table
from bessemer.lake.table_sources import FORMATS

_MICROS = 1_000_000


def to_arrow(table: Table) -> pa.Table:
    """Return a table as an Arrow table, with the types that its columns are written as."""
    return pa.table({name: _array(column) for name, column in table.columns.items()})


def write_table(table: Table, path: Path) -> None:
    """Write a table; the format is that of the name's ending. A file of that name is replaced whole or not at all.

    Raises:
        ConfigError: the ending is unknown.
        OSError: it cannot be written.
    """
    format = FORMATS.get(path.suffix.lower())
    if format is None:
        raise ConfigError(f"'{path.name}' has no known ending", hint=f"Known: {', '.join(FORMATS)}.")
    arrow = to_arrow(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        if format == "parquet":
            pq.write_table(arrow, part)
        elif format == "json":
            with part.open("w", encoding="utf-8") as file:
                for row in rows_of(arrow):
                    file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        else:
            options = pa_csv.WriteOptions(
                delimiter="\t" if path.suffix.lower() == ".tsv" else ",", quoting_style="needed"
            )
            pa_csv.write_csv(arrow, part, options)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def rows_of(arrow: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield each row with plain values."""
    for batch in arrow.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _array(column: Column) -> pa.Array:
    config = column.config
    if config.numeric:
        gone = np.isnan(column.values)
        return _numbers(column, np.where(gone, 0.0, column.values), gone)
    categories = pa.array(column.categories, pa.string())
    texts = categories.take(pa.array(column.values, pa.int32(), mask=column.values < 0))
    if config.kind == "boolean" and set(column.categories) <= {"true", "false"}:
        return texts.cast(pa.bool_())
    return texts.cast(pa.int64()) if config.written == "integer" else texts


def _numbers(column: Column, values: NDArray[np.float64], gone: NDArray[np.bool_]) -> pa.Array:
    config = column.config
    if config.kind == "integer":
        return pa.array(np.round(values).astype(np.int64), mask=gone)
    if config.kind == "numerical":
        return pa.array(values, pa.float64(), mask=gone)
    if config.written == "date":
        return pa.array(np.floor(values / 86_400).astype(np.int32), pa.int32(), mask=gone).cast(pa.date32())
    if config.decimals == 0:
        return pa.array(np.round(values).astype(np.int64), pa.timestamp("s"), mask=gone)
    return pa.array(np.round(values * _MICROS).astype(np.int64), pa.timestamp("us"), mask=gone)
