"""Completions and embeddings through the official client; what lm-eval needs of the former."""

from __future__ import annotations

import base64
import json
import math
import struct

import openai
import pytest

from tests.serve.conftest import PlayedEngine, lax


def test_a_text_is_continued(client, wire) -> None:
    answer = client.completions.create(model="played", prompt="one two three", max_tokens=2)
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        "one two ",
        "length",
    )
    assert answer.id.startswith("cmpl-")
    assert wire.booked() == [("shop", "ok", 3, 2)]
    assert answer.usage.energy["joules"] == 1.5


def test_several_texts_and_answers_are_booked_once(client, wire) -> None:
    answer = client.completions.create(model="played", prompt=["one", "two three"], n=2, echo=True)
    assert [(c.index, c.text) for c in answer.choices] == [
        (0, "oneone"),
        (1, "oneone"),
        (2, "two threetwo three"),
        (3, "two threetwo three"),
    ]
    assert wire.booked() == [("shop", "ok", 6, 6)]


def test_the_streamed_text_is_the_whole_one(client, wire) -> None:
    asked = {"model": "played", "prompt": ["one two", "three"], "echo": True}
    chunks = list(lax(client).completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    said = ["", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            said[choice.index] += choice.text
    assert said == [choice.text for choice in client.completions.create(**asked).choices]
    assert chunks[-1].usage.total_tokens == 6
    assert wire.booked() == [("shop", "ok", 3, 3)] * 2


def test_a_prompt_is_scored_token_by_token(client, wire) -> None:
    """The reference engine finds all bytes equally likely: ln(1/256) each."""
    text = "one three"
    answer = lax(client).completions.create(model="played", prompt=text, max_tokens=0, echo=True, logprobs=1)
    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason) == (text, "length")
    assert choice.logprobs.tokens == ["one ", "three"]
    assert choice.logprobs.token_logprobs == [None, pytest.approx(-5 * math.log(256))]
    assert choice.logprobs.text_offset == [0, 4]
    assert choice.logprobs.top_logprobs[0] is None
    assert max(choice.logprobs.top_logprobs[1].values()) == choice.logprobs.token_logprobs[1]
    assert wire.booked() == [("shop", "ok", 2, 0)]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "x"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"logprobs": 1}, "logprobs"),
        ({"echo": True, "logprobs": 0, "max_tokens": 0, "stream": True}, "max_tokens"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client, wire, fields, param) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "played", "prompt": "x"} | fields)
    assert caught.value.param == param
    assert wire.booked() == []


def test_vectors_have_length_one_and_like_texts_are_near(client, wire) -> None:
    texts = ["the river flows", "the river rests", "prices rose again"]
    answer = lax(client).embeddings.create(model="played", input=texts)
    first, near, far = (item.embedding for item in answer.data)
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert all(math.isclose(math.hypot(*item.embedding), 1, rel_tol=1e-6) for item in answer.data)
    assert sum(map(float.__mul__, first, near)) > sum(map(float.__mul__, first, far))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (9, 9)
    assert wire.booked() == [("shop", "ok", 9, 0)]


def test_both_encodings_say_the_same(client, wire) -> None:
    asked = {"model": "played", "input": "the river", "dimensions": 8}
    plain = client.embeddings.create(**asked, encoding_format="float").data[0].embedding
    assert len(plain) == 8
    packed = lax(client).embeddings.create(**asked, encoding_format="base64").data[0].embedding
    assert list(struct.unpack("<8f", base64.b64decode(packed))) == pytest.approx(plain)
    assert lax(client).embeddings.create(**asked).data[0].embedding == pytest.approx(plain)  # asks for base64 itself


def test_an_engine_without_raw_texts_says_so(start, wire) -> None:
    running = start(PlayedEngine())
    for path, body in (("completions", {"prompt": "x"}), ("embeddings", {"input": "x"})):
        status, answer, _ = running.ask(json.dumps({"model": "played"} | body), f"/v1/{path}")
        assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, "model", "unsupported_parameter")
    status, answer, _ = wire.running.ask('{"model": "played", "input": [[1, 2]]}', "/v1/embeddings")
    assert (status, answer["error"]["param"]) == (400, "input")


def test_what_is_too_long_is_named_as_each_endpoint_calls_it(client) -> None:
    long, said = "word " * 9000, [{"role": "user", "content": "word " * 9000}]
    for ask, param in (
        (lambda: client.chat.completions.create(model="played", messages=said), "messages"),
        (lambda: client.completions.create(model="played", prompt=long), "prompt"),
        (lambda: client.embeddings.create(model="played", input=long, encoding_format="float"), "input"),
        (lambda: client.responses.create(model="played", input=long), "input"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            ask()
        assert (caught.value.param, caught.value.code) == (param, "context_length_exceeded")
    form = {"type": "json_schema", "name": "x", "schema": {"type": "bogus"}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="played", input="x", text={"format": form})
    assert caught.value.param == "text.format"
