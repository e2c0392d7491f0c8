"""An HTTP/1.1 server on asyncio's protocols: requests in, one at a time for each connection, answers out in order.

The parser is llhttp in its strict mode, which refuses what a proxy before us might read differently: two lengths, a
length and chunks, bare line feeds, folded headers, spaces before a colon. What it leaves open is refused here: no Host
or several, chunks in HTTP/1.0, heads over 64 KiB. Requests sent in one go are answered one by one.

A slow client is held back: its socket is read no further than 64 KiB ahead of who answers, and who answers is told
when the socket takes no more; no next request is begun until the client has read. One sweep over all connections ends
those that are idle, late, or read nothing of what waits for them; no request pays for a timer.

Owns the wire's framing and its limits. Knows no path and no ASGI: who answers is handed in. Needs httptools.
Source: RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import cast

import httptools

from bessemer.serve.fast.exchange import Answerer, Exchange, Headers, refusal_bytes
from bessemer.serve.fast.shapes import MAX_HEAD_BYTES as KNOWN_BYTES
from bessemer.serve.refusals import Refusal
from bessemer.serve.sockets import unread_bytes

MAX_HEAD_BYTES = 65_536

LINGER_SECONDS = 1.0
_CLOSE = (("connection", "close"),)
_LATE = Refusal(408, "The request did not arrive in time.", "request_timeout", headers=_CLOSE)
_LARGE = Refusal(431, f"The headers are larger than {MAX_HEAD_BYTES} bytes.", "headers_too_large", headers=_CLOSE)
_HOST = Refusal(400, "A request has exactly one Host header.", "invalid_request", headers=_CLOSE)
_VERSION = Refusal(505, "Only HTTP 1.1 and 1.0 are spoken here.", "http_version", headers=_CLOSE)
_FULL = Refusal(
    503, "Too many connections are open. Ask again.", "too_many_connections", type="server_error",
    headers=(("retry-after", "1"), *_CLOSE),
)  # fmt: skip
_OLD_CHUNKS = Refusal(400, "HTTP/1.0 has no chunks.", "invalid_request", headers=_CLOSE)


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take.

    Attributes:
        arrival_seconds: for a request to arrive.
        idle_seconds: between requests.
        unread_seconds: without reading anything of what waits for them.
        connections: open at once.
    """

    arrival_seconds: float
    idle_seconds: float
    unread_seconds: float
    connections: int


class Connection:
    """One client's connection: an asyncio protocol in all but its base, which would cost each access to a field."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        self._url = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._in_head = False
        self._deaf = False
        self._held = self._lingering = False
        self._between = True
        self._raw = b""
        self.since = self._moved = server.loop.time()
        self._unread_bytes = 0
        self.exchange: Exchange | None = None
        self.congested = False

    # --- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of a client, unless there are too many: then it is told so and let go."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self.server.connections) < self.server.limits.connections:
            self.server.connections.add(self)
        else:
            self.write(refusal_bytes(_FULL))
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who answers that nobody listens any more."""
        self.server.connections.discard(self)
        self._transport = None
        self._deaf = True
        self._waiting.clear()
        exchange, self.exchange = self.exchange, None
        if exchange and exchange.answerer:
            exchange.answerer.gone()
            exchange.answerer = None

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._deaf:
            return
        if self._between and self.exchange is None and not self._waiting:
            if self.server.quick(self, data):
                return
            self._raw = data[:KNOWN_BYTES]
        self._between = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # to what is not spoken here: the request is answered, then all ends
            self._deaf = True
        except httptools.HttpParserError as error:
            self._refuse(Refusal(400, f"This is no HTTP request: {error}.", "invalid_request", headers=_CLOSE))
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_LARGE)

    def eof_received(self) -> None:
        """Let the event loop close the connection: a client that ends its side is gone."""

    def pause_writing(self) -> None:
        """Note that the socket's buffer is full; of a client that does not read nothing more is read either."""
        self.congested = True
        if self.exchange is None:
            self.hold(True)

    def resume_writing(self) -> None:
        """Tell who answers that the buffer is empty again, or go on with the next request."""
        self.congested = False
        if self.exchange and self.exchange.answerer:
            self.exchange.answerer.drained()
        elif self.exchange is None and self._waiting:
            self._turn()
        elif self.exchange is None:
            self.hold(False)

    # --- the parser ---------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._between = False
        self._url, self._headers, self._head_bytes, self._in_head = b"", [], 0, True
        self.since = self.server.loop.time()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those after the body are dropped."""
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Hand a request to who answers it, or let it wait for its turn."""
        self._in_head = False
        if self._deaf:
            return
        version = self._parser.get_http_version()
        keep_alive = version == "1.1" and self._parser.should_keep_alive()
        exchange = Exchange(self, self._parser.get_method(), self._url, version, self._headers, keep_alive)
        exchange.raw, self._raw = self._raw, b""
        if refusal := _checked(exchange, self._headers):
            self._refuse(refusal)
            return
        self._reading = exchange
        if self.exchange is None and not self._waiting:
            self._begin(exchange)
        else:
            exchange.early = []
            self._waiting.append(exchange)
            self.hold(True)

    def on_body(self, data: bytes) -> None:
        """Hand on a piece of a body; that of a request which was answered already is dropped."""
        exchange = self._reading
        if exchange is None:
            return
        if exchange.early is not None:
            exchange.early.append(data)
        elif exchange is self.exchange and exchange.answerer:
            exchange.answerer.body(data)

    def on_message_complete(self) -> None:
        """Say that a request is whole."""
        exchange, self._reading = self._reading, None
        self._between = True
        if exchange is None:
            return
        exchange.received = True
        if exchange.early is None and exchange is self.exchange and exchange.answerer:
            exchange.answerer.ended()

    # --- answers ------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes; nothing if the client is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def finish(self) -> None:
        """End the answer under way and begin the next."""
        exchange, self.exchange = self.exchange, None
        self.since = self.server.loop.time()
        assert exchange is not None
        exchange.answerer = None  # or the two would hold each other
        last = not exchange.keep_alive or exchange.expects or (self._deaf and not self._waiting)
        if last or self.server.closing:
            (self._close if exchange.received else self._linger)()
        elif self.congested:
            self.hold(True)
        elif self._waiting:
            self.server.loop.call_soon(self._turn)
        elif self._held:
            self.hold(False)

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def hold(self, held: bool) -> None:
        """Stop or go on reading."""
        if self._transport is not None and held is not self._held and not self._transport.is_closing():
            self._held = held
            (self._transport.pause_reading if held else self._transport.resume_reading)()

    def sweep(self, now: float, limits: Limits) -> None:
        """End what took too long."""
        unread = unread_bytes(self._transport) if self._transport else 0
        if unread == 0 or unread != self._unread_bytes:
            self._unread_bytes, self._moved = unread, now
        if now - self._moved > limits.unread_seconds:
            self.abort()
        elif self.exchange:
            if self.exchange.deadline is not None and now >= self.exchange.deadline and self.exchange.answerer:
                self.exchange.deadline = None
                self.exchange.answerer.late()
        elif self._lingering:
            if now - self.since > LINGER_SECONDS:
                self._close()
        elif unread:
            self.since = now  # it reads, if slowly
        elif self._in_head and now - self.since > limits.arrival_seconds:
            self._refuse(_LATE)
        elif now - self.since > (limits.arrival_seconds if self._reading else limits.idle_seconds):
            self._close()

    def end_if_idle(self) -> None:
        """Close unless an answer is under way."""
        if self.exchange is None:
            self._close()

    def _turn(self) -> None:
        if self.exchange is None and self._waiting and not self.congested:
            self._begin(self._waiting.popleft())
            if not self._waiting and not self.congested:
                self.hold(False)

    def _begin(self, exchange: Exchange) -> None:
        self.exchange = exchange
        early, exchange.early = exchange.early or (), None
        exchange.answerer = self.server.answerer(exchange)
        for piece in early:  # each time anew: who answers may hand the request to another
            exchange.answerer.body(piece)
        if exchange.received and exchange is self.exchange:
            exchange.answerer.ended()

    def _refuse(self, refusal: Refusal) -> None:
        """Hear no more of this client; tell it why, unless an answer is under way, which a telling would break."""
        self._deaf, self._in_head, broken = True, False, self._reading
        self._reading = None
        if self.exchange is None:
            self.write(refusal_bytes(refusal))
            self._linger()
        elif broken is self.exchange:  # its own body is no HTTP
            answerer = self.exchange.answerer
            self.exchange = None
            self._close()
            if answerer:
                answerer.gone()
        elif broken in self._waiting:
            self._waiting.remove(cast(Exchange, broken))

    def _linger(self) -> None:
        """Say no more, but let the client finish: closing on what it still sends would reset what it has to read."""
        self._deaf = self._lingering = True
        self.since = self.server.loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self.hold(False)
            self._transport.write_eof()

    def _close(self) -> None:
        self._deaf = True
        if self._transport is not None:
            self._transport.close()


def _checked(exchange: Exchange, headers: Headers) -> Refusal | None:
    """Return why a head is refused, if it is, and note what it expects."""
    hosts = size = 0
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            hosts += 1
        elif name == b"expect":
            exchange.expects = value.lower() == b"100-continue" and exchange.version == "1.1"
        elif name == b"transfer-encoding" and exchange.version == "1.0":
            return _OLD_CHUNKS
    if size + len(exchange.target) > MAX_HEAD_BYTES:
        return _LARGE
    if exchange.version == "1.1":
        return None if hosts == 1 else _HOST
    return None if exchange.version == "1.0" else _VERSION


class HttpServer:
    """Listens, and hands each request to who answers it.

    Args:
        answerer: gives who answers a request, of which the head has come.
        limits: for slow clients and many.
        loop: the running event loop.
        quick: takes a whole request that it knows the form of, or says that it does not; asked before the parser is.
    """

    def __init__(
        self,
        answerer: Callable[[Exchange], Answerer],
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        quick: Callable[[Connection, bytes], bool] = lambda connection, data: False,
    ) -> None:
        self.answerer, self.quick = answerer, quick
        self.loop = loop
        self.connections: set[Connection] = set()
        self.closing = False
        self.limits = limits
        self.date = b""
        self._every = min(1.0, limits.arrival_seconds / 4, limits.idle_seconds / 4)
        self._sweeping: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Accept connections from a listening socket."""
        self._server = await self.loop.create_server(
            lambda: cast(asyncio.Protocol, Connection(self)), sock=listening, backlog=512
        )
        self._sweep()

    def sweep_within(self, seconds: float) -> None:
        """Look at least that often for exchanges past their deadline."""
        self._every = min(self._every, max(0.01, seconds / 4))

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, let answers under way end for some seconds, and cut what is left."""
        self.closing = True
        if self._server:
            self._server.close()
        for connection in list(self.connections):
            connection.end_if_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections:
                    await asyncio.sleep(0.005)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeping:
            self._sweeping.cancel()

    def _sweep(self) -> None:
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        now = self.loop.time()
        for connection in list(self.connections):
            connection.sweep(now, self.limits)
        self._sweeping = self.loop.call_later(self._every, self._sweep)
