"""The short way: bytes in, bytes out, every answer booked once before its last byte leaves."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import threading

import httpx2
import openai
import pytest

from bessemer.core.errors import BackendError
from bessemer.core.nouns import EnergyClass

from ..conftest import until

QUESTION = [{"role": "user", "content": "tokens=3"}]


@pytest.mark.parametrize("durability", ["interval", "fsync"])
def test_a_whole_answer(before, durability) -> None:
    gate = before(durability)
    raw = gate.client().chat.completions.with_raw_response.create(model="served", messages=QUESTION)
    answer = raw.parse()
    assert (answer.choices[0].message.content, answer.model) == ("0 1 2", "served")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
    (entry,) = gate.entries()
    assert entry.subject.id == raw.headers["x-request-id"]
    assert (entry.subject.project, entry.subject.model, entry.status) == ("tests", "served", "ok")
    assert (entry.usage.input_tokens, entry.usage.output_tokens, entry.usage.cached_tokens) == (7, 3, 2)
    energy = answer.usage.model_extra["energy"]
    assert energy["joules"] == entry.measurement.joules
    assert EnergyClass(energy["class"]) is entry.measurement.energy_class
    assert answer.usage.model_extra["cost"]["micros"] == entry.charge.micros > 0


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream(before, usage) -> None:
    gate = before()
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(gate.ask("tokens=4", stream=True, **options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "0 1 2 3 "
    assert {chunk.model for chunk in chunks} == {"served"}
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    told = [chunk.usage for chunk in chunks if not chunk.choices]
    assert len(told) == usage
    (entry,) = gate.entries()
    assert (entry.usage.output_tokens, entry.status) == (4, "ok")
    if usage:
        assert told[0].model_extra["energy"]["joules"] == entry.measurement.joules
    assert gate.wire.requests[-1]["stream_options"] == {"include_usage": True}


def test_what_is_sent_on(before) -> None:
    """The server's name of the model, a limit where none was given, and the messages as the bytes that came."""
    gate = before(default_output_tokens=11, upstream={"api_key": "theirs-alone"})
    body = '{"model":"served", "messages":[ {"role":"user",  "content":"tokens=1"}],"tools":[],"model":"served"}'
    connection = http.client.HTTPConnection(gate.url.removeprefix("http://"))
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {gate.secret}"})
    assert connection.getresponse().read()
    connection.close()
    assert gate.wire.requests[-1] == {
        "model": "theirs",
        "messages": [{"role": "user", "content": "tokens=1"}],
        "tools": [],
        "max_tokens": 11,
    }
    assert b'[ {"role":"user",  "content":"tokens=1"}]' in gate.wire.bodies[-1]
    assert gate.wire.bodies[-1].count(b'"model"') == 1, "a field given twice means one thing"
    assert b"Bearer theirs-alone" in gate.wire.heads[-1]
    assert gate.secret.encode() not in gate.wire.heads[-1]


def test_connections_are_kept(before) -> None:
    gate = before()
    gate.ask()
    opened = gate.wire.connections
    for _ in range(5):
        gate.ask()
        gate.ask(stream=True).response.read()
    assert gate.wire.connections == opened


@pytest.mark.parametrize("stream", [False, True])
def test_no_last_byte_before_the_entry_is_on_disk(before, stream) -> None:
    gate = before()
    append, go_on, asked = gate.meter._journal.append_many, threading.Event(), threading.Event()

    def wait(bodies):
        asked.set()
        assert go_on.wait(20)
        return append(bodies)

    gate.meter._journal.append_many = wait
    got: list[str] = []

    def ask() -> None:
        answer = gate.ask("tokens=3", stream=stream)
        for chunk in answer if stream else ():
            got.append(chunk.choices[0].finish_reason or chunk.choices[0].delta.content)
        got.append("the end")

    thread = threading.Thread(target=ask)
    thread.start()
    assert asked.wait(20)
    assert not threading.Event().wait(0.1)
    assert got == (["0 ", "1 ", "2 "] if stream else [])
    go_on.set()
    thread.join(20)
    assert got[-1] == "the end"
    assert len(gate.entries()) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_disk_that_refuses_once_loses_no_entry(before, stream) -> None:
    gate = before()
    append, refusals = gate.meter._journal.append_many, [BackendError("the disk is full")]

    def refuse_once(bodies):
        if refusals:
            raise refusals.pop()
        return append(bodies)

    gate.meter._journal.append_many = refuse_once
    with pytest.raises(openai.APIError, match="failed"):
        list(gate.ask(stream=stream))
    gate.ask()
    assert sorted((entry.status, entry.usage.output_tokens) for entry in gate.entries()) == [("error", 3), ("ok", 3)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_billed_and_the_server_is_told(before, stream) -> None:
    gate = before()
    left = gate.wire.left
    if stream:
        answer = gate.ask("tokens=1000 pause=0.02", stream=True)
        for _ in range(3):
            next(answer)
        answer.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            gate.client().with_options(timeout=0.3).chat.completions.create(
                model="served", messages=[{"role": "user", "content": "tokens=100 pause=0.05"}]
            )
    until(gate.entries)
    (entry,) = gate.entries()
    assert entry.status == "cancelled"
    assert entry.charge.micros > 0
    assert 0 < entry.usage.output_tokens < 100
    assert entry.usage.input_tokens > 0
    until(lambda: gate.wire.left == left + 1)


def test_who_leaves_on_the_long_way_pays_for_what_came_though_the_server_had_told_nothing(before) -> None:
    gate = before()
    sent = gate.wire.sent
    told = gate.client().responses.create(model="served", input="tokens=500 pause=0.01", stream=True)
    with told as events:
        next(event for n, event in enumerate(e for e in events if e.type == "response.output_text.delta") if n == 4)
    until(lambda: len(gate.entries()) == 1)
    (entry,) = gate.entries()
    assert entry.status == "cancelled"
    assert 5 <= entry.usage.output_tokens <= gate.wire.sent - sent < 500
    assert 0 < entry.usage.input_tokens < 100
    assert entry.charge.micros > 0


@pytest.mark.parametrize("long", [False, True])
def test_a_server_that_dies_in_the_middle_of_a_stream_is_billed_for_what_came(before, caplog, long) -> None:
    gate = before()
    said = []
    with pytest.raises(openai.APIError, match="failed"):
        if long:
            events = gate.client().responses.create(model="served", input="tokens=50 die=5", stream=True)
            said.extend(event.delta for event in events if event.type == "response.output_text.delta")
        else:
            said.extend(chunk.choices[0].delta.content for chunk in gate.ask("tokens=50 die=5", stream=True))
    assert "".join(said) == "0 1 2 3 4 "
    (entry,) = gate.entries()
    assert (entry.status, entry.usage.output_tokens) == ("broken", 5)
    assert entry.charge.micros > 0
    assert "tokens=50" not in caplog.text


@pytest.mark.parametrize("long", [False, True])
def test_a_server_that_dies_before_an_answer_costs_nothing(before, long) -> None:
    gate = before()
    for fields in ({}, {"stream": True}):
        with pytest.raises(openai.InternalServerError):
            if long:
                gate.client().responses.create(model="served", input="tokens=5 die=0", **fields)
            else:
                gate.ask("tokens=5 die=0", **fields)
    assert [(entry.status, entry.charge.micros) for entry in gate.entries()] == [("error", 0)] * 2


def test_a_server_that_tells_no_usage_is_counted_and_flagged(before) -> None:
    gate = before()
    assert len(list(gate.ask("tokens=5 nousage", stream=True))) == 6
    gate.ask("tokens=5 nousage")
    whole, streamed = sorted(gate.entries(), key=lambda entry: entry.usage.output_tokens)
    assert (streamed.status, whole.status) == ("broken", "broken")
    assert streamed.usage.output_tokens in (5, 6)
    assert whole.usage.output_tokens == 2, "nine bytes of text"


def test_nobody_there(before, free_port=1) -> None:
    gate = before(upstream={"base_url": f"http://127.0.0.1:{free_port}/v1"})
    with pytest.raises(openai.InternalServerError):
        gate.ask()
    assert [entry.status for entry in gate.entries()] == ["error"]


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ("status=429", 429, "rate_limit_exceeded"),
        ("status=503", 503, "overloaded"),
        ("status=500", 500, "internal_error"),
        ("status=401 body=secret-of-theirs", 500, "internal_error"),
        ("status=400 body=no-such-tool", 400, "unsupported_value"),
        ("status=400 body=context_length_exceeded", 400, "context_length_exceeded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_server_refuses(before, said, status, code, stream) -> None:
    gate = before()
    with pytest.raises(openai.APIStatusError) as caught:
        gate.ask(said, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.response.headers.get("retry-after") == ("7" if status in (429, 503) else None)
    assert "secret-of-theirs" not in caught.value.response.text
    assert [(entry.status, entry.charge.micros) for entry in gate.entries()] == [("error", 0)]


@pytest.mark.parametrize(("said", "told"), [("119", "119"), ("120", "119"), ("86400", "119"), ("0", None), ("x", None)])
def test_nobody_is_told_to_wait_longer_than_clients_do(before, said, told) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        before().ask(f"status=429 after={said}")
    assert caught.value.response.headers.get("retry-after") == told


def test_limits_hold_on_the_short_way(before) -> None:
    gate = before(max_output_tokens=100, default_output_tokens=10, max_concurrent_requests=1, max_body_bytes=2000)
    for wrong in ({"max_tokens": 101}, {"max_tokens": 0}, {"max_tokens": 5, "max_completion_tokens": 6}):
        with pytest.raises(openai.BadRequestError) as caught:
            gate.ask(**wrong)
        assert caught.value.code == "invalid_value"
    with pytest.raises(openai.APIStatusError) as large:
        gate.ask("x" * 3000)
    assert large.value.status_code == 413
    stream = gate.ask("tokens=1000 pause=0.02", stream=True)
    next(stream)
    with pytest.raises(openai.RateLimitError):
        gate.ask()
    stream.close()
    until(gate.entries)
    gate.ask()
    gate.keys.revoke(gate.keys.list()[0].id)
    headers = {"authorization": f"Bearer {gate.secret}"}
    until(lambda: httpx2.post(f"{gate.url}/v1/chat/completions", headers=headers).status_code == 401)


def test_what_is_not_plain_is_answered_by_the_application(before) -> None:
    gate = before()
    client = gate.client()
    for body, status in ((b"{", 400), (b'{"model":"nope","messages":[]}', 400), (b"[]", 400)):
        headers = {"authorization": f"Bearer {gate.secret}"}
        assert httpx2.post(f"{gate.url}/v1/chat/completions", content=body, headers=headers).status_code == status
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nope", messages=QUESTION)
    with pytest.raises(openai.AuthenticationError):
        gate.client().with_options(api_key="bk-wrong").chat.completions.create(model="served", messages=QUESTION)
    assert gate.entries() == []


def test_a_client_that_reads_slowly_holds_its_server_back(before) -> None:
    gate = before(request_timeout_seconds=1.5, max_output_tokens=4_000_000)
    sent = gate.wire.sent
    connection = http.client.HTTPConnection(gate.url.removeprefix("http://"), timeout=20)
    message = [{"role": "user", "content": "tokens=2000000"}]
    body = json.dumps({"model": "served", "stream": True, "max_tokens": 2_000_000, "messages": message})
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {gate.secret}"})
    until(gate.entries)
    connection.close()
    (entry,) = gate.entries()
    assert entry.status == "cancelled"
    assert 0 < entry.usage.output_tokens <= gate.wire.sent - sent < 200_000


@pytest.mark.parametrize("stream", [False, True])
def test_the_gateway_stops(before, stream) -> None:
    gate = before(grace_seconds=0.1)
    timer = threading.Timer(0.3, gate.server.stop)
    timer.start()
    with pytest.raises(openai.APIError, match="shutting down"):
        list(gate.ask("tokens=1000 pause=0.02", stream=stream))
    until(gate.entries)
    (entry,) = gate.entries()
    assert (entry.status, entry.charge.micros) == ("error", 0)


def test_an_answer_that_takes_too_long(before) -> None:
    gate = before(request_timeout_seconds=0.3)
    with pytest.raises(openai.InternalServerError) as caught:
        gate.ask("tokens=1000 pause=0.02")
    assert (caught.value.status_code, caught.value.code) == (504, "timeout")
    with pytest.raises(openai.APIError, match="longer than"):
        list(gate.ask("tokens=1000 pause=0.02", stream=True))
    assert sorted(entry.status for entry in gate.entries()) == ["cancelled", "error"]


def test_the_logs_hold_nothing_of_a_client(before, caplog) -> None:
    gate = before()
    with caplog.at_level(logging.DEBUG, logger="bessemer.serve"):
        gate.ask("tokens=2 private-word")
        with pytest.raises(openai.APIError):
            list(gate.ask("tokens=5 die=2 private-word", stream=True))
    said = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("bessemer"))
    assert "private-word" not in said
    assert gate.secret not in said


def test_the_metrics_count_it(before) -> None:
    gate = before(open_metrics=True)
    gate.ask("tokens=3")
    text = httpx2.get(f"{gate.url}/metrics").text
    assert 'vllm:generation_tokens_total{model_name="served"} 3.0' in text
    assert 'vllm:request_success_total{finished_reason="stop",model_name="served"} 1.0' in text
    assert 'vllm:num_requests_running{model_name="served"} 0.0' in text


async def test_by_default_512_streams_are_carried_at_once(before) -> None:
    """None is refused, and none waits for another's end: each has a word before any has its last."""
    gate, begun = before(), asyncio.Event()
    said = {"model": "served", "stream": True, "messages": [{"role": "user", "content": "tokens=2 pause=15"}]}
    body, count = json.dumps(said).encode(), 0
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gate.secret}\r\n"
    ask = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def stream() -> bytes:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gate.url.rpartition(":")[2]))
        writer.write(ask)
        first = await reader.readuntil(b"data: ")
        count += 1
        if count == 512:
            begun.set()
        await begun.wait()
        writer.close()
        return first

    async with asyncio.timeout(60):
        firsts = await asyncio.gather(*(stream() for _ in range(512)))
    assert all(first.startswith(b"HTTP/1.1 200") for first in firsts)
