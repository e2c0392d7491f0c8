"""The gateway as an ASGI application: which path leads where.

Owns the table of paths and the small endpoints. Needs starlette; `bessemer.serve.gateway` is the door that says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Match, Route

from bessemer.core.batching import Batching, Forwarding
from bessemer.core.errors import BessemerError
from bessemer.core.protocols import Meter
from bessemer.serve.accounts.alerts import Teller
from bessemer.serve.accounts.usage_wire import UsageDesk
from bessemer.serve.accounts.wire import AdminDesk
from bessemer.serve.billing_wire import BillingDesk
from bessemer.serve.booking import Bookkeeper
from bessemer.serve.bounding import Bounded
from bessemer.serve.config import GatewayConfig
from bessemer.serve.door import authenticate_admin
from bessemer.serve.energy_wire import EnergyDesk
from bessemer.serve.envelope import Envelope
from bessemer.serve.experiments_wire import ExperimentDesk
from bessemer.serve.fast.admission import Admission, KeyAdmission
from bessemer.serve.fast.desk import Short
from bessemer.serve.feedback_wire import FeedbackDesk
from bessemer.serve.hearing import Hearing
from bessemer.serve.keys import KeyStore
from bessemer.serve.landing import PAGE_HEADERS, page
from bessemer.serve.metrics import Metrics
from bessemer.serve.models_wire import ModelDesk
from bessemer.serve.observing import Watcher
from bessemer.serve.parts import GatewayParts
from bessemer.serve.refusals import STOPPING, Refusal, Refused
from bessemer.serve.serving import ChatEngine, Floor
from bessemer.serve.telling import Model
from bessemer.serve.traffic import Traffic
from bessemer.serve.webhook_sender import Sender
from bessemer.serve.webhooks_wire import WebhookDesk
from bessemer.serve.wire.events import learners
from bessemer.serve.wire.routes import asking_routes, wire_routes
from bessemer.serve.work.answering import BatchRunner
from bessemer.serve.work.office import Work
from bessemer.serve.work.routes import open_runner, work_routes

logger = logging.getLogger("bessemer.serve")

_MAX_THREADS = 32
_MOST_OTHERS = 64
"""Requests of administration, and of the rest that asks no model: each may hold a body, and a thread while it waits."""
_SWEEP_SECONDS = 600.0


class _Desk:
    """The small endpoints."""

    def __init__(self, name: str, models: tuple[str, ...], keys: KeyStore, traffic: Traffic, metrics: Metrics) -> None:
        self._name = name
        self._models = models
        self._keys = keys
        self._traffic = traffic
        self._metrics = metrics

    def routes(self, open_metrics: bool) -> list[Route]:
        return [
            Route("/", self.landing),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.open_metrics if open_metrics else self.metrics),
        ]

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        if self._traffic.stopping:
            raise Refused(STOPPING)
        return JSONResponse({"status": "ready", "requests_under_way": len(self._traffic)})

    async def metrics(self, request: Request) -> Response:
        authenticate_admin(self._keys, request.scope)
        return await self.open_metrics(request)

    async def open_metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type=self._metrics.content_type)

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
    watchers = (metrics, *parts.watchers)
    bookkeeper = Bookkeeper(meter, threads, watchers)
    tuned = parts.work.models if parts.work else None
    floor = Floor(config, engines, keys, bookkeeper, traffic, parts.clock, parts.gate, tuned)
    models = ModelDesk(_models(engines, int(parts.clock())), keys, tuned)
    desk = _Desk(parts.name, tuple(engines), keys, traffic, metrics)
    runner = open_runner(floor, parts)
    sender = _sender(config, parts)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with _working(sender, runner, parts.work), _remembering(parts, engines):
            yield
            await traffic.stop(0)  # whoever runs the application without `run_gateway` has waited as long as it wanted
            if runner:
                await runner.stop()
            for engine in engines.values():
                await engine.close()  # here, because connections belong to the event loop that opened them
            if tuned:
                await tuned.close()
            threads.shutdown()

    app = Starlette(
        routes=[
            *desk.routes(config.open_metrics),
            *asking_routes(floor, parts),
            *_bounded(config, _administration(floor, parts, tuple(engines))),
            *_bounded(config, [*models.routes(), *wire_routes(floor, parts), *_optional(floor, parts, sender, runner)]),
        ],
        middleware=[Middleware(Envelope)],
        exception_handlers={HTTPException: _refuse},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.traffic = traffic
    app.state.short = _short_way(config, engines, KeyAdmission(keys, parts.gate), meter, (traffic, threads, watchers))
    return app


@asynccontextmanager
async def _working(sender: Sender | None, runner: BatchRunner | None, work: Work | None) -> AsyncIterator[None]:
    """Tell what is due, answer batches and let go of what is over within a block."""
    sweeping = asyncio.create_task(_sweep(work)) if work else None
    if sender:
        sender.start()
    if runner:
        runner.start()
    yield
    if sweeping:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
    if sender:
        await run_in_threadpool(sender.close)


async def _sweep(work: Work) -> None:
    """Let go of what is over, now and then."""
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        try:
            await run_in_threadpool(work.sweep)
        except (BessemerError, OSError) as error:
            logger.error("what is over stays for now: %s", type(error).__name__)


@asynccontextmanager
async def _remembering(parts: GatewayParts, engines: Mapping[str, ChatEngine]) -> AsyncIterator[None]:
    """Begin a block with what engines were told before this process, and let them hear what others are told."""
    if parts.events and learners(engines):
        async with Hearing(parts.events, engines).going_on():
            yield
    else:
        yield


def _sender(config: GatewayConfig, parts: GatewayParts) -> Sender | None:
    """Return what sends webhooks, and before that hands over the alerts of budgets, where there are both."""
    if parts.webhooks is None:
        return None
    if parts.accounts is None:
        return Sender(parts.webhooks, config.private_webhooks, parts.clock)
    teller = Teller(parts.accounts.alerts, parts.webhooks, parts.clock)
    return Sender(parts.webhooks, config.private_webhooks, parts.clock, first=teller.tell)


def _bounded(config: GatewayConfig, routes: list[Route]) -> list[Route]:
    """Give some paths places of their own, which they share."""
    traffic = Traffic(min(_MOST_OTHERS, config.max_concurrent_requests))
    for route in routes:
        route.app = Bounded(route.app, traffic, config.request_timeout_seconds)
    return routes


def _administration(floor: Floor, parts: GatewayParts, models: tuple[str, ...]) -> list[Route]:
    if parts.accounts is None:
        return []
    return AdminDesk(floor.config, parts.accounts, models, _usage(parts)).routes()


def _usage(parts: GatewayParts) -> UsageDesk | None:
    users = parts.accounts.users.of_keys if parts.accounts else dict[str, str]
    return UsageDesk(parts.usage, parts.clock, users) if parts.usage else None


def _optional(floor: Floor, parts: GatewayParts, sender: Sender | None, runner: BatchRunner | None) -> list[Route]:
    config, keys, routes = floor.config, floor.keys, list[Route]()
    if usage := _usage(parts):
        routes += EnergyDesk(keys, usage).routes()
    if parts.billing:
        routes += BillingDesk(keys, parts.billing).routes()
    if parts.experiments:
        routes += ExperimentDesk(keys, parts.experiments).routes()
    if parts.feedback:
        routes += FeedbackDesk(config, keys, parts.feedback, parts.webhooks).routes()
    if parts.webhooks and sender:
        routes += WebhookDesk(config, keys, parts.webhooks, sender).routes()
    if parts.work:
        routes += work_routes(floor, parts.work, runner)
    return routes


def _short_way(
    config: GatewayConfig,
    engines: Mapping[str, ChatEngine],
    admission: Admission,
    meter: Meter,
    parts: tuple[Traffic, Executor, Sequence[Watcher]],
) -> Short | None:
    """Return the short way to the engines whose requests may be sent as bytes, if the meter can book them."""
    forwards = {model: engine.forward for model, engine in engines.items() if isinstance(engine, Forwarding)}
    traffic, threads, watchers = parts
    if not forwards or not isinstance(meter, Batching):
        return None
    return Short(config, forwards, admission, meter.batch, traffic, threads, watchers)


def _models(engines: Mapping[str, ChatEngine], started: int) -> dict[str, Model]:
    return {
        name: Model(id=name, created=started, capabilities=sorted(engine.capabilities))
        for name, engine in engines.items()
    }


async def _refuse(request: Request, error: Exception) -> Response:
    """Say in the wire's words what the router says: no such path, not this method.

    The router names the methods of the first route that has the path; here all are named. Where it took the last part
    of a path for an id that nothing can be posted to, such as ``responses/input_tokens``, there is no such path.
    """
    assert isinstance(error, HTTPException)
    headers, status = error.headers, error.status_code
    if status == 405:
        routes = [route for route in request.app.routes if isinstance(route, Route)]
        found = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
        headers = {"allow": ", ".join(sorted({method for route in found for method in route.methods or ()}))}
        if request.method == "POST" and all(route.path.endswith("}") for route in found):
            headers, status = None, 404
    what = {
        404: Refusal(404, "There is no such path here.", "unknown_path"),
        405: Refusal(405, "This path does not take that method.", "method_not_allowed"),
    }
    refusal = what.get(status, Refusal(status, error.detail))
    return Response(refusal.body(), refusal.status, headers, "application/json")
