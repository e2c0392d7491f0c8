"""``/v1/models``: what a key may ask: the models of all, and its project's own.

Owns the endpoints. Source: the published OpenAPI description of OpenAI's API, models.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bessemer.core.errors import NotFound
from bessemer.serve.door import authenticate
from bessemer.serve.keys import Key, KeyStore
from bessemer.serve.refusals import NOT_YOURS, Refused, unknown_model
from bessemer.serve.telling import Model, ModelList
from bessemer.serve.work.models import TunedModel, TunedModels


class ModelDesk:
    """The endpoints.

    Args:
        models: of all.
        keys: who may come in.
        tuned: of one project each; None has none.
    """

    def __init__(self, models: Mapping[str, Model], keys: KeyStore, tuned: TunedModels | None) -> None:
        self._models, self._keys, self._tuned = models, keys, tuned

    def routes(self) -> list[Route]:
        """Return the paths."""
        one = "/v1/models/{id:path}"
        return [
            Route("/v1/models", self.list),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return all models that the key may ask."""
        key = authenticate(self._keys, request.scope)
        found = [*self._models.values()]
        if self._tuned:
            found += [self._told(model) for model in await run_in_threadpool(self._tuned.list, key.project)]
        data = [model for model in found if key.may_ask(model.id)]
        return Response(ModelList(data=data).model_dump_json(), media_type="application/json")

    async def get(self, request: Request) -> Response:
        """Return one model."""
        key = authenticate(self._keys, request.scope)
        found = await self._found(key, request.path_params["id"])
        return Response(found.model_dump_json(), media_type="application/json")

    async def delete(self, request: Request) -> Response:
        """Forget one of the project's own models."""
        key, id = authenticate(self._keys, request.scope), request.path_params["id"]
        await self._found(key, id)
        if id in self._models or self._tuned is None:
            raise Refused(NOT_YOURS)
        await run_in_threadpool(self._tuned.delete, key.project, id)
        return JSONResponse({"id": id, "object": "model", "deleted": True})

    async def _found(self, key: Key, id: str) -> Model:
        found = self._models.get(id)
        if found is None and self._tuned:
            try:
                found = self._told(await run_in_threadpool(self._tuned.get, key.project, id))
            except NotFound:
                found = None
        if found is None or not key.may_ask(id):
            raise Refused(unknown_model(id))
        return found

    def _told(self, model: TunedModel) -> Model:
        assert self._tuned is not None
        return Model(id=model.id, created=model.created_at, capabilities=sorted(self._tuned.capabilities))
