"""Connections to one upstream server, kept alive and shared: a request goes out as bytes, its answer comes in pieces.

A connection that the server may be about to close is not used again: one that was idle for longer than 4 seconds (the
shortest keep-alive of common servers is 5) is replaced. A request is sent a second time only where nothing of it was
sent: the connection could not be made. Cancelling closes the connection, which is how the server learns of it.

Owns connections and their limits. Knows no path of ours and no meter. Needs httptools.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

from bessemer.core.forwarding import Forward
from bessemer.serve.fast.shapes import MAX_HEAD_BYTES, Shapes

IDLE_SECONDS = 4.0
CONNECTS = 2


class Taker(Protocol):
    """Takes one answer; called in the event loop, returns at once. After `end` or `lost` nothing follows."""

    def head(self, status: int, headers: list[tuple[bytes, bytes]], /) -> None:
        """The status and headers came, names in lower case."""
        ...

    def data(self, data: bytes, /) -> None:
        """A piece of the body came."""
        ...

    def end(self) -> None:
        """The answer is whole."""
        ...

    def whole(self, kind: bytes, body: bytes, /) -> None:
        """An answer of status 200 came whole: its content type and body; in place of `head`, `data` and `end`."""
        ...

    def lost(self, why: str, /) -> None:
        """There is no more answer: the server cannot be reached, was silent for too long, or broke off."""
        ...


class Upstream:
    """One connection to the server; carries one request at a time. An asyncio protocol in all but its base."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._headed = self._framed = self._paused = False
        self._between = True
        self._raw = b""
        self.transport: asyncio.Transport | None = None
        self.taker: Taker | None = None
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer under way: well, if only the close could tell its end."""
        taker, self.taker, self.transport = self.taker, None, None
        self._pool.gone(self)
        if taker:
            if self._headed and not self._framed and exc is None:
                taker.end()
            else:
                taker.lost("it closed the connection")

    def eof_received(self) -> None:
        """Let the event loop close the connection."""

    def pause_writing(self) -> None:
        """Nothing: what is sent is one request, which is whole."""

    def resume_writing(self) -> None:
        """Nothing."""

    def send(self, request: bytes, taker: Taker, now: float) -> None:
        """Send a request."""
        assert self.transport is not None
        self.taker, self.since = taker, now
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is a whole answer of a form that is known."""
        pool, taker = self._pool, self.taker
        if taker is None:  # nobody asked: it is not to be trusted with the next request
            self.close()
            return
        self.since = pool.loop.time()
        if self._between:
            if shape := pool.shapes.find(data):
                self.taker = None
                pool.ended(self, taker)
                taker.whole(shape.kind, data[shape.size :])
                return
            self._raw = data[:MAX_HEAD_BYTES]
        self._between = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail("it does not speak HTTP")

    def on_message_begin(self) -> None:
        """Begin an answer, if one was asked for."""
        self._between = False
        if self.taker is None:
            self.close()
        self._headers, self._headed, self._framed = [], False, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if not self._headed:
            name = name.lower()
            self._framed = self._framed or name in (b"content-length", b"transfer-encoding")
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand the head on, unless it is interim."""
        status = self._parser.get_status_code()
        if status >= 200 and self.taker:
            self._headed = True
            self.taker.head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        """Hand a piece on."""
        if self.taker:
            self.taker.data(data)

    def on_message_complete(self) -> None:
        """Give the connection back, then end the answer."""
        if not self._headed:
            return
        taker, self.taker = self.taker, None
        raw, self._raw = self._raw, b""
        if self._parser.should_keep_alive() and taker:
            self._between = True
            self._pool.shapes.learn(raw, self._headers)
            self.hold(False)
            self._pool.free(self)
        else:
            self.close()
        if taker:
            taker.end()

    def hold(self, held: bool) -> None:
        """Stop or go on reading the answer, because its client is slow."""
        if self.transport is not None and held is not self._paused and not self.transport.is_closing():
            self._paused = held
            self.since = self._pool.loop.time()
            (self.transport.pause_reading if held else self.transport.resume_reading)()

    def fail(self, why: str) -> None:
        """Close the connection and say why."""
        taker, self.taker = self.taker, None
        self.close()
        if taker:
            taker.lost(why)

    def close(self) -> None:
        """Close the connection without a word to its taker."""
        self.taker = None
        if self.transport is not None:
            self.transport.abort()

    def silent(self, now: float, seconds: float) -> bool:
        """Whether the server has said nothing for so long, though it was listened to."""
        return self.taker is not None and not self._paused and now - self.since > seconds


class Pool:
    """All connections to one server.

    Args:
        forward: where it is.
        loop: the running event loop.
    """

    def __init__(self, forward: Forward, loop: asyncio.AbstractEventLoop) -> None:
        parts = urlsplit(forward.base_url)
        self.forward, self.loop, self.shapes = forward, loop, Shapes(b"HTTP/1.1 200 ")
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._ssl else 80)
        self._all: set[Upstream] = set()
        self._idle: list[Upstream] = []
        self._asking: dict[Taker, asyncio.Task[None] | Upstream | None] = {}
        self._waiting: deque[tuple[bytes, Taker]] = deque()
        self._connecting = 0
        path = parts.path.rstrip("/")
        key = f"authorization: Bearer {forward.api_key}\r\n" if forward.api_key else ""
        self._head = (
            f"POST {path}/chat/completions HTTP/1.1\r\nhost: {parts.netloc.rpartition('@')[2]}\r\n{key}"
            "content-type: application/json\r\naccept-encoding: identity\r\ncontent-length: "
        ).encode()
        self._sweeping = loop.call_later(1.0, self._sweep)

    def ask(self, body: bytes, taker: Taker) -> None:
        """Send a request as soon as there is a connection for it."""
        request = b"%s%d\r\n\r\n%s" % (self._head, len(body), body)
        now = self.loop.time()
        while self._idle:
            upstream = self._idle.pop()
            if upstream.transport is None or upstream.transport.is_closing():
                continue
            if now - upstream.since > IDLE_SECONDS:
                upstream.close()
                continue
            self._asking[taker] = upstream
            upstream.send(request, taker, now)
            return
        if len(self._all) + self._connecting >= self.forward.max_streams:
            self._asking[taker] = None
            self._waiting.append((request, taker))
        else:
            self._connecting += 1
            self._asking[taker] = self.loop.create_task(self._connect(request, taker))

    def cancel(self, taker: Taker) -> None:
        """End a request that nobody waits for any more; its taker hears nothing more."""
        doing = self._asking.pop(taker, None)
        if isinstance(doing, Upstream):
            doing.close()
        elif doing is not None:
            doing.cancel()
        else:
            self._waiting = deque(each for each in self._waiting if each[1] is not taker)

    def hold(self, taker: Taker, held: bool) -> None:
        """Stop or go on reading the answer of a request."""
        doing = self._asking.get(taker)
        if isinstance(doing, Upstream):
            doing.hold(held)

    def done(self, taker: Taker) -> None:
        """Forget a request whose answer has ended or was lost."""
        self._asking.pop(taker, None)

    def ended(self, upstream: Upstream, taker: Taker) -> None:
        """Forget a request whose answer came whole, and take its connection back."""
        self._asking.pop(taker, None)
        self._idle.append(upstream)
        if self._waiting:
            self.loop.call_soon(self._serve_waiting)

    def free(self, upstream: Upstream) -> None:
        """Take a connection back."""
        self._idle.append(upstream)
        if self._waiting:
            self.loop.call_soon(self._serve_waiting)

    def gone(self, upstream: Upstream) -> None:
        """Forget a connection."""
        self._all.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)
        if self._waiting:
            self.loop.call_soon(self._serve_waiting)

    def close(self) -> None:
        """Close all connections."""
        self._sweeping.cancel()
        for taker in list(self._asking):
            self.cancel(taker)
        for upstream in list(self._all):
            upstream.close()

    def _serve_waiting(self) -> None:
        if self._waiting and (self._idle or len(self._all) + self._connecting < self.forward.max_streams):
            request, taker = self._waiting.popleft()
            self.ask(request[len(self._head) :].partition(b"\r\n\r\n")[2], taker)

    async def _connect(self, request: bytes, taker: Taker) -> None:
        upstream: Upstream | None = None
        try:
            for _ in range(CONNECTS):
                try:
                    async with asyncio.timeout(self.forward.connect_timeout_seconds):
                        upstream = await self._dial()
                    break
                except Exception:  # a timeout, a certificate, a name that is none: nothing was sent
                    continue
        finally:
            self._connecting -= 1
            if self._waiting:
                self.loop.call_soon(self._serve_waiting)
        if upstream is None or upstream.transport is None:
            self._asking.pop(taker, None)
            taker.lost("it cannot be reached")
            return
        self._all.add(upstream)
        self._asking[taker] = upstream
        upstream.send(request, taker, self.loop.time())

    async def _dial(self) -> Upstream:
        upstream = Upstream(self)
        await self.loop.create_connection(
            lambda: cast(asyncio.Protocol, upstream), self._host, self._port, ssl=self._ssl
        )
        return upstream

    def _sweep(self) -> None:
        now = self.loop.time()
        for upstream in list(self._all):
            if upstream.silent(now, self.forward.timeout_seconds):
                upstream.fail("it was silent for too long")
        self._sweeping = self.loop.call_later(1.0, self._sweep)
