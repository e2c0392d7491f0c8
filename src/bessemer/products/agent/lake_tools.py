"""Tools over the lake: search in a table of documents by words and by meaning, and SQL over tables of rows.

Owns how a declared table's name becomes one of the lake's. Knows neither the loop nor the wire.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Usage
from bessemer.core.raw import EmbedRequest
from bessemer.infer.agents import Capability, Delivered, callable_tool
from bessemer.infer.agents.records import ANY
from bessemer.lake import open_lake
from bessemer.lake.querying import Asked, describe, query
from bessemer.products.agent.config import SearchTool, SqlTool
from bessemer.products.agent.vectors import ERASED_BY, PASSAGE_CHARACTERS, row_json, vectors_table
from bessemer.products.product import Opening, Place

_CANDIDATES, _PASSAGES, _CONTEXT_TOKENS = 20, 4, 512
"""Rows that each way of finding gives, passages looked at for each of them, and tokens of a question at most."""


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
    opened = {name: lake.open(table) for name, table in names.items()}
    told = describe(opened)
    # An answer need not show the id of what it quotes; where rows are of documents it may be any of them.
    of_documents = any(name in ERASED_BY for dataset in opened.values() for name in dataset.schema.names)
    quotes = frozenset({ANY} if of_documents else ())

    def run(sql: Annotated[str, Field(description="One SELECT; DuckDB's dialect.")]) -> Delivered:
        datasets = {name: lake.open(table) for name, table in names.items()}
        tables = {name: (dataset.uri, dataset.version) for name, dataset in datasets.items()}
        asked = Asked(tables=tables, rows=tool.rows, seconds=tool.seconds, memory_bytes=tool.memory_bytes)
        return Delivered(query(sql, asked).model_dump(), quotes=quotes)

    run.__doc__ = f"Read tables with SQL: {told}."
    made: Capability = callable_tool(name="sql", timeout_seconds=tool.seconds + 30)(run)
    return made


def _search(tool: SearchTool, place: Place, opening: Opening) -> Capability:
    lake = open_lake(opening.lake_url)
    table = lake_table(tool.table, place, lake)
    by_meaning = _nearest(tool, place, opening, lake) if tool.encoder else None

    async def search(query: Annotated[str, Field(description="Words or names.")]) -> Delivered:
        many = _CANDIDATES if by_meaning else tool.rows
        rows, usage = await asyncio.to_thread(lake.search, table, query, many, tool.column), Usage()
        if by_meaning:
            near, usage = await by_meaning(query)
            rows = fused(rows, near)
        found = rows[: tool.rows]
        shown = [{k: v for k, v in row.items() if k in ("id", "title", "text")} or row for row in found]
        return Delivered(shown, usage, frozenset(id for row in found for id in _documents(row)))

    search.__doc__ = f"Search in {tool.table} and return the best passages."
    context = int(getattr(opening.engines.get(tool.encoder), "context_tokens", _CONTEXT_TOKENS))
    most = Usage(input_tokens=context) if by_meaning else Usage()
    return replace(callable_tool(name=tool.name)(search), asks=tool.encoder, most=most)


Near = Callable[[str], Awaitable[tuple[list[dict[str, Any]], Usage]]]
"""From a question to rows, the nearest in meaning first, and what its vector took."""


def _nearest(tool: SearchTool, place: Place, opening: Opening, lake: Any) -> Near:
    """Return what finds rows by their vectors, which the line made.

    Raises:
        NotFound: the encoder is not served, or there are no vectors yet.
    """
    encoder = opening.engines.get(tool.encoder)
    if encoder is None or "embed" not in encoder.capabilities:
        raise NotFound(f"no model for vectors is called '{tool.encoder}'", hint="Declare it as an llm's `embeddings`.")
    table = vectors_table(place, tool)
    if table not in lake.list():
        told = f"the table '{tool.table}' has no vectors of '{tool.encoder}' yet"
        raise NotFound(told, hint="`bessemer run` makes them.")

    async def near(question: str) -> tuple[list[dict[str, Any]], Usage]:
        answer = await encoder.respond(EmbedRequest(text=question.strip()[:PASSAGE_CHARACTERS] or " "))
        found = await asyncio.to_thread(lake.nearest, table, answer.vector, _PASSAGES * _CANDIDATES)
        rows = dict.fromkeys(row["row"] for row in found)  # a row is as near as the nearest of its passages
        return [json.loads(row) for row in rows][:_CANDIDATES], answer.usage

    return near


def fused(*rankings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of several rankings, the best first: each ranking gives a row 1 / (60 + its place).

    Source: Cormack et al. 2009, Reciprocal rank fusion outperforms Condorcet; k = 60 as there.

    >>> [row["id"] for row in fused([{"id": "a"}, {"id": "b"}], [{"id": "b"}, {"id": "c"}])]
    ['b', 'a', 'c']
    >>> [row["text"] for row in fused([{"id": "a", "text": "one"}, {"id": "a", "text": "two"}])]
    ['one', 'two']
    """
    scores, rows = defaultdict[str, float](float), dict[str, dict[str, Any]]()
    for ranking in rankings:
        for place, row in enumerate(ranking, 1):
            key = row_json(row)  # nobody says that an `id` is of one row only: passages may share their document's
            scores[key] += 1 / (60 + place)
            rows.setdefault(key, dict(row))
    return [rows[key] for key in sorted(scores, key=lambda key: -scores[key])]


def _documents(row: Mapping[str, Any]) -> set[str]:
    """Return the ids of the documents that a row is of."""
    found = {str(row[name]) for name in ERASED_BY if name in row and not isinstance(row[name], list)}
    return found | {str(id) for name in ERASED_BY if isinstance(row.get(name), list) for id in row[name]}
