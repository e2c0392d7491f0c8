"""What is read of bodies, and that what is sent on means the same to whoever reads it."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.forwarding import Forward
from bessemer.serve.fast.reading import Tail, read_answer, read_asked, to_send

FORWARD = Forward("http://x/v1", "theirs")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=8).map("x{}".format), VALUES, max_size=4), VALUES)
def test_what_is_not_read_stays(more, content) -> None:
    asked = {"model": "ours", "messages": [{"role": "user", "content": content}], "max_tokens": 5} | more
    read = read_asked(json.dumps(asked).encode())
    assert json.loads(to_send(read, FORWARD, 5)) == asked | {"model": "theirs"}


@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_body_breaks_it(body) -> None:
    read_asked(body)
    read_answer(body)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8}, 8),
        ({"max_tokens": 7, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 8}, -1),
    ],
)
def test_the_limit_on_output(fields, limit) -> None:
    asked = read_asked(json.dumps({"model": "m", "messages": [], **fields}).encode())
    assert asked.output_tokens == limit
    sent = json.loads(to_send(asked, FORWARD, limit or 256))
    assert sent == {"model": "theirs", "messages": [], "max_tokens": limit or 256}, "said once, by the server's name"


def test_the_limit_has_the_servers_name() -> None:
    forward = Forward("http://x/v1", "theirs", limit_field="max_completion_tokens")
    asked = read_asked(b'{"model":"m","messages":[],"max_tokens":7}')
    assert json.loads(to_send(asked, forward, 7)) == {"model": "theirs", "messages": [], "max_completion_tokens": 7}


@pytest.mark.parametrize("count", [2**31, 2**63, 10**23, -1])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_a_usage_that_cannot_be_is_none(name: str, count: int) -> None:
    told = {"prompt_tokens": 5, "completion_tokens": 2**31 - 1}
    assert read_answer(json.dumps({"usage": told}).encode())[0] == (5, 2**31 - 1, 0)
    answer = {"choices": [{"finish_reason": "stop"}], "usage": told | {name: count}}
    assert read_answer(json.dumps(answer).encode()) == (None, "stop")


@pytest.mark.parametrize("n", [0, -1, 129, "2", 1.5])
def test_how_many_answers_must_be_a_number(n) -> None:
    assert read_asked(json.dumps({"model": "m", "messages": [], "n": n}).encode()) is None


STREAM = b"".join(
    b"data: " + json.dumps(chunk, separators=separators).encode() + b"\n\n"
    for separators in ((",", ":"),)
    for chunk in (
        {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": 'say "finish_reason":"stop" data: [DONE]'}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": " b"}, "finish_reason": None}]},
        {"choices": [{"delta": {}, "finish_reason": "length"}]},
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}},
    )
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_a_stream_cut_anywhere_is_read_the_same(cuts) -> None:
    """What leaves before the end has no end in it, and nothing is lost."""
    whole = STREAM + b"data: [DONE]\n\n"
    places = sorted({0, len(whole), *cuts})
    tail = Tail(False)
    left = b"".join(tail.feed(whole[a:b]) for a, b in pairwise(places))
    assert left + b"".join(event for event in tail.close() if not event.startswith(b"usage")) == b"".join(
        event + b"\n\n" for event in STREAM.split(b"\n\n")[:-2]
    )
    assert b'"length"' not in left
    assert (tail.usage, tail.whole, tail.reason, tail.failed) == ((7, 2, 0), True, "length", False)


def test_a_text_that_looks_like_the_end_streams_on() -> None:
    tail = Tail(False)
    piece = b'data: {"choices":[{"delta":{"content":"ends with data: [DONE]"}}]}\n\n'
    assert tail.feed(piece) + tail.feed(piece) == piece * 2
    assert tail.events == 2


def test_a_stream_that_breaks_off() -> None:
    tail = Tail(False)
    tail.feed(STREAM[:-250])
    tail.close()
    assert not tail.whole
    failed = Tail(False)
    assert b"error" not in failed.feed(STREAM[:200] + b'\n\ndata: {"error":{"message":"x"}}\n\n')
    failed.close()
    assert failed.failed


def test_what_is_to_be_stored_is_left_to_the_application() -> None:
    body = {"model": "ours", "messages": [{"role": "user", "content": "hi"}]}
    assert read_asked(json.dumps(body | {"store": False}).encode()) is not None
    assert read_asked(json.dumps(body | {"store": True}).encode()) is None
