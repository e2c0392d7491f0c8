"""The address that the gateway listens on.

Owns what can be wrong with an address. Loads no web server, so that a port can be tried before anything else is done.
"""

from __future__ import annotations

import errno
import socket

from bessemer.core.errors import ConfigError, Conflict
from bessemer.serve.config import GatewayConfig

_BACKLOG = 512


def listen(config: GatewayConfig) -> socket.socket:
    """Return a listening socket; connections wait in it until the gateway accepts them.

    Raises:
        Conflict: the port is in use.
        ConfigError: the host is not one of this machine, or the port is not for this user.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"the host '{config.host}' is not known", hint="Use 127.0.0.1 for this machine.") from error
    # asyncio sends small writes at once only on sockets that say that they are TCP; else each answer waits 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a former gateway may linger
        found.bind(address)
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {config.port} on {config.host} is in use",
                hint="Choose another with --port, or stop what uses it.",
            ) from error
        if error.errno == errno.EACCES:
            raise ConfigError(
                f"port {config.port} needs more rights", hint="Choose one above 1023 with --port."
            ) from error
        raise ConfigError(
            f"{config.host}:{config.port} cannot be listened on: {error.strerror}",
            hint="Use 127.0.0.1 for this machine.",
        ) from error
    return found


def check_port(config: GatewayConfig) -> None:
    """Return if the gateway could listen now.

    Raises:
        Conflict: the port is in use.
        ConfigError: the host is not one of this machine, or the port is not for this user.
    """
    listen(config).close()


def url_of(config: GatewayConfig, listening: socket.socket) -> str:
    """Return a URL by which this machine reaches the gateway."""
    host, port = listening.getsockname()[:2]
    if config.host in ("0.0.0.0", "::", ""):
        host = "127.0.0.1" if listening.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
