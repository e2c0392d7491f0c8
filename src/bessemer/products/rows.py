"""The rows that steps hand on: written to the lake under a tag of the step's key, named by their digest.

Owns the tie between an artifact and its rows. Knows neither what a row means nor who reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bessemer.core.errors import Conflict, NotFound
from bessemer.flow import StepContext
from bessemer.lake import open_lake

if TYPE_CHECKING:
    from bessemer.lake.tables import LanceLake

Meta = Mapping[str, Any]


def rows_tag(key: str) -> str:
    """Return the tag of the rows that a step wrote, from its artifact's key; a second attempt writes nothing."""
    return f"step-{key[:32]}"


def written(ctx: StepContext, lake: LanceLake, table: str) -> Meta:
    """Return the table that a step wrote and the digest of its rows.

    Not the version: a step that needs these rows runs again when they are others, not when they were written again.
    """
    return {"table": table, "rows": lake.digest(table, version=rows_tag(ctx.key))}


def find_rows(ctx: StepContext, step: str) -> tuple[LanceLake, str, str]:
    """Return the lake, and the table and tag of the rows that a needed step wrote.

    Raises:
        Conflict: they are no longer what it wrote.
        NotFound: somebody deleted the table.
    """
    made, lake = ctx.inputs[step], open_lake(ctx.resources["lake"])
    table, tag = made.meta["table"], rows_tag(made.key)
    try:
        rows = lake.digest(table, version=tag)
    except NotFound as error:
        raise NotFound(
            f"the rows that the step '{step}' wrote are gone: {error.message}",
            hint="Delete the lake's folder whole; the next run fills it again.",
        ) from error
    if rows != made.meta["rows"]:
        raise Conflict(f"rows of the table '{table}' were erased during the run", hint="Run again.")
    return lake, table, tag
