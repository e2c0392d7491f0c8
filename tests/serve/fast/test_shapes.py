"""Heads that are known again: whatever the parser would read differently, or as something else, goes to the parser."""

from __future__ import annotations

import json
import socket

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.serve.fast.shapes import Shapes

from ..conftest import until

SECRET = b"bk-0123456789ab-" + b"x" * 43
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nAuthorization: Bearer %s\r\n"
    b"Accept: */*\r\nContent-Length: %d\r\n\r\n"
)
PLAIN = HEAD % (SECRET, 12) + b"x" * 12


class Parsed:
    """What the parser reads in a request."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body, self.whole = b"", 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole += 1


def parsed(data: bytes) -> Parsed:
    read = Parsed()
    httptools.HttpRequestParser(read).feed_data(data)
    return read


def learned(data: bytes) -> Shapes:
    shapes = Shapes(b"POST /v1/chat/completions HTTP/1.1\r\n", secret=True)
    shapes.learn(data, parsed(data).headers)
    return shapes


@given(st.integers(0, 99), st.text("abcXYZ019-_", min_size=59, max_size=59))
def test_what_is_known_again_is_what_the_parser_reads(length: int, secret: str) -> None:
    data = HEAD % (secret.encode(), length) + b"y" * length
    shape = learned(PLAIN).find(data)
    if length < 10:
        assert shape is None, "as many digits"
    else:
        read = parsed(data)
        assert shape is not None and read.whole == 1
        assert data[shape.size :] == read.body
        assert b"Bearer " + data[shape.secret_from : shape.secret_to] == dict(read.headers)[b"authorization"]


@given(st.integers(0, len(PLAIN) - 13), st.binary(min_size=1, max_size=3))
def test_another_byte_in_the_head_goes_to_the_parser(at: int, put: bytes) -> None:
    """But for the secret, which whoever knows it has to accept, no byte may differ, nor one be there that was not."""
    data = PLAIN[:at] + put + PLAIN[at + len(put) :]
    shapes, begin = learned(PLAIN), PLAIN.find(SECRET)
    shape = shapes.find(data)
    if shape is not None:
        changed = [i for i, (a, b) in enumerate(zip(data, PLAIN, strict=True)) if a != b]
        assert all(begin <= i < begin + len(SECRET) for i in changed)
        assert data[shape.size :] == b"x" * 12
    assert shapes.find(PLAIN[:at] + put + PLAIN[at:]) is None


@pytest.mark.parametrize(
    "data", [PLAIN[:-1], PLAIN + b"x", PLAIN + PLAIN, b"\r\n" + PLAIN, PLAIN.replace(b"12", b"+1")]
)
def test_less_or_more_than_one_message_goes_to_the_parser(data: bytes) -> None:
    assert learned(PLAIN).find(PLAIN) is not None
    assert learned(PLAIN).find(data) is None


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked",
        b"Content-Length: 12",
        b"Connection: close",
        b"Connection: keep-alive, upgrade",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"Authorization: Bearer other",
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ],
)
def test_what_says_more_is_never_remembered(line: bytes) -> None:
    shapes = Shapes(b"POST ", secret=True)
    name, _, value = line.partition(b": ")
    headers = [*parsed(PLAIN).headers, (name.lower(), value)]
    data = PLAIN.replace(b"Accept: */*", line)
    shapes.learn(data, headers)
    assert shapes.find(data) is None


def test_a_server_that_tells_the_time_is_known_again_with_each_new_time() -> None:
    shapes = Shapes(b"HTTP/1.1 200 ")
    for second in range(40):
        answer = b"HTTP/1.1 200 OK\r\ndate: %02d\r\ncontent-type: a/b\r\ncontent-length: 2\r\n\r\n{}" % second
        assert shapes.find(answer) is None
        shapes.learn(answer, [(b"content-type", b"a/b")])
        assert (found := shapes.find(answer)) is not None and found.kind == b"a/b"


def test_the_ways_in_do_the_same(before) -> None:
    """A head known again, a key revoked meanwhile, and requests in one go or in pieces on one connection."""
    gate = before()
    host, port = gate.url.removeprefix("http://").split(":")

    def request(text: str) -> bytes:
        body = json.dumps({"model": "served", "messages": [{"role": "user", "content": text}]}).encode()
        return HEAD % (gate.secret.encode(), len(body)) + body

    with socket.create_connection((host, int(port)), timeout=20) as client, client.makefile("rb") as file:

        def answer() -> tuple[int, str]:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += file.readline()
            fields = dict(line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
            body = json.loads(file.read(int(fields[b"content-length"])))
            return int(head[9:12]), body["choices"][0]["message"]["content"] if head[9:12] == b"200" else ""

        for text, said in (("tokens=1", "0"), ("tokens=2", "0 1"), ("tokens=3", "0 1 2")):
            client.sendall(request(text))
            assert answer() == (200, said)
        client.sendall(request("tokens=4") + request("tokens=5"))
        assert [answer(), answer()] == [(200, "0 1 2 3"), (200, "0 1 2 3 4")]
        whole = request("tokens=6")
        for piece in (whole[:40], whole[40:-5], whole[-5:]):
            client.sendall(piece)
        assert answer() == (200, "0 1 2 3 4 5")
        client.sendall(request("tokens=1") + request("tokens=2")[:60])
        assert answer() == (200, "0")
        client.sendall(request("tokens=2")[60:])
        assert answer() == (200, "0 1")
        gate.keys.revoke(gate.keys.list()[0].id)
        client.sendall(request("tokens=7"))
        assert answer() == (401, "")
    until(lambda: len(gate.entries()) == 8)
    assert [entry.usage.output_tokens for entry in gate.entries()].count(1) == 2
