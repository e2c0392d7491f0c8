"""Writes plain columns as one Parquet file, for whoever reads such files.

Owns the kinds of columns. Knows no table of a lake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

Kind = Literal["text", "decimal", "time"]
"""``decimal`` has 38 digits, 15 of them behind the point; ``time`` is in UTC, to the second."""

_TYPES = {"text": pa.string(), "decimal": pa.decimal128(38, 15), "time": pa.timestamp("s", tz="UTC")}


def write_parquet(path: Path, columns: Mapping[str, tuple[Kind, Sequence[Any]]]) -> None:
    """Write columns in their order; None is null.

    Args:
        path: replaced if it exists.
        columns: name -> kind and values, all of one length.

    Raises:
        OSError: it cannot be written.
    """
    arrays = {name: pa.array(values, _TYPES[kind]) for name, (kind, values) in columns.items()}
    pq.write_table(pa.table(arrays), path)
