"""Carries a request to an ASGI application and its answer back: scope, receive, send, lifespan.

Owns the translation. Knows no path.
Source: https://asgi.readthedocs.io/en/latest/specs/www.html (HTTP, version 2.3; lifespan, version 2.0).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from bessemer.serve.fast.exchange import READ_AHEAD_BYTES, Exchange, status_line

logger = logging.getLogger("bessemer.serve")


class Cycle:
    """One request in the application's hands, in a task of its own.

    Args:
        app: the application.
        exchange: the request.
        address: of the server, for the scope.
        state: of the lifespan.
        tasks: holds the task while it runs.
    """

    def __init__(
        self,
        app: ASGIApp,
        exchange: Exchange,
        address: tuple[str, int],
        state: dict[str, Any],
        tasks: set[asyncio.Task[None]],
    ) -> None:
        self._exchange = exchange
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._ended = False
        self._gone = False
        self._head = b""
        self._done = False
        self._chunked = False
        self._told_end = False
        self._news = asyncio.Event()
        self._free = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._run(app, _scope(exchange, address, state)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def body(self, data: bytes) -> None:
        """Keep a piece for the application; read no further when it has enough."""
        if self._done:
            return
        self._pieces.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > READ_AHEAD_BYTES:
            self._exchange.hold(True)
        self._news.set()

    def ended(self) -> None:
        """Note that the body is whole."""
        self._ended = True
        self._news.set()

    def gone(self) -> None:
        """Tell the application that its client is gone."""
        self._gone = True
        self._news.set()
        self._free.set()

    def drained(self) -> None:
        """Let the application send on."""
        self._free.set()

    def late(self) -> None:
        """Do nothing: the application has its own limit, and the connection one for who does not read."""

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        except Exception as error:  # the envelope answers errors; this is what it could not
            logger.error("a request failed outside of its envelope: %s", type(error).__name__)
        if not self._done:
            self._exchange.abort()

    async def receive(self) -> Message:
        """Return the next piece of the body, or, after the last and when there is one, that the client is gone."""
        if not self._pieces and not self._ended:
            self._exchange.go_on()
        while not (self._pieces or self._gone or self._done or (self._ended and not self._told_end)):
            self._news.clear()
            await self._news.wait()
        if self._gone or self._done or self._told_end:
            return {"type": "http.disconnect"}
        data, self._held_bytes = b"".join(self._pieces), 0
        self._pieces.clear()
        self._told_end = self._ended
        if not self._ended:
            self._exchange.hold(False)
        return {"type": "http.request", "body": data, "more_body": not self._ended}

    async def send(self, message: Message) -> None:
        """Send a part of the answer; return when the socket has room for the next, or at once after the last."""
        if self._gone:
            return
        if message["type"] == "http.response.start":
            self._start(message)
        else:
            self._send_body(message.get("body", b""), message.get("more_body", False))
        while self._exchange.congested and not (self._gone or self._done):
            self._free.clear()
            await self._free.wait()

    def _start(self, message: Message) -> None:
        exchange = self._exchange
        lines, sized = [status_line(message["status"]), exchange.date], False
        for name, value in message.get("headers", ()):
            lowered = name.lower()
            sized = sized or lowered == b"content-length"
            if lowered == b"connection" and value.lower() == b"close":
                exchange.keep_alive = False
            else:
                lines.append(b"%s: %s\r\n" % (name, value))
        bodiless = exchange.method == b"HEAD" or message["status"] in (204, 304)
        self._chunked = not sized and not bodiless and exchange.version == "1.1"
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif not sized and not bodiless:
            exchange.keep_alive = False  # HTTP/1.0 knows the end by the close
        if not exchange.keep_alive:
            lines.append(b"connection: close\r\n")
        self._head = b"".join(lines) + b"\r\n"

    def _send_body(self, data: bytes, more: bool) -> None:
        head, self._head = self._head, b""
        if self._exchange.method == b"HEAD":
            data = b""
        if self._chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data) if data else b""
            data += b"" if more else b"0\r\n\r\n"
        if head or data:
            self._exchange.write(head + data)
        if not more:
            self._done = True
            self._news.set()
            self._exchange.finish()


def _scope(exchange: Exchange, address: tuple[str, int], state: dict[str, Any]) -> Scope:
    path, _, query = exchange.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": exchange.version,
        "server": address,
        "client": None,
        "scheme": "http",
        "method": exchange.method.decode("ascii"),
        "root_path": "",
        "path": unquote(path.decode("latin-1")),
        "raw_path": path,
        "query_string": query,
        "headers": exchange.headers,
        "state": state.copy(),
    }


class Lifespan:
    """Tells an application that it begins and that it ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in: asyncio.Queue[Message] = asyncio.Queue()
        self._out: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}

    async def begin(self) -> None:
        """Return when the application is ready.

        Raises:
            RuntimeError: it says that it failed.
        """
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.get_running_loop().create_task(self._app(scope, self._in.get, self._out.put))  # type: ignore[arg-type]
        await self._said("startup")

    async def end(self) -> None:
        """Return when the application has ended.

        Raises:
            RuntimeError: it says that it failed.
        """
        await self._said("shutdown")
        if self._task:
            await self._task

    async def _said(self, what: str) -> None:
        assert self._task is not None
        await self._in.put({"type": f"lifespan.{what}"})
        answer = asyncio.get_running_loop().create_task(self._out.get())
        await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            self._task.result()
            raise RuntimeError(f"the application ended before its {what}")
        if answer.result()["type"] != f"lifespan.{what}.complete":
            raise RuntimeError(f"the application's {what} failed: {answer.result().get('message', '')}")
