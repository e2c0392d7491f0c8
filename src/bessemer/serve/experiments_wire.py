"""``/v1/experiments``: which ranker wins, our own, as OpenAI's wire has none. Each key sees its project's users,
and the experiments on models that it may ask.

Owns the endpoints. What they tell is asked of an `Experiments`.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.experiments import ExperimentFigures, Experiments
from bessemer.serve.door import authenticate
from bessemer.serve.keys import KeyStore
from bessemer.serve.refusals import Refusal, Refused


class ExperimentDesk:
    """The endpoints of experiments."""

    def __init__(self, keys: KeyStore, experiments: Experiments) -> None:
        self._keys, self._experiments = keys, experiments

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("/v1/experiments", self.all, methods=["GET"]),
            Route("/v1/experiments/{name}", self.get, methods=["GET"]),
        ]

    async def all(self, request: Request) -> Response:
        """Return all of them, the newest first."""
        found = await self._found(request)
        return _told({"object": "list", "data": [_shown(each) for each in found], "has_more": False})

    async def get(self, request: Request) -> Response:
        """Return one of them."""
        name = request.path_params["name"]
        for each in await self._found(request, name):
            return _told(_shown(each))
        raise Refused(Refusal(404, "There is no such experiment.", "experiment_not_found", "name"))

    async def _found(self, request: Request, name: str = "") -> list[ExperimentFigures]:
        key = authenticate(self._keys, request.scope)
        return await run_in_threadpool(self._experiments.experiments, key.project, name, key.may_ask)


def _shown(found: ExperimentFigures) -> dict[str, Any]:
    told = found.model_dump(mode="json")
    return {"id": found.experiment.name, "object": "experiment", **told.pop("experiment"), **told}


def _told(value: dict[str, Any]) -> Response:
    return Response(json.dumps(value), media_type="application/json")
