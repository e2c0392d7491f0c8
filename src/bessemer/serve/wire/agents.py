"""``DELETE /v1/agents/{model}/sessions/{name}`` and ``…/runs/{name}``: what an agent keeps of its askers, forgotten.

Owns the endpoints. A key reaches what its own project left with a model that it may ask, and nothing else.
"""

from __future__ import annotations

import json

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.acting import Asker, Personal, Remembering
from bessemer.core.errors import Conflict
from bessemer.serve.door import authenticate
from bessemer.serve.refusals import Refusal, Refused, unknown_model
from bessemer.serve.serving import Floor


class AgentDesk:
    """The endpoints."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("/v1/agents/{model}/sessions/{name:path}", self.forget_session, methods=["DELETE"]),
            Route("/v1/agents/{model}/runs/{name:path}", self.forget_run, methods=["DELETE"]),
        ]

    async def forget_session(self, request: Request) -> Response:
        """Forget what was said in a session."""
        return await self._forget(request, "session")

    async def forget_run(self, request: Request) -> Response:
        """Forget what was done in a run; asked for again it begins anew."""
        return await self._forget(request, "run")

    async def _forget(self, request: Request, kind: str) -> Response:
        key, model = authenticate(self._floor.keys, request.scope), request.path_params["model"]
        name, engine = request.path_params["name"], self._floor.engines.get(model)
        if engine is None or not key.may_ask(model):
            raise Refused(unknown_model(model))
        asker = Asker(project=key.project, key_id=key.id, **{kind: name})
        asked = engine.of(asker) if isinstance(engine, Personal) else None
        try:
            gone = await run_in_threadpool(asked.forget) if isinstance(asked, Remembering) else 0
        except Conflict as error:
            raise Refused(Refusal(409, f"{error.message}. {error.hint}", "conflict")) from error
        if not gone:
            raise Refused(
                Refusal(404, f"The model '{model}' keeps no such {kind} of this project.", f"{kind}_not_found")
            )
        deleted = {"id": name, "object": f"agent.{kind}.deleted", "deleted": True, "records": gone}
        return Response(json.dumps(deleted), media_type="application/json")
