"""What a factory takes in: its documents, read and curated, and its tables of rows, each as a step of the line.

Owns these steps. What is made of the rows stands with each product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.core.config import Config, StepConfig
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Document
from bessemer.flow import Step, StepContext
from bessemer.lake import CurateConfig, SourceConfig, curate, fingerprint, open_lake, read_source, readiness
from bessemer.lake.table_sources import TableSourceConfig, fingerprint_table, read_table
from bessemer.products.product import CURATE, INGEST, LakeState
from bessemer.products.rows import Meta, find_rows, rows_tag, written

_REPORT_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class IntakePlace:
    """Where a factory takes in.

    Attributes:
        factory: its name.
        base: the folder that relative paths of sources start from.
        lake: the state of the lake that it is written to.
        erased: ids of documents that must not be read again.
    """

    factory: str
    base: Path
    lake: LakeState
    erased: tuple[str, ...] = ()


class IngestConfig(StepConfig):
    """Which sources are read into the table ``<name>.documents``, and which documents' text never is."""

    name: str
    sources: tuple[SourceConfig, ...]
    erased: tuple[str, ...] = ()


def ingest(ctx: StepContext, config: IngestConfig) -> Meta:
    """Read all sources into a new version of the raw table."""
    base, erased = Path(ctx.resources["base"]), frozenset(config.erased)

    def documents() -> Iterator[Document]:
        for source in config.sources:
            for document in read_source(source, base, lambda done, total: ctx.progress(done, total, "files")):
                gone = {"text": "", "title": "", "meta": {}, "dropped": "erased"}
                yield document.model_copy(update=gone) if document.id in erased else document

    table = f"{config.name}.documents"
    lake = open_lake(ctx.resources["lake"])
    lake.put_documents(table, documents(), tag=rows_tag(ctx.key))
    return {**written(ctx, lake, table), "sources": [source.describe() for source in config.sources]}


class CurateStepConfig(StepConfig):
    """Which documents are dropped on the way to the table ``<name>.curated``."""

    name: str
    curate: CurateConfig


def curate_documents(ctx: StepContext, config: CurateStepConfig) -> Meta:
    """Drop duplicates and what is no good, keep the reasons, and say how fit the rest is."""
    lake, raw, tag = find_rows(ctx, "ingest")
    found = list(curate(lake.get_documents(raw, version=tag), config.curate))
    table = f"{config.name}.curated"
    lake.put_documents(table, found, tag=rows_tag(ctx.key))  # also when nothing is kept: the reasons must be found
    state = readiness(found)
    if not state.kept:
        raise ConfigError(
            f"none of {state.documents} documents is fit to learn from: {dict(state.dropped)}",
            hint="List them with `bessemer documents --dropped`, then loosen `curate` or add sources.",
        )
    return {**written(ctx, lake, table), "readiness": state.model_dump(mode="json")}


class TableStepConfig(StepConfig):
    """Which source is read into which table."""

    table: str
    source: TableSourceConfig


def read_rows(ctx: StepContext, config: TableStepConfig) -> Meta:
    """Read a table of rows into a new version of the lake's."""
    count = 0

    def rows() -> Iterator[Mapping[str, Any]]:
        nonlocal count
        for row in read_table(config.source, Path(ctx.resources["base"])):
            count += 1
            if count % _REPORT_ROWS == 0:
                ctx.progress(count, 0, "rows")
            yield row

    lake = open_lake(ctx.resources["lake"])
    lake.put(config.table, rows(), tag=rows_tag(ctx.key))
    return {**written(ctx, lake, config.table), "what": f"{config.table}: {config.source.describe()}"}


def document_steps(place: IntakePlace, sources: tuple[SourceConfig, ...], curated: CurateConfig) -> tuple[Step, ...]:
    """Return the steps that read a factory's documents and curate them."""
    raw = {f"source {index}": fingerprint(source, place.base) for index, source in enumerate(sources)}
    read = IngestConfig(name=place.factory, sources=sources, erased=place.erased)
    chosen = CurateStepConfig(name=place.factory, curate=curated)
    return (
        _step(INGEST, "ingest", read, (), {**raw, "table": place.lake.of(f"{place.factory}.documents")}),
        _step(CURATE, "curate_documents", chosen, (INGEST,), {"table": place.lake.of(f"{place.factory}.curated")}),
    )


def table_step(place: IntakePlace, name: str, source: TableSourceConfig) -> Step:
    """Return the step that reads a declared table of rows."""
    table = f"{place.factory}.{name}"
    inputs = {"rows": fingerprint_table(source, place.base), "table": place.lake.of(table)}
    return _step(f"table_{name}", "read_rows", TableStepConfig(table=table, source=source), (), inputs)


def _step(name: str, function: str, config: Config, needs: tuple[str, ...], inputs: Mapping[str, str]) -> Step:
    code = ("bessemer.lake", "bessemer.products.rows")
    return Step(name, run=f"{__name__}:{function}", config=config, needs=needs, code=code, inputs=inputs)
