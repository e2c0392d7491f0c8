"""Tools over the lake: search in a table of documents, and SQL over tables of rows.

Owns how a declared table's name becomes one of the lake's. Knows neither the loop nor the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Usage
from bessemer.core.raw import EmbedRequest
from bessemer.infer.agents import Capability, Delivered, callable_tool
from bessemer.lake import open_lake
from bessemer.lake.querying import Asked, describe, query
from bessemer.products.agent.config import SearchTool, SqlTool
from bessemer.products.product import Opening, Place

_CANDIDATES, _CHARACTERS, _CONTEXT_TOKENS = 10, 500, 512
"""Rows found by words that are put in order by meaning, what is read of each, and the tokens of that at most."""


def open_lake_tool(tool: SearchTool | SqlTool, place: Place, opening: Opening) -> Capability:
    """Return a tool over the lake.

    Raises:
        NotFound: there is no such table, or no such model for vectors.
        MissingDependency: the lake's packages are not installed.
    """
    return _sql(tool, place, opening) if isinstance(tool, SqlTool) else _search(tool, place, opening)


def lake_table(name: str, place: Place, lake: Any) -> str:
    """Return the lake's name of a table that a declaration names: a declared table's, a product's, or its own.

    Raises:
        NotFound: there is none.
    """
    known = lake.list()
    for found in (f"{place.factory}.{name}", name):
        if found in known:
            return found
    raise NotFound(
        f"there is no table '{name}'", hint=f"Tables: {', '.join(known) or 'none; `bessemer run` makes them'}"
    )


def _sql(tool: SqlTool, place: Place, opening: Opening) -> Capability:
    lake = open_lake(opening.lake_url)
    names = {name.rpartition(".")[2]: lake_table(name, place, lake) for name in tool.tables}
    told = describe({name: lake.open(table) for name, table in names.items()})

    def run(sql: Annotated[str, Field(description="One SELECT; DuckDB's dialect.")]) -> dict[str, Any]:
        datasets = {name: lake.open(table) for name, table in names.items()}
        tables = {name: (dataset.uri, dataset.version) for name, dataset in datasets.items()}
        asked = Asked(tables=tables, rows=tool.rows, seconds=tool.seconds, memory_bytes=tool.memory_bytes)
        return query(sql, asked).model_dump()

    run.__doc__ = f"Read tables with SQL: {told}."
    made: Capability = callable_tool(name="sql", timeout_seconds=tool.seconds + 30)(run)
    return made


def _search(tool: SearchTool, place: Place, opening: Opening) -> Capability:
    lake = open_lake(opening.lake_url)
    table = lake_table(tool.table, place, lake)
    encoder = opening.engines.get(tool.encoder) if tool.encoder else None
    if tool.encoder and (encoder is None or "embed" not in encoder.capabilities):
        raise NotFound(f"no model for vectors is called '{tool.encoder}'", hint="Declare it as an llm's `embeddings`.")

    async def search(query: Annotated[str, Field(description="Words or names.")]) -> Delivered:
        usage = Usage()
        many = max(tool.rows, _CANDIDATES) if encoder else tool.rows
        found = await asyncio.to_thread(lake.search, table, query, many, tool.column)
        if encoder:
            found, usage = await _by_meaning(encoder, query, found)
        shown = [{k: v for k, v in row.items() if k in ("id", "title", "text")} or row for row in found[: tool.rows]]
        return Delivered(shown, usage)

    search.__doc__ = f"Search in {tool.table} and return the best passages."
    context = int(getattr(encoder, "context_tokens", _CONTEXT_TOKENS))
    most = Usage(input_tokens=(max(tool.rows, _CANDIDATES) + 1) * context) if encoder else Usage()
    return replace(callable_tool(name=tool.name)(search), asks=tool.encoder, most=most)


async def _by_meaning(
    encoder: Any, question: str, found: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], Usage]:
    """Return rows in the order of what they mean and how well their words fit, by reciprocal ranks; and what it took.

    Source: Cormack et al. 2009, Reciprocal rank fusion outperforms Condorcet; k = 60 as there.
    """
    texts = [(question or " ")[:_CHARACTERS], *(str(row.get("text", ""))[:_CHARACTERS] or " " for row in found)]
    answers = await asyncio.gather(*(encoder.respond(EmbedRequest(text=text)) for text in texts))
    wanted, *vectors = [answer.vector for answer in answers]
    near = sorted(range(len(found)), key=lambda n: -_dot(wanted, vectors[n]))
    ranks = {number: rank for rank, number in enumerate(near)}
    best = sorted(range(len(found)), key=lambda n: -(1 / (60 + n) + 1 / (60 + ranks[n])))
    return [found[n] for n in best], Usage(input_tokens=sum(answer.usage.input_tokens for answer in answers))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
