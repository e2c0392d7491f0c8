"""What kind a column is, seen from its values.

Owns the rules; a declaration overrules them. Knows no file.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bessemer.core.tabular import ColumnConfig

_KEY_NAME = re.compile(r"(^|[_ .-])(id|uuid|guid|key)$|[a-z]Id$", re.IGNORECASE)
_MANY = 20
_MOST_DECIMALS = 10
_EXACT = 2**53
_SAMPLE = 1000
ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")


def kind_of(name: str, values: pa.ChunkedArray) -> ColumnConfig:
    """Return what a column is.

    Booleans, dates and fractions are what their type says. Whole numbers are numbers, unless they differ in every row
    and the name says id. Text is a category, a time if it reads as one, or an id if it differs in every row.
    """
    kind = values.type
    if pa.types.is_boolean(kind):
        return ColumnConfig(kind="boolean", categories=("false", "true"))
    if pa.types.is_date(kind):
        return ColumnConfig(kind="datetime", decimals=0, written="date")
    if pa.types.is_timestamp(kind):
        return ColumnConfig(kind="datetime", decimals=0 if kind.unit == "s" or whole_seconds(values) else 6)
    if pa.types.is_integer(kind):
        return _whole(name, values)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return ColumnConfig(kind="numerical", decimals=_decimals(values))
    return _text(name, values)


def _whole(name: str, values: pa.ChunkedArray) -> ColumnConfig:
    there = len(values) - values.null_count
    different = pc.count_distinct(values).as_py()
    if there and different == there and _KEY_NAME.search(name):
        return ColumnConfig(kind="id", written="integer")
    ends = pc.min_max(values).as_py() if there else {"min": 0, "max": 0}
    if max(abs(ends["min"]), abs(ends["max"])) >= _EXACT:  # float64 would round them: they are names, not amounts
        return ColumnConfig(kind="id" if different == there else "categorical", written="integer")
    return ColumnConfig(kind="integer")


def _text(name: str, values: pa.ChunkedArray) -> ColumnConfig:
    there = len(values) - values.null_count
    if not there:
        return ColumnConfig(kind="categorical")
    some = [text for text in values.slice(0, _SAMPLE).to_pylist() if text]
    if some and all(ISO.fullmatch(text) for text in some):
        return ColumnConfig(kind="datetime", decimals=0, written="date" if len(some[0]) == 10 else "text")
    different = pc.count_distinct(values).as_py()
    if different == there and (there > _MANY or _KEY_NAME.search(name)):
        return ColumnConfig(kind="id")
    return ColumnConfig(kind="categorical")


def whole_seconds(values: pa.ChunkedArray) -> bool:
    """Whether times have no fraction of a second."""
    as_seconds = values.cast(pa.timestamp("s", tz=values.type.tz), safe=False).cast(values.type)
    same = pc.all(pc.equal(as_seconds, values)).as_py()
    return same is not False


def _decimals(values: pa.ChunkedArray) -> int | None:
    """Return how many decimals numbers have, or None if they have as many as a float can."""
    import numpy as np

    found: Any = values.drop_null().cast(pa.float64(), safe=False).to_numpy()
    found = found[np.isfinite(found)]
    for decimals in range(_MOST_DECIMALS + 1):
        if np.array_equal(np.round(found, decimals), found):
            return decimals
    return None
