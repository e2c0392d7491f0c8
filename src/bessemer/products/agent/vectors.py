"""Vectors of a table that an agent searches in: made by a step of the line, so that they are made once and metered.

Owns how a row becomes passages, and the table of their vectors. Knows no agent and no search.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bessemer.core.config import StepConfig
from bessemer.core.digest import digest
from bessemer.core.errors import BudgetExceeded, ConfigError
from bessemer.core.protocols import Engine
from bessemer.core.raw import EmbedRequest
from bessemer.flow import Step, StepContext
from bessemer.models import encoder_folder
from bessemer.products.agent.config import AgentProductConfig, SearchTool
from bessemer.products.llm.config import EncoderConfig
from bessemer.products.product import CURATE, INGEST, LakeState, Place
from bessemer.products.rows import Meta, find_rows, rows_tag, written

PASSAGE_CHARACTERS = 500
"""Of a passage: about a hundred words, which every encoder reads whole in most languages."""

ERASED_BY = ("id", "document_id", "document_ids")
"""Columns by which documents are erased; the vectors of a table keep those that it has."""

_AT_ONCE = 64
_CODE = ("bessemer.products.agent.vectors", "bessemer.infer.vectors", "bessemer.infer.encoder", "bessemer.lake")


class VectorsConfig(StepConfig):
    """Which step's rows get vectors, of which column, by which encoder, in which table."""

    table: str
    source: str
    column: str
    encoder: EncoderConfig


def vectors(ctx: StepContext, config: VectorsConfig) -> Meta:
    """Write the vectors of a table's passages into the lake, each with the row that it is of."""
    lake, table, tag = find_rows(ctx, config.source)
    rows = [row for row in lake.get(table, version=tag) if not row.get("dropped")]
    passages = [(row, passage) for row in rows for passage in passages_of(text_of(row, config.column))]
    if not passages:
        raise ConfigError(f"the table '{table}' has no text to make vectors of", hint="Name a `column` that has some.")

    async def made() -> list[tuple[float, ...]]:
        engine, found = open_encoder_of(config.encoder, Path(ctx.resources["base"])), list[tuple[float, ...]]()
        try:
            for at in range(0, len(passages), _AT_ONCE):
                found += await asyncio.gather(*(_vector(engine, text) for _, text in passages[at : at + _AT_ONCE]))
                ctx.progress(len(found), len(passages), "passages")
        finally:
            await engine.close()
        return found

    found = asyncio.run(made())
    lake.put_vectors(
        config.table,
        ({**_kept(row), "vector": vector} for (row, _), vector in zip(passages, found, strict=True)),
        tag=rows_tag(ctx.key),
    )
    return {**written(ctx, lake, config.table), "what": f"vectors of {len(passages):,} passages"}


def open_encoder_of(encoder: EncoderConfig, base: Path) -> Engine[Any, Any, Any]:
    """Return the engine of an encoder."""
    from bessemer.products.llm.serving import open_encoder

    return open_encoder(encoder, base)


async def _vector(engine: Engine[Any, Any, Any], text: str) -> tuple[float, ...]:
    while True:
        try:
            answer = await engine.respond(EmbedRequest(text=text))
        except BudgetExceeded:  # a language whose characters are several tokens each
            text = text[: len(text) // 2]
            continue
        return tuple(answer.vector)


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    ids = {name: row[name] if isinstance(row[name], list) else str(row[name]) for name in ERASED_BY if name in row}
    return {**ids, "row": row_json(row)}


def row_json(row: Mapping[str, Any]) -> str:
    """Return a row as JSON; the same row has the same, found by words or by a vector."""
    return json.dumps({k: v for k, v in row.items() if k != "_score"}, sort_keys=True, default=str, ensure_ascii=False)


def text_of(row: Mapping[str, Any], column: str) -> str:
    """Return what is searched of a row.

    >>> text_of({"title": "Lamp", "text": "It shines."}, ""), text_of({"note": "n"}, "note")
    ('Lamp\\nIt shines.', 'n')
    """
    columns = (column,) if column else ("title", "text")
    return "\n".join(str(row[name]) for name in columns if row.get(name))


def passages_of(text: str, most: int = PASSAGE_CHARACTERS) -> Iterator[str]:
    """Yield a text in pieces that end between words where there are any.

    >>> list(passages_of("one two three", 8))
    ['one two', 'three']
    """
    text = text.strip()
    while text:
        piece = text[:most]
        if len(text) > most and not text[most].isspace() and (at := max(piece.rfind(" "), piece.rfind("\n"))) > 0:
            piece = piece[:at]
        yield piece.strip()
        text = text[len(piece) :].strip()


def vectors_table(place: Place, tool: SearchTool) -> str:
    """Return what the table of a search tool's vectors is called in the lake."""
    return place.table(f"{tool.name}_vectors")


def vector_steps(config: AgentProductConfig, place: Place, lake: LakeState) -> list[Step]:
    """Return a step for each search tool that has an encoder.

    Raises:
        ConfigError: the table is none that this line makes before the agent, or nobody declares such an encoder.
        NotFound: the encoder is not there.
    """
    return [_step(tool, place, lake) for tool in config.tools if isinstance(tool, SearchTool) and tool.encoder]


def _step(tool: SearchTool, place: Place, lake: LakeState) -> Step:
    made = {"documents": INGEST, "curated": CURATE, **place.tables}
    if tool.table not in made:
        told = f"'{place.name}' searches '{tool.table}' by meaning, which is no table that can get vectors"
        raise ConfigError(told, hint=f"Those that can: {', '.join(made)}; or leave `encoder` out.")
    encoder = _declared(tool.encoder, place)
    table, source = vectors_table(place, tool), made[tool.table]
    config = VectorsConfig(table=table, source=source, column=tool.column, encoder=encoder)
    inputs = {"table": lake.of(table), "encoder": _fingerprint(encoder_folder(encoder.model, place.base))}
    run = f"{__name__}:vectors"
    return Step(f"{tool.name}_vectors", run=run, config=config, needs=(source,), code=_CODE, inputs=inputs)


def _declared(name: str, place: Place) -> EncoderConfig:
    found = (getattr(getattr(product, "config", None), "embeddings", None) for product in place.products.values())
    for encoder in found:
        if isinstance(encoder, EncoderConfig) and encoder.served_name == name:
            return encoder
    raise ConfigError(
        f"'{place.name}' searches with '{name}', which no product before it has as `embeddings`",
        hint="Declare it: `embeddings: {model: all-minilm-l6-v2}` of an llm.",
    )


def _fingerprint(folder: Path) -> str:
    """Return what tells an encoder's files from others: names, sizes and times of change."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return digest([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files])
