"""One request and its answer on the wire: what who answers is given, and what answers are made of.

Owns the shape of an exchange and the bytes of a head. Knows no socket: the connection is handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bessemer.serve.refusals import Refusal

if TYPE_CHECKING:
    from bessemer.serve.fast.http import Connection

READ_AHEAD_BYTES = 65_536
"""Of a body, how much is taken from a client before who answers wants it."""

Headers = list[tuple[bytes, bytes]]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

REASONS = {
    status: f"HTTP/1.1 {status} {phrase}\r\n".encode()
    for status, phrase in (
        (200, "OK"),
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (405, "Method Not Allowed"),
        (408, "Request Timeout"),
        (413, "Content Too Large"),
        (429, "Too Many Requests"),
        (431, "Request Header Fields Too Large"),
        (500, "Internal Server Error"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
        (505, "HTTP Version Not Supported"),
    )
}


def status_line(status: int) -> bytes:
    """Return the first line of an answer.

    >>> status_line(299)
    b'HTTP/1.1 299 \\r\\n'
    """
    return REASONS.get(status) or b"HTTP/1.1 %d \r\n" % status


def refusal_bytes(refusal: Refusal) -> bytes:
    """Return a refusal as a whole answer."""
    body = refusal.body()
    named = "".join(f"{name}: {value}\r\n" for name, value in refusal.headers).encode()
    return b"%scontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s" % (
        status_line(refusal.status),
        len(body),
        named,
        body,
    )


class Answerer(Protocol):
    """Answers one request; called in the event loop, returns at once."""

    def body(self, data: bytes, /) -> None:
        """A piece of the request's body came."""
        ...

    def ended(self) -> None:
        """The request is whole."""
        ...

    def gone(self) -> None:
        """The client went away, or what it sends is no HTTP; nothing can be answered any more."""
        ...

    def drained(self) -> None:
        """The socket takes bytes again, after `Exchange.congested` was true."""
        ...

    def late(self) -> None:
        """The deadline of the exchange has passed."""
        ...


class Exchange:
    """One request, and the way back to its client.

    Attributes:
        target: of the request, as sent.
        headers: names in lower case, in the order in which they came.
        keep_alive: whether the connection goes on after the answer.
        received: the request is whole.
        expects: the client waits for ``100 Continue`` before it sends its body.
        deadline: in the event loop's time, when `Answerer.late` is called; None never.
        raw: the bytes that the request began with, if its whole head was in them.
    """

    answerer: Answerer | None = None
    received = False
    expects = False
    deadline: float | None = None
    early: list[bytes] | None = None
    raw = b""

    def __init__(
        self, connection: Connection, method: bytes, target: bytes, version: str, headers: Headers, keep_alive: bool
    ) -> None:
        self.connection, self.method, self.target, self.version = connection, method, target, version
        self.headers, self.keep_alive = headers, keep_alive

    @property
    def congested(self) -> bool:
        """Whether the client's socket takes no more bytes for now; `Answerer.drained` tells when it does."""
        return self.connection.congested

    @property
    def date(self) -> bytes:
        """The header that tells the time."""
        return self.connection.server.date

    @property
    def current(self) -> bool:
        """Whether this is the request that its connection answers now."""
        return self.connection.exchange is self

    def go_on(self) -> None:
        """Ask a client that waits for it to send its body."""
        if self.expects:
            self.expects = False
            self.connection.write(CONTINUE)

    def write(self, data: bytes) -> None:
        """Send bytes of the answer; nothing if the client is gone."""
        self.connection.write(data)

    def finish(self) -> None:
        """The answer is whole: go on with the next request, or close."""
        if self.current:
            self.connection.finish()

    def abort(self) -> None:
        """Cut the connection: the answer cannot be completed, and the client must notice."""
        if self.current:
            self.connection.abort()

    def hold(self, held: bool) -> None:
        """Stop or go on reading from the client."""
        self.connection.hold(held)
