"""Tables from CSV, JSON Lines and Parquet files, and from rows of the lake.

Owns formats and the way from Arrow's types to arrays. Knows no model.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.tabular import Column, ColumnConfig, Table, TableDeclaration, id_pattern
from bessemer.lake.tabular.kinds import kind_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "#N/A"]
_SECOND = 1_000_000


def read_arrow(path: Path) -> pa.Table:
    """Return a file as an Arrow table.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is no table of a known format, or not UTF-8, or a row has more cells than the first line.
    """
    format = FORMATS.get(path.suffix.lower())
    if format is None:
        raise ConfigError(f"{path.name} is no table that can be read", hint=f"Known: {', '.join(FORMATS)}.")
    if not path.is_file():
        raise NotFound(f"there is no file {path}", hint="Check the path.")
    try:
        if format == "parquet":
            return pq.read_table(path)
        if format == "jsonl":
            return pa_json.read_json(path)
        parse = pa_csv.ParseOptions(delimiter="\t" if format == "tsv" else ",", newlines_in_values=True)
        convert = pa_csv.ConvertOptions(null_values=_NULLS, strings_can_be_null=True)
        return pa_csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pa.ArrowException as error:
        said = str(error).splitlines()[0]
        if "UTF8" in said or "UTF-8" in said or "utf8" in said:
            raise ConfigError(
                f"{path.name} is not UTF-8 text", hint=f"Convert it: iconv -f latin1 -t utf-8 {path.name} > new.csv"
            ) from error
        raise ConfigError(f"{path.name} cannot be read: {said}", hint="Mend the file.") from error


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
