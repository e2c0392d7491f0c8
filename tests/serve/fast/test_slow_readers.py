"""Clients that read slowly or not at all, and many of them: held back, ended when they stand still, never buffered."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bessemer.serve import GatewayParts, JobsConfig, open_work
from bessemer.serve.sockets import most_connections

from ..conftest import WAIT_SECONDS, Running, start_in, until

SIZE = 24_000_000
"""More than all sockets on the way hold."""


def opened(running: Running, stack: ExitStack) -> socket.socket:
    """Return a connection whose own buffers hold little."""
    made = stack.enter_context(socket.socket())
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    made.settimeout(WAIT_SECONDS)
    host, port = running.url.removeprefix("http://").split(":")
    made.connect((host, int(port)))
    return made


def rest(connection: socket.socket) -> int:
    """Return how many bytes come until the connection ends, in whatever way."""
    size = 0
    try:
        while piece := connection.recv(1 << 20):
            size += len(piece)
    except ConnectionResetError:
        pass
    return size


@pytest.mark.parametrize("moving", [False, True])
def test_a_download_that_stands_still_is_ended_and_one_that_moves_is_not(tmp_path: Path, moving: bool) -> None:
    with ExitStack() as stack:
        work = open_work(tmp_path / "work", JobsConfig())
        stack.callback(work.close)
        with work.files.receiving() as (path, out):
            out.truncate(SIZE)
            file = work.files.add("tests", path, "large.bin", "user_data", None)
        running = start_in(
            tmp_path, stack, parts=GatewayParts(work=work), max_concurrent_requests=1, request_timeout_seconds=1.0
        )
        connection = opened(running, stack)
        request = f"GET /v1/files/{file.id}/content HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        connection.sendall(f"{request}Authorization: Bearer {running.secret}\r\n\r\n".encode())
        size, began = len(connection.recv(4096)), time.monotonic()
        assert running.ask("", "/v1/files", "GET")[0] == 429, "the download has the only place"
        if moving:
            while time.monotonic() - began < 2.5:
                size += len(connection.recv(1 << 18))
                time.sleep(0.02)
            assert size < SIZE
        else:
            until(lambda: running.ask("", "/v1/files", "GET")[0] == 200)
        size += rest(connection)
        assert (size > SIZE) is moving


class Large:
    """ASGI application that answers everything with one large piece."""

    def __init__(self) -> None:
        self.answered = self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.answered += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000000")]})
        await send({"type": "http.response.body", "body": bytes(1_000_000)})
        self.ended += 1


@pytest.mark.parametrize("at_once", [True, False])
def test_nothing_more_is_answered_to_a_client_that_does_not_read(start, at_once: bool) -> None:
    running, count = start(), 60
    running.server.app = large = Large()
    with ExitStack() as stack:
        connection = opened(running, stack)
        one, last = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for piece in [one * (count - 1) + last] if at_once else [*[one] * (count - 1), last]:
            connection.sendall(piece)
            time.sleep(0 if at_once else 0.005)
        until(lambda: large.answered)
        time.sleep(0.3)
        assert large.answered < count / 2, "the sockets hold some; the rest waits for the client"
        assert rest(connection) > count * 1_000_000
        assert large.answered == large.ended == count, "who answered is let go when its last byte was taken over"


def test_connections_beyond_the_limit_are_told_and_closed(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer.serve.server.most_connections", lambda requests: 2)
    running = start()
    with ExitStack() as stack:
        ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        first, second = opened(running, stack), opened(running, stack)
        for connection in (first, second):
            connection.sendall(ask)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        third = opened(running, stack)
        told = third.recv(4096)
        assert told.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in told and b"too_many_connections" in told
        assert rest(third) == 0
        second.sendall(ask)
        assert second.recv(4096).startswith(b"HTTP/1.1 200"), "those that are open go on"
        first.close()

        def room() -> bool:
            again = opened(running, stack)
            again.sendall(ask)
            try:
                return again.recv(4096).startswith(b"HTTP/1.1 200")
            except ConnectionResetError:
                return False

        until(room)


@pytest.mark.parametrize(
    ("files", "connections"),
    [(1024, 1024 - 128 - 2 * 64), (100, 25), (resource.RLIM_INFINITY, (1 << 20) - 128 - 2 * 64)],
)
def test_connections_leave_files_for_the_rest(monkeypatch: pytest.MonkeyPatch, files: int, connections: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (files, files))
    assert most_connections(64) == connections


def test_a_low_limit_of_files_is_raised_as_far_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's 1024 would leave 256 clients, and 512 streams take two files each."""
    limits = (1024, 4096)

    def raised(what: int, to: tuple[int, int]) -> None:
        nonlocal limits
        limits = to

    monkeypatch.setattr(resource, "getrlimit", lambda what: limits)
    monkeypatch.setattr(resource, "setrlimit", raised)
    assert most_connections(1024) == 4096 - 128 - 2 * 1024
    assert limits == (4096, 4096)
