"""Where tables of rows come from: a file of one's own, read by its columns' types, or a simulated shop.

Owns the union of the tables' declarations, and how a change of one is noticed. Documents come from `sources.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.digest import digest, digest_bytes
from bessemer.core.errors import ConfigError, MissingDependency, NotFound
from bessemer.lake.shop import shop_rows

FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
"""What is read of a file, by the end of its name."""

Row = dict[str, Any]


class FileTable(Config):
    """One file with a table: CSV or TSV with a line of names, JSON Lines, or Parquet.

    Attributes:
        path: of the file; a relative one starts beside the declaration.
        columns: which are read; empty reads all.
    """

    kind: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1)] = "table.csv"
    columns: tuple[str, ...] = ()

    def describe(self) -> str:
        """Say in a few words where the rows are from."""
        return f"the file {self.path}"


class ShopTable(Config):
    """A table of the simulated shop; its tables fit together where all else is equal.

    Attributes:
        part: which table.
        users: customers.
        items: things for sale.
        events: of all customers together.
        seed: of everything that is drawn.
    """

    kind: Literal["shop"] = "shop"
    part: Literal["events", "items", "customers"] = "events"
    users: Annotated[int, Field(ge=1)] = 500
    items: Annotated[int, Field(ge=10)] = 300
    events: Annotated[int, Field(ge=0)] = 20_000
    seed: Annotated[int, Field(ge=0)] = 0

    def describe(self) -> str:
        """Say in a few words where the rows are from."""
        return f"the {self.part} of a simulated shop"


TableSourceConfig = Annotated[FileTable | ShopTable, Field(discriminator="kind")]


def read_table(config: FileTable | ShopTable, base: Path) -> Iterator[Row]:
    """Yield the rows of a table; the values of a column are of one type, and a missing one is None.

    Args:
        config: the table's declaration.
        base: the folder that a relative path starts from: the declaration's own.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is no table of a known form, or has no row or not such a column; the message says which.
        MissingDependency: pyarrow is not installed.
    """
    if isinstance(config, ShopTable):
        yield from shop_rows(
            config.part, users=config.users, items=config.items, events=config.events, seed=config.seed
        )
        return
    for batch in read_batches(config, base):
        yield from batch.to_pylist()


def read_batches(config: FileTable, base: Path) -> Iterator[Any]:
    """Yield the rows of a file as Arrow record batches; arguments and errors as for `read_table`."""
    path = _found(config, base)
    try:
        import pyarrow as pa
    except ModuleNotFoundError as error:
        raise MissingDependency("pyarrow", extra="lake") from error
    empty = True
    try:
        for batch in _batches(path, config.columns):
            empty = empty and not batch.num_rows
            yield batch
    except (pa.ArrowException, UnicodeDecodeError) as error:
        told = str(error).splitlines()[0]
        raise ConfigError(f"{path} cannot be read as a table: {told}", hint="Save it as UTF-8, one row a line.") from (
            error
        )
    if empty:
        raise ConfigError(f"{path} has no rows", hint="A table needs a line of names and one row at least.")


def fingerprint_table(config: FileTable | ShopTable, base: Path) -> str:
    """Return a digest that changes when the rows may have changed.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is no table of a known form.
    """
    if isinstance(config, ShopTable):
        return config.digest()
    return digest([config.digest(), digest_bytes(_found(config, base).read_bytes())])


def _found(config: FileTable, base: Path) -> Path:
    path = base / Path(config.path).expanduser()
    if not path.exists():
        raise NotFound(f"there is no table at {path}", hint="Check `path`; it starts beside the declaration.")
    if path.suffix.lower() not in FORMATS or path.is_dir():
        known = ", ".join(FORMATS)
        raise ConfigError(f"{path} is no table of a known form", hint=f"A table's file ends in one of: {known}.")
    return path


def _batches(path: Path, columns: tuple[str, ...]) -> Iterator[Any]:
    """Yield Arrow record batches of a file."""
    form = FORMATS[path.suffix.lower()]
    if form == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            _check(path, file.schema_arrow, columns)
            yield from file.iter_batches(columns=list(columns) or None)
        return
    if form == "csv":
        from pyarrow import csv

        # Types are inferred from the whole file: from its first block alone, a late fraction would end the reading.
        given = csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        table = csv.read_csv(
            path, read_options=csv.ReadOptions(block_size=max(1, path.stat().st_size)), parse_options=given
        )
    else:
        from pyarrow import json

        table = json.read_json(path, read_options=json.ReadOptions(block_size=max(1, path.stat().st_size)))
    _check(path, table.schema, columns)
    yield from (table.select(list(columns)) if columns else table).to_batches()


def _check(path: Path, schema: Any, columns: tuple[str, ...]) -> None:
    names = schema.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{path} names the column '{twice[0]}' twice", hint="Give each column its own name.")
    if broken := [field.name for field in schema if field.type in ("binary", "large_binary")]:
        raise ConfigError(f"the column '{broken[0]}' of {path} is not UTF-8 text", hint="Save the file as UTF-8.")
    if missing := [name for name in columns if name not in names]:
        raise ConfigError(f"{path} has no column '{missing[0]}'", hint=f"Its columns: {', '.join(names)}.")
