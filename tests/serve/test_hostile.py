"""Bytes that no client of ours sends: each gets a clear answer, and the connection and the gateway go on."""

from __future__ import annotations

import json
import socket

import pytest

from .conftest import HELLO, Running

NUMBERS = ["9" * 5000, "-" + "9" * 5000, "1e999", "NaN", "Infinity", "true"]


def with_field(field: str, value: str) -> str:
    return json.dumps({"model": "played", "messages": HELLO})[:-1] + f', "{field}": {value}}}'


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_that_no_field_takes(running, value) -> None:
    for field in ("max_tokens", "seed", "temperature", "top_p", "top_logprobs", "presence_penalty", "n", "stop"):
        status, answer, _ = running.ask(with_field(field, value))
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), field
        assert answer["error"]["param"] in (field, None)
    assert running.meter.started == 0


@pytest.mark.parametrize("field", ["model", "stop", "user", "metadata", "messages"])
@pytest.mark.parametrize("value", ['"\\ud800"', '["\\udfff"]', '{"\\ud800": 1}'])
def test_half_a_character_is_no_text(running, field, value) -> None:
    status, answer, _ = running.ask(with_field(field, value))
    assert (status, answer["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("key", ["right", "wrong"])
def test_a_connection_goes_on_after_a_refused_body(running, key) -> None:
    """The rest of the body is read and dropped: else the client would see a reset, and not why it was refused."""
    secret, expected = (running.secret, 413) if key == "right" else ("bk-wrong", 401)
    connection = running.connect()
    connection.request("POST", "/v1/chat/completions", b"x" * 9_000_000, {"Authorization": f"Bearer {secret}"})
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"].keys() >= {"param"}) == (expected, True)
    same = connection.sock
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    assert connection.sock is same


def test_a_body_that_is_announced_too_large_is_not_waited_for(running) -> None:
    head = "Expect: 100-continue\r\nContent-Length: 99999999\r\nConnection: close\r\n"
    assert spoken(running, f"POST /v1/chat/completions HTTP/1.1\r\n{authorized(running)}{head}\r\n").startswith(
        "HTTP/1.1 413"
    )


def test_requests_sent_in_one_go_are_answered_one_by_one(running) -> None:
    body = json.dumps({"model": "played", "messages": HELLO})
    one = f"POST /v1/chat/completions HTTP/1.1\r\n{authorized(running)}Content-Length: {len(body)}\r\n"
    said = spoken(running, f"{one}\r\n{body}" * 2 + f"{one}Connection: close\r\n\r\n{body}")
    assert said.count("HTTP/1.1 200") == 3
    assert [entry.status for entry in running.meter.entries()] == ["ok"] * 3


@pytest.mark.parametrize("host", ["[", "x:abc", "x:99999999", "", "\xff"])
def test_any_host_header(running, host) -> None:
    for path, status in (("/", 200), ("/v1/nothing", 404)):
        said = spoken(running, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        assert said.startswith(f"HTTP/1.1 {status}")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("OPTIONS * HTTP/1.1", 404),
        ("CONNECT a:1 HTTP/1.1", 404),
        ("GET http://elsewhere/v1/models HTTP/1.1", 404),
        ("GET //v1/models HTTP/1.1", 404),
        ("GET /v1/models?x=%ff HTTP/1.1", 200),
        ("GET /v1/models/%ed%a0%80 HTTP/1.1", 404),
        ("HEAD /v1/models HTTP/1.1", 200),
        ("GET /v1/models HTTP/1.0", 200),
    ],
)
def test_strange_targets(running, line, status) -> None:
    said = spoken(running, f"{line}\r\n{authorized(running)}Connection: close\r\n\r\n")
    assert said.startswith(f"HTTP/1.1 {status}")


def authorized(running: Running) -> str:
    return f"Host: x\r\nAuthorization: Bearer {running.secret}\r\n"


def spoken(running: Running, request: str) -> str:
    """Return all that the gateway says until it closes the connection."""
    host, port = running.url.removeprefix("http://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as connection,
        connection.makefile("rb") as answer,
    ):
        connection.sendall(request.encode("latin-1"))
        return answer.read().decode("latin-1")
