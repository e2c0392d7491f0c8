"""The server's own rules of HTTP, spoken to on a bare socket."""

from __future__ import annotations

import json
import socket
import time

import pytest

from ..conftest import HELLO, Running


@pytest.fixture
def short(start) -> Running:
    return start(body_timeout_seconds=0.2, keep_alive_seconds=1)


def spoken(running: Running, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Return all that the gateway says until it closes the connection."""
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        with connection.makefile("rb") as answer:
            return answer.read()


HOST = b"Host: x\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"POST /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", 400),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\nx", 400),
        (b"GET /healthz HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nLarge: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00", 400),
    ],
)
def test_what_is_no_request(running, request_, status) -> None:
    said = spoken(running, request_)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert said.count(b"HTTP/1.1") == 1
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"].keys() == {"message", "type", "param", "code"}


def test_a_head_without_an_end_is_not_kept(running) -> None:
    assert spoken(running, b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"x" * 200_000).startswith(b"HTTP/1.1 431 ")


def test_a_head_that_does_not_come(short) -> None:
    assert spoken(short, b"GET / HTTP/1.1\r\nHo").startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_is_not_used_is_closed(short) -> None:
    began = time.monotonic()
    assert spoken(short, b"") == b""
    assert 0.5 < time.monotonic() - began < 5


def test_answers_come_in_the_order_of_the_requests(running) -> None:
    body = json.dumps({"model": "played", "messages": HELLO, "stream": True}).encode()
    chat = b"POST /v1/chat/completions HTTP/1.1\r\n%sAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s" % (
        HOST,
        running.secret.encode(),
        len(body),
        body,
    )
    health = b"GET /healthz HTTP/1.1\r\n%s\r\n" % HOST
    last = b"GET /nothing HTTP/1.1\r\n%sConnection: close\r\n\r\n" % HOST
    said = spoken(running, chat + health + chat[:-5], chat[-5:] + last, pause=0.05)
    order = [said.find(mark) for mark in (b"[DONE]", b'{"status":"ok"}', b"unknown_path")]
    assert order == sorted(order) and order[0] > 0
    assert said.count(b"HTTP/1.1 200") == 3


def test_a_body_that_stops_being_http_ends_its_request(running) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n" % HOST
    key = b"Authorization: Bearer %s\r\n\r\n" % running.secret.encode()
    assert spoken(running, head + key + b"5\r\nhello\r\nnonsense\r\n", pause=0.05) == b""
    assert running.meter.started == 0
    assert running.client().models.list().data, "the gateway goes on"


def test_what_asks_for_another_protocol_is_answered_and_closed(running) -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % HOST
    said = spoken(running, upgrade + b"GET /healthz HTTP/1.1\r\n%s\r\n" % HOST)
    assert said.count(b"HTTP/1.1 200") == 1


def test_http_1_0_is_answered_and_closed(running) -> None:
    said = spoken(running, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert b"connection: close" in said and b"chunked" not in said


def test_a_client_that_waits_to_be_asked_for_its_body(running) -> None:
    body = json.dumps({"model": "played", "messages": HELLO}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\n%sExpect: 100-continue\r\nConnection: close\r\n" % HOST
    key = b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n" % (running.secret.encode(), len(body))
    said = spoken(running, head + key, body, pause=0.1)
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
