"""Files of records, where each row is a document: JSON Lines and Parquet.

Owns which field becomes what: the declared text field, ``title`` and ``group`` where a row has them, all other
plain values as meta. A row is its own group unless it says otherwise: rows stand for themselves.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from bessemer.core.errors import MissingDependency
from bessemer.core.nouns import Document
from bessemer.lake.document import make_document, reason
from bessemer.lake.readers.passages import passage_documents
from bessemer.lake.readers.raw import Parsed, Raw, Section, Unreadable, decode

_JSONL = "application/jsonl"
_PARQUET = "application/vnd.apache.parquet"
_BATCH_ROWS = 1_024


def read_jsonl(raw: Raw) -> Iterator[Document]:
    """Yield the documents of each line; a bad line is a dropped document that names its line.

    Raises:
        Unreadable: the file is empty, binary or not UTF-8.
    """
    for number, line in enumerate(decode(raw).split("\n"), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield _bad(raw, number, reason("bad_line", f"{place}: {error}"), _JSONL)
            continue
        if not isinstance(row, dict):
            yield _bad(raw, number, reason("bad_line", f"{place}: not an object"), _JSONL)
            continue
        yield from _row(raw, number, row, place, _JSONL)


def read_parquet(raw: Raw) -> Iterator[Document]:
    """Yield the documents of each row, numbered from 1.

    Raises:
        Unreadable: the file is no Parquet, or has no such column.
        MissingDependency: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise MissingDependency("pyarrow", extra="lake") from error
    if not raw.data:
        raise Unreadable(reason("empty"))
    try:
        table = pq.ParquetFile(io.BytesIO(raw.data))
        if raw.text_field not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names)
            raise Unreadable(reason("no_text", f"no column '{raw.text_field}' among {names}"))
        number = 0
        for batch in table.iter_batches(batch_size=_BATCH_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield from _row(raw, number, row, f"row {number}", _PARQUET)
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(reason("malformed", f"no Parquet: {str(error).splitlines()[0]}")) from error


def _row(raw: Raw, number: int, row: Mapping[str, Any], place: str, media_type: str) -> Iterator[Document]:
    text = row.get(raw.text_field)
    if not isinstance(text, str) or not text.strip():
        fields = ", ".join(row) or "none"
        yield _bad(
            raw, number, reason("no_text", f"{place}: no text in '{raw.text_field}' (fields: {fields})"), media_type
        )
        return
    own = Raw(
        source=f"{raw.source}#{number}",
        name=f"{raw.name} {place}",
        group=str(row.get("group") or f"{raw.group}#{number}"),
        data=b"",
        passage_characters=raw.passage_characters,
    )
    meta = {
        str(key): str(value)
        for key, value in row.items()
        if key not in (raw.text_field, "title", "group") and isinstance(value, (str, int, float, bool))
    }
    parsed = Parsed(str(row.get("title") or ""), (Section((), text),), {**meta, "line": str(number)})
    yield from passage_documents(parsed, own, media_type)


def _bad(raw: Raw, number: int, why: str, media_type: str) -> Document:
    source = f"{raw.source}#{number}"
    return make_document(
        source,
        "",
        title=f"{raw.name} {number}",
        group=source,
        media_type=media_type,
        meta={"line": str(number)},
        dropped=why,
    )
