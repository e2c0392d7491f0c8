"""The gateway's front door: makes the application and runs it, and says what to install if the web server is missing.

Owns nothing but the door, which is light to import; behind it are `app` and `server`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bessemer.core.errors import MissingDependency
from bessemer.core.nouns import ChatRequest, Completion, Delta
from bessemer.core.protocols import Engine, Meter
from bessemer.serve.config import GatewayConfig
from bessemer.serve.keys import KeyStore
from bessemer.serve.parts import GatewayParts

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from bessemer.serve.tracing import Traces

EXTRAS = {
    "starlette": ("starlette", "serve"),
    "httptools": ("httptools", "serve"),
    "msgspec": ("msgspec", "serve"),
    "prometheus_client": ("prometheus-client", "serve"),
    "opentelemetry": ("opentelemetry-sdk", "otel"),
}
"""What is imported -> the package that has it, and the extra that installs it."""


def create_app(
    config: GatewayConfig,
    engines: Mapping[str, Engine[ChatRequest, Completion, Delta]],
    keys: KeyStore,
    meter: Meter,
    parts: GatewayParts | None = None,
) -> Starlette:
    """Return the gateway as an ASGI application, for `run_gateway`. Keys and meter stay the caller's to close.

    Args:
        config: limits and where to listen.
        engines: by the model names that clients use; closed when the application ends, in its event loop.
        keys: who may come in.
        meter: books every answer before its last byte leaves.
        parts: what it has beside these.

    Raises:
        MissingDependency: starlette or prometheus-client is not installed.
    """
    app: Starlette = _behind("app").build_app(config, engines, keys, meter, parts or GatewayParts())
    return app


def open_traces(service: str) -> Traces:
    """Return a watcher that sends each request to OpenTelemetry as a span; it stays the caller's to close.

    Args:
        service: ``service.name`` of the spans. Where they are sent says ``OTEL_EXPORTER_OTLP_ENDPOINT``.

    Raises:
        MissingDependency: OpenTelemetry's SDK is not installed.
    """
    found: Traces = _behind("tracing").open_traces(service)
    return found


def run_gateway(app: Starlette, config: GatewayConfig, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; then take nothing new, let running answers end within the grace, and return.

    Args:
        app: from `create_app`; runs once.
        config: where to listen.
        ready: called once with the URL when requests are answered.

    Raises:
        Conflict: the port is in use.
        ConfigError: the address cannot be listened on.
        MissingDependency: httptools is not installed.
    """
    _behind("server").GatewayServer(app, config).run(ready)


def _behind(module: str) -> Any:
    try:
        return import_module(f"bessemer.serve.{module}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in EXTRAS:
            name, extra = EXTRAS[package]
            raise MissingDependency(name, extra=extra) from error
        raise
