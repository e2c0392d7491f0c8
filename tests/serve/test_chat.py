"""The unmodified official client gets its answers, whole and streamed, with what they took."""

from __future__ import annotations

import asyncio

import pytest
from openai import AsyncOpenAI

from bessemer.core.nouns import TokenLogprob
from bessemer.infer import EchoConfig, open_engine
from bessemer.serve import GatewayConfig, KeyStore, create_app
from bessemer.serve.server import GatewayServer
from bessemer.serve.telling import logprobs_of

from .conftest import HELLO, DiskMeter, PlayedEngine, serve_in_thread


def test_a_whole_answer(running) -> None:
    answer = running.client().chat.completions.create(model="played", messages=HELLO)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "played"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 3, 6)
    assert answer.usage.energy["joules"] == 1.5
    assert answer.usage.energy["class"] == "modelled"
    assert answer.usage.energy["boundary"] == "host"
    assert answer.usage.cost == {"micros": 42, "currency": "USD", "price_version": ""}


def test_a_streamed_answer(running) -> None:
    chunks = list(running.client().chat.completions.create(model="played", messages=HELLO, stream=True))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in chunks[:-1]) == "one two three"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-1])
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_usage_when_asked(running) -> None:
    options = {"include_usage": True}
    *chunks, last = running.client().chat.completions.create(
        model="played", messages=HELLO, stream=True, stream_options=options
    )
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 3)
    assert last.usage.energy["joules"] == 1.5
    assert all(chunk.usage is None for chunk in chunks)


def test_the_raw_stream_is_framed_as_the_wire_says(running) -> None:
    connection = running.connect()
    body = '{"model": "played", "stream": true, "messages": [{"role": "user", "content": "a\\u2028b\\u0085c"}]}'
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {running.secret}"})
    response = connection.getresponse()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    text = response.read().decode()
    assert text.endswith("data: [DONE]\n\n")
    events = text.removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") and len(event.splitlines()) == 1 for event in events)
    assert '"usage"' not in text


def test_sampling_reaches_the_engine(running) -> None:
    running.client().chat.completions.create(
        model="played",
        messages=HELLO,
        temperature=0.25,
        top_p=0.5,
        seed=-7,
        stop=["END", "STOP"],
        max_completion_tokens=9,
    )
    sampling = running.engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.25, 0.5, -7)
    assert sampling.stop == ("END", "STOP")
    assert sampling.max_output_tokens == 9
    assert sampling.top_logprobs is None


def test_defaults_and_nulls_are_the_same(running) -> None:
    create = running.client().chat.completions.create
    create(model="played", messages=HELLO)
    nulls = dict.fromkeys(("temperature", "top_p", "seed", "stop", "max_tokens", "logprobs", "top_logprobs", "n"))
    create(model="played", messages=HELLO, **nulls)
    first, second = running.engine.requests
    assert first == second
    assert first.sampling.max_output_tokens == GatewayConfig().default_output_tokens


def test_one_stop_string_and_the_old_name_of_the_limit(running) -> None:
    answer = running.client().chat.completions.create(model="played", messages=HELLO, stop="END", max_tokens=2)
    assert running.engine.requests[0].sampling.stop == ("END",)
    assert answer.choices[0].message.content == "one two"
    assert answer.choices[0].finish_reason == "length"


def test_roles_and_parts(running) -> None:
    create = running.client().chat.completions.create
    first = create(model="played", messages=HELLO).choices[0].message
    create(
        model="played",
        messages=[
            {"role": "developer", "content": "be short"},
            {"role": "system", "content": [{"type": "text", "text": "be"}, {"type": "text", "text": "kind"}]},
            {"role": "user", "content": "hi", "name": "Ada"},
            first,  # as people do: the client's own object, with all its empty fields
            {"role": "user", "content": "and now?"},
        ],
    )
    said = [(message.role, message.content) for message in running.engine.requests[1].messages]
    assert said == [
        ("system", "be short"),
        ("system", "be\nkind"),
        ("user", "hi"),
        ("assistant", "one two three"),
        ("user", "and now?"),
    ]


def test_what_changes_no_answer_is_taken(running) -> None:
    answer = running.client().chat.completions.create(
        model="played",
        messages=HELLO,
        n=1,
        user="somebody",
        metadata={"a": "b"},
        store=False,
        tools=[],
        response_format={"type": "text"},
        frequency_penalty=0,
        service_tier="auto",
        parallel_tool_calls=True,
    )
    assert answer.choices[0].message.content == "one two three"


def test_logprobs_whole_and_streamed(running) -> None:
    create = running.client().chat.completions.create
    whole = create(model="played", messages=HELLO, logprobs=True, top_logprobs=2)
    tokens = whole.choices[0].logprobs.content
    assert [token.token for token in tokens] == ["one", "two", "three"]
    assert tokens[0].bytes == list(b"one")
    assert tokens[0].top_logprobs[1].logprob == -9999.0
    assert running.engine.requests[0].sampling.top_logprobs == 2
    streamed = create(model="played", messages=HELLO, logprobs=True, stream=True)
    pieces = [chunk.choices[0].logprobs for chunk in streamed]
    assert [token.token for piece in pieces if piece for token in piece.content] == ["one", "two", "three"]


def test_the_bytes_of_a_part_of_a_character_are_its_own_or_none() -> None:
    """Whoever puts the bytes of tokens together must get the text: its replacement's would be another."""
    part = TokenLogprob(token="\ufffd", logprob=-1.0, top=(("\ufffd", -2.0), ("é", -3.0)), raw=(240, 159))
    (told,) = logprobs_of([part]).content
    assert told.bytes == [240, 159]
    assert [each.bytes for each in told.top_logprobs] == [None, [195, 169]]


@pytest.mark.parametrize("text", ["Grüße, 世界 🌍", "\u2028\u0085\x00\x1f", '"\\', "e\u0301", "\U0010ffff"])
@pytest.mark.parametrize("stream", [False, True])
def test_unicode_comes_back_as_it_went(running, text, stream) -> None:
    answer = running.client().chat.completions.create(
        model="played", messages=[{"role": "user", "content": text}], stream=stream
    )
    if stream:
        said = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        said = answer.choices[0].message.content
    assert said == text


def test_models(running) -> None:
    client = running.client()
    assert [model.id for model in client.models.list()] == ["played"]
    assert client.models.retrieve("played").owned_by == "bessemer"


def test_an_engine_that_cannot_stream_answers_both_ways(start) -> None:
    create = start(PlayedEngine("chat")).client().chat.completions.create
    assert create(model="played", messages=HELLO).choices[0].message.content == "one two three"
    chunks = list(create(model="played", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"


async def test_the_asynchronous_client_and_the_reference_engine_many_at_once(tmp_path) -> None:
    keys, meter, config = KeyStore(tmp_path / "keys"), DiskMeter(tmp_path / "entries"), GatewayConfig(port=0)
    _, secret = keys.create("tests")
    server = GatewayServer(create_app(config, {"echo": open_engine(EchoConfig())}, keys, meter), config)
    with serve_in_thread(server):
        async with AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key=secret, max_retries=0, _strict_response_validation=True
        ) as client:

            async def ask(number: int) -> str:
                content = f"number {number} of many"
                messages = [{"role": "user", "content": content}]
                if number % 2:
                    answer = await client.chat.completions.create(model="echo", messages=messages)
                    return answer.choices[0].message.content
                stream = await client.chat.completions.create(model="echo", messages=messages, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            answers = await asyncio.gather(*(ask(number) for number in range(24)))
    keys.close()
    assert answers == [f"number {number} of many" for number in range(24)]
    assert [entry.status for entry in meter.entries()] == ["ok"] * 24
    assert len({entry.id for entry in meter.entries()}) == 24
