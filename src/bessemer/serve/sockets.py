"""The address that the gateway listens on.

Owns what can be wrong with an address, how many connections it can have, and what waits in them. Loads no web server,
so that a port can be tried before anything else is done.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import resource
import socket
import sys
import termios
from contextlib import suppress

from bessemer.core.errors import ConfigError, Conflict
from bessemer.serve.config import GatewayConfig

_BACKLOG = 512
_RESERVED_FILES = 128
_MANY_FILES = 1 << 20


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


def most_connections(max_concurrent_requests: int) -> int:
    """Return how many connections clients may have open: what this process's limit of open files leaves for them.

    Kept back are some files for the books and databases, and two for each answer: a connection to an upstream, a file.
    A limit that is too low for that, and for a client of each answer, is raised first as far as the process may.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _RESERVED_FILES + 4 * max_concurrent_requests
    may = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < may:
        with suppress(OSError, ValueError):  # some systems have a lower one of their own
            resource.setrlimit(resource.RLIMIT_NOFILE, (may, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _MANY_FILES if soft == resource.RLIM_INFINITY else min(soft, _MANY_FILES)
    return max(files // 4, files - _RESERVED_FILES - 2 * max_concurrent_requests)


def unread_bytes(transport: asyncio.Transport) -> int:
    """Return how much a client has yet to take of what was written, 0 when the system has it all.

    What the system holds is counted too where it tells (Linux): it takes megabytes, and sends on in between.
    """
    size = transport.get_write_buffer_size()
    if size:
        with suppress(OSError):
            held = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            size += int.from_bytes(held, sys.byteorder)
    return size


def url_of(config: GatewayConfig, listening: socket.socket) -> str:
    """Return a URL by which this machine reaches the gateway."""
    host, port = listening.getsockname()[:2]
    if config.host in ("0.0.0.0", "::", ""):
        host = "127.0.0.1" if listening.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
