"""Typed columns from files and from rows of the lake.

Owns the way from Arrow's types to arrays; the formats of files stand in `table_sources`. Knows no model.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import Column, ColumnConfig, Table, TableDeclaration, id_pattern
from bessemer.lake import table_sources
from bessemer.lake.table_sources import FileTable, TableSourceConfig, read_batches
from bessemer.lake.tabular.kinds import kind_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SECOND = 1_000_000


def read_arrow(path: Path) -> pa.Table:
    """Return a file as an Arrow table; raises as `bessemer.lake.table_sources.read_table`."""
    return pa.Table.from_batches(read_batches(FileTable(path=str(path)), Path()))


def read_source(source: TableSourceConfig, base: Path) -> pa.Table:
    """Return a declared table as an Arrow table; raises as `bessemer.lake.table_sources.read_table`."""
    return pa.Table.from_pylist(list(table_sources.read_table(source, base)))


def read_table(path: Path, declared: TableDeclaration | None = None, keys: Collection[str] = ()) -> Table:
    """Return a file as a table; what is not declared is seen from the values. Raises as `read_arrow` and `to_table`."""
    return to_table(read_arrow(path), declared, keys)


def to_table(arrow: pa.Table, declared: TableDeclaration | None = None, keys: Collection[str] = ()) -> Table:
    """Return an Arrow table as a table of typed columns.

    Args:
        arrow: its columns are plain values.
        declared: overrules what is seen: kinds of some columns, keys, constraints.
        keys: columns that are ids whatever they look like, as those that the declaration names as keys are.

    Raises:
        ConfigError: there is no row or no column, two columns have one name, one holds nested values, or a value does
            not fit the declared kind.
    """
    names = arrow.column_names
    if not names or not arrow.num_rows:
        raise ConfigError("the table has no rows", hint="Give a table with a line of names and some rows.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"two columns are called '{twice}'", hint="Rename one.")
    declared = declared or TableDeclaration()
    if lost := [name for name in declared.columns if name not in names]:
        raise ConfigError(f"there is no column '{lost[0]}'; the columns are: {', '.join(names)}")
    ids = {declared.primary_key, declared.sequence_key, *keys}
    columns = {}
    for name in names:
        values = _plain(name, arrow.column(name))
        config = declared.columns.get(name) or kind_of(name, values)
        if name in ids and config.kind != "id":
            config = ColumnConfig(kind="id", written="integer" if pa.types.is_integer(values.type) else "text")
        columns[name] = _column(name, config, values)
    schema = declared.with_columns({name: column.config for name, column in columns.items()})
    return Table(schema, columns, arrow.num_rows)


def _plain(name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return values.cast(kind.value_type)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise ConfigError(f"column '{name}' holds {kind}, no plain values", hint="Flatten it or leave it out.")
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return values.cast(pa.int64() if pa.types.is_duration(kind) else pa.string())
    return values


def _column(name: str, config: ColumnConfig, values: pa.ChunkedArray) -> Column:
    try:
        if config.numeric:
            return Column(config, _numbers(config, values))
        return _codes(config, values)
    except pa.ArrowException as error:
        raise ConfigError(
            f"column '{name}' is declared {config.kind}, but: {str(error).splitlines()[0]}",
            hint="Declare another kind, or mend the values.",
        ) from error


def _numbers(config: ColumnConfig, values: pa.ChunkedArray) -> Floats:
    """Return float64 with NaN where missing; times as Unix seconds. Infinities count as missing."""
    import numpy as np

    if config.kind == "datetime":
        return _seconds(values)
    found: Any = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(found), found, np.nan)


def _seconds(values: pa.ChunkedArray) -> Floats:
    import numpy as np

    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        told = pc.replace_substring(pc.replace_substring(values, " ", "T"), "Z", "")
        values = told.cast(pa.timestamp("us"))
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        numbers: Any = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return np.asarray(numbers)
    zone = values.type.tz if pa.types.is_timestamp(values.type) else None
    micros = values.cast(pa.timestamp("us", tz=zone), safe=False).cast(pa.int64())
    found: Any = micros.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(found / _SECOND)


def _codes(config: ColumnConfig, values: pa.ChunkedArray) -> Column:
    """Return codes in the order of the declared categories, or in the order of the text."""
    import numpy as np

    kind = values.type
    if pa.types.is_null(kind):
        return Column(config, np.full(len(values), -1, np.int32), config.categories)
    whole = pa.types.is_floating(kind) and config.written == "integer"
    texts = (values.cast(pa.int64()) if whole else values).cast(pa.string()).combine_chunks()
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)  # what CSV has for nothing
    if isinstance(texts, pa.ChunkedArray):
        texts = pa.concat_arrays(texts.chunks)
    encoded = texts.dictionary_encode()
    known = encoded.dictionary.to_pylist()
    codes: Any = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    if pa.types.is_integer(kind) and config.kind == "categorical" and config.written == "text":
        config = config.model_copy(update={"written": "integer"})
    if config.kind == "id" and config.written == "text" and not config.pattern:
        config = config.model_copy(update={"pattern": id_pattern(known)})
    categories = tuple(config.categories) or tuple(sorted(known))
    if config.categories and (strange := sorted(set(known) - set(categories))):
        categories += tuple(strange)
    place = {text: at for at, text in enumerate(categories)}
    table = np.array([place[text] for text in known] + [-1], dtype=np.int32)
    return Column(config, table[codes], categories)
