"""Rows as Arrow tables: the schema of documents, the schema that plain rows imply, and chunks that fit in memory.

Owns the columns of a table of documents, the two of search terms included. Knows no version and no index.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Document
from bessemer.lake.terms import terms

TERMS = "search_terms"
NAME = "search_name"
SEARCH_COLUMNS = (TERMS, NAME)
"""Made from title and text for full-text search; empty for dropped documents, so that they are never found."""

_CHUNK_ROWS = 1_024
_FRAGMENT_BYTES = 256_000_000

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("media_type", pa.string(), nullable=False),
        pa.field("meta", pa.string(), nullable=False),  # a JSON object: Lance's own map type cannot be filtered
        pa.field("dropped", pa.string(), nullable=False),
        pa.field(TERMS, pa.string(), nullable=False),
        pa.field(NAME, pa.string(), nullable=False),
    ]
)


def document_row(document: Document) -> dict[str, str]:
    """Return a document as a row of `DOCUMENT_SCHEMA`."""
    row = document.model_dump()
    row["meta"] = json.dumps(document.meta, ensure_ascii=False, sort_keys=True)
    found = "" if document.dropped else terms(f"{document.title}\n{document.text}")
    one_word = not document.dropped and not any(character.isspace() for character in document.title)
    return {**row, TERMS: found, NAME: document.title.lower() if one_word else ""}


def row_document(row: Mapping[str, Any]) -> Document:
    """Return the document of a row."""
    fields = {name: value for name, value in row.items() if name in Document.model_fields}
    return Document.model_validate({**fields, "meta": json.loads(row["meta"])})


def vector_schema(row: Mapping[str, Any]) -> pa.Schema:
    """Return the schema of rows such as this one, with a ``vector``: lists of ``…_ids``, the others texts."""

    def kind(name: str) -> pa.DataType:
        if name == "vector":
            return pa.list_(pa.float32(), len(row[name]))
        return pa.list_(pa.string()) if name.endswith("_ids") else pa.string()

    return pa.schema([pa.field(name, kind(name)) for name in row])


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of rows in their order, 64 hexadecimal digits.

    >>> rows_digest([{"a": 1, "b": "x"}]) == rows_digest([{"b": "x", "a": 1}])
    True
    """
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps(row, sort_keys=True, default=repr).encode() + b"\n")
    return found.hexdigest()


def arrow_chunks(rows: Iterable[Mapping[str, Any]], schema: pa.Schema | None) -> Iterator[pa.Table]:
    """Yield tables of about 256 MB, one for each file; without a schema the first thousand rows imply it.

    Rows are taken one by one in the caller's thread, so that their iterator may raise and may hold what is bound to
    a thread.

    Raises:
        ConfigError: values of one column are of different kinds, or a later row has a new column.
    """
    held: list[pa.Table] = []
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, _CHUNK_ROWS)):
        schema = schema or _implied_schema(chunk)
        held.append(_table(chunk, schema))
        if sum(table.nbytes for table in held) > _FRAGMENT_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _implied_schema(rows: Sequence[Mapping[str, Any]]) -> pa.Schema:
    names = dict.fromkeys(name for row in rows for name in row)
    fields = []
    for name in names:
        try:
            kind = pa.array([row.get(name) for row in rows]).type
        except (pa.ArrowException, OverflowError) as error:
            raise ConfigError(f"the values of the column '{name}' do not fit together: {error}") from error
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    extra = {name for row in rows for name in row} - set(schema.names)
    if extra:
        raise ConfigError(
            f"the table has no column {', '.join(repr(name) for name in sorted(extra))}",
            hint=f"Its columns: {', '.join(schema.names)}. Overwrite it to change them.",
        )
    try:
        return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    except (pa.ArrowException, OverflowError) as error:
        raise ConfigError(f"a row does not fit the table: {error}", hint=f"The columns: {schema}") from error
