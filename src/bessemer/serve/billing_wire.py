"""``/v1/prices`` and ``/v1/invoices``: our own, as OpenAI's wire has none. Each key sees its own project's only.

Owns the endpoints. What they tell is asked of a `Billing`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.usage import Billing
from bessemer.serve.door import authenticate
from bessemer.serve.keys import KeyStore
from bessemer.serve.refusals import Refusal, Refused


class BillingDesk:
    """The endpoints of prices and invoices."""

    def __init__(self, keys: KeyStore, billing: Billing) -> None:
        self._keys, self._billing = keys, billing

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("/v1/prices", self._answering(self._billing.prices), methods=["GET"]),
            Route("/v1/invoices", self._answering(self._list), methods=["GET"]),
            Route("/v1/invoices/{id}", self.get, methods=["GET"]),
        ]

    async def get(self, request: Request) -> Response:
        """Return one invoice."""
        project = authenticate(self._keys, request.scope).project
        found = await run_in_threadpool(self._billing.invoices, project)
        for each in found:
            if each["id"] == request.path_params["id"]:
                return _told(each)
        raise Refused(Refusal(404, "There is no such invoice.", "invoice_not_found", "id"))

    def _list(self, project: str) -> dict[str, Any]:
        return {"object": "list", "data": self._billing.invoices(project), "has_more": False}

    def _answering(self, tell: Callable[[str], dict[str, Any]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            return _told(await run_in_threadpool(tell, authenticate(self._keys, request.scope).project))

        return answer


def _told(value: dict[str, Any]) -> Response:
    return Response(json.dumps(value), media_type="application/json")
