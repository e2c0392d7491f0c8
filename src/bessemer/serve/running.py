"""Runs a gateway: binds its port before anything else, says when it is ready, stops gracefully.

Owns the process side of serving. The web framework is imported when a gateway is made, not before.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bessemer.core.errors import BackendError, Conflict, MissingDependency
from bessemer.core.protocols import Meter
from bessemer.serve.config import GatewayConfig
from bessemer.serve.keys import KeyStore

if TYPE_CHECKING:
    from starlette.applications import Starlette


def create_app(config: GatewayConfig, engines: Mapping[str, Any], keys: KeyStore, meter: Meter) -> Starlette:
    """Return the gateway as an ASGI app.

    Args:
        config: its limits.
        engines: by the model name that clients use; they are not closed here.
        keys: who may call.
        meter: books every answer.

    Raises:
        MissingDependency: the web framework is not installed.
    """
    try:
        from bessemer.serve.app import Gateway, build_app
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "starlette", extra="serve") from error
    return build_app(Gateway(config, engines, keys, meter))


def check_port(config: GatewayConfig) -> None:
    """Return if the gateway could listen where it is configured to.

    Raises:
        Conflict: something else listens there.
        BackendError: the address is not one of this machine.
    """
    _bound(config).close()


def run_gateway(app: Starlette, config: GatewayConfig, ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve until SIGINT or SIGTERM, then let running answers finish within the grace.

    Args:
        app: from `create_app`.
        config: where to listen.
        ready: called once with the URL (without ``/v1``) when requests are taken.

    Raises:
        Conflict: something else listens there.
        BackendError: the address is not one of this machine.
    """
    import uvicorn

    listening = _bound(config)
    port = listening.getsockname()[1]
    host = f"[{config.host}]" if ":" in config.host else config.host

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(f"http://{host}:{port}")

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.gateway.stopping = True
            await super().shutdown(sockets)

    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=round(config.grace_seconds),
        h11_max_incomplete_event_size=64 * 1024,
    )
    try:
        Server(settings).run([listening])
    except KeyboardInterrupt:  # uvicorn raises the signal again once it has stopped
        pass
    finally:
        listening.close()


def _bound(config: GatewayConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((config.host, config.port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        where = f"{config.host}:{config.port}"
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"{where} is in use", hint="Stop what listens there, or choose another port with --port."
            ) from error
        raise BackendError(
            f"cannot listen on {where}: {error.strerror}", hint="Choose another with --host and --port."
        ) from error
    return listening
