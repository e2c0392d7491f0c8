"""The gateway as an ASGI application: which path leads where.

Owns the table of paths and the small endpoints. Needs starlette; `bessemer.serve.gateway` is the door that says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from bessemer.core.protocols import Meter
from bessemer.serve.booking import Bookkeeper
from bessemer.serve.config import GatewayConfig
from bessemer.serve.door import authenticate, authenticate_admin
from bessemer.serve.envelope import Envelope
from bessemer.serve.feedback_wire import FeedbackDesk
from bessemer.serve.keys import KeyStore
from bessemer.serve.landing import PAGE_HEADERS, page
from bessemer.serve.metrics import Metrics
from bessemer.serve.parts import GatewayParts
from bessemer.serve.refusals import STOPPING, Refusal, Refused, unknown_model
from bessemer.serve.serving import ChatEngine, Floor
from bessemer.serve.telling import Model, ModelList
from bessemer.serve.traffic import Traffic
from bessemer.serve.wire.routes import wire_routes

_MAX_THREADS = 32


class _Desk:
    """The small endpoints."""

    def __init__(self, name: str, models: Mapping[str, Model], keys: KeyStore, traffic: Traffic) -> None:
        self._name = name
        self._models = models
        self._keys = keys
        self._traffic = traffic

    async def models(self, request: Request) -> Response:
        authenticate(self._keys, request.scope)
        return _json(ModelList(data=list(self._models.values())).model_dump_json())

    async def model(self, request: Request) -> Response:
        authenticate(self._keys, request.scope)
        found = self._models.get(request.path_params["id"])
        if found is None:
            raise Refused(unknown_model(request.path_params["id"]))
        return _json(found.model_dump_json())

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        if self._traffic.stopping:
            raise Refused(STOPPING)
        return JSONResponse({"status": "ready", "requests_under_way": len(self._traffic)})

    async def landing(self, request: Request) -> Response:
        return HTMLResponse(page(self._name, list(self._models), str(request.base_url)), headers=PAGE_HEADERS)


def build_app(
    config: GatewayConfig,
    engines: Mapping[str, ChatEngine],
    keys: KeyStore,
    meter: Meter,
    parts: GatewayParts,
) -> Starlette:
    """Return the application; see `bessemer.serve.create_app`."""
    traffic = Traffic(config.max_concurrent_requests)
    threads = ThreadPoolExecutor(min(_MAX_THREADS, config.max_concurrent_requests), "meter")
    metrics = Metrics(tuple(engines))
    bookkeeper = Bookkeeper(meter, threads, (metrics, *parts.watchers))
    floor = Floor(config, engines, keys, bookkeeper, traffic, parts.clock)
    desk = _Desk(parts.name, _models(engines, int(parts.clock())), keys, traffic)

    async def counted(request: Request) -> Response:
        if not config.open_metrics:
            authenticate_admin(keys, request.scope)
        return Response(metrics.text(), media_type=metrics.content_type)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await traffic.stop(0)  # whoever runs the application without `run_gateway` has waited as long as it wanted
        for engine in engines.values():
            await engine.close()  # here, because connections belong to the event loop that opened them
        threads.shutdown()

    app = Starlette(
        routes=[
            Route("/", desk.landing),
            Route("/healthz", desk.healthz),
            Route("/readyz", desk.readyz),
            Route("/metrics", counted),
            Route("/v1/models", desk.models),
            Route("/v1/models/{id:path}", desk.model),
            *wire_routes(floor, parts),
            *(FeedbackDesk(config, keys, parts.feedback).routes() if parts.feedback else ()),
        ],
        middleware=[Middleware(Envelope)],
        exception_handlers={HTTPException: _refuse},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.traffic = traffic
    return app


def _models(engines: Mapping[str, ChatEngine], started: int) -> dict[str, Model]:
    return {
        name: Model(id=name, created=started, capabilities=sorted(engine.capabilities))
        for name, engine in engines.items()
    }


def _json(body: str) -> Response:
    return Response(body, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    """Say in the wire's words what the router says: no such path, not this method."""
    assert isinstance(error, HTTPException)
    what = {
        404: Refusal(404, "There is no such path here.", "unknown_path"),
        405: Refusal(405, "This path does not take that method.", "method_not_allowed"),
    }
    refusal = what.get(error.status_code, Refusal(error.status_code, error.detail))
    return Response(refusal.body(), refusal.status, error.headers, "application/json")
