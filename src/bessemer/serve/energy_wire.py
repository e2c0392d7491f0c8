"""``/v1/energy``: what a project's own requests and training took, in buckets of time; our own, as OpenAI has none.

Parameters are those of the organization's usage; without `start_time` it tells the latest buckets. Requests and steps
(training) are always told apart. What failed by our own fault is left out, as it is of invoices: a month's sum is its
invoices'.

Owns the endpoint and the shape. What was used is asked of a `UsageDesk`.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.usage import UsageRow
from bessemer.serve.accounts.usage_wire import Query, UsageDesk, by_start, listed
from bessemer.serve.door import authenticate
from bessemer.serve.keys import KeyStore
from bessemer.serve.refusals import Refused, invalid

_TAKEN = ("start_time", "end_time", "bucket_width", "group_by", "limit", "page", "models", "api_key_ids")
_GROUPS = {"api_key_id": "key_id", "model": "model"}


class EnergyDesk:
    """The endpoint of energy and carbon."""

    def __init__(self, keys: KeyStore, usage: UsageDesk) -> None:
        self._keys, self._usage = keys, usage

    def routes(self) -> list[Route]:
        """Return the path."""
        return [Route("/v1/energy", self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """Return a page of buckets."""
        project, given = authenticate(self._keys, request.scope).project, request.query_params
        query = {name.removesuffix("[]"): given.getlist(name) for name in given}
        told = await run_in_threadpool(self._tell, project, query)
        return Response(json.dumps(told), media_type="application/json")

    def _tell(self, project: str, query: Query) -> dict[str, Any]:
        if unknown := [name for name in query if name not in _TAKEN]:
            raise Refused(invalid(unknown[0], f"There is no '{unknown[0]}' here: {', '.join(_TAKEN)}."))
        groups = listed(query, "group_by", tuple(_GROUPS))
        wanted, pages = self._usage.wanted(query, recent=True)
        asked = {"projects": (project,), "kind": "", "charged": True, "group_by": (*map(_GROUPS.get, groups), "kind")}
        found: dict[tuple[Any, ...], UsageRow] = {}
        for row in self._usage.source.usage(wanted.model_copy(update=asked)):
            key = (row.start, *row.group.values())  # one, also where prices changed their currency
            found[key] = found[key].plus(row) if key in found else row
        rows = by_start(found.values())
        return pages.told(lambda start: [_told(row, project, groups) for row in rows.get(start, ())])


def _told(row: UsageRow, project: str, groups: tuple[str, ...]) -> dict[str, Any]:
    joules, written = row.microjoules / 1e6, row.usage.output_tokens
    return {
        "object": "energy.result",
        "project_id": project,
        **{name: row.group[column] if name in groups else None for name, column in _GROUPS.items()},
        "kind": row.group["kind"],
        "count": row.entries,
        "energy": {
            "joules": joules,
            "joules_low": row.microjoules_low / 1e6,
            "joules_high": row.microjoules_high / 1e6,
            "class": row.energy_class.value,
        },
        "grams_co2e": row.micrograms / 1e6,
        "input_tokens": row.usage.input_tokens,
        "output_tokens": written,
        "joules_per_1000_output_tokens": joules * 1000 / written if written else None,
    }
