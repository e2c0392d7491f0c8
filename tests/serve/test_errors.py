"""Whatever is wrong, the client gets the right status and all four fields, and nothing of our inside."""

from __future__ import annotations

import json
import logging
import socket

import openai
import pytest

from bessemer.core.errors import BackendError, BudgetExceeded, Unsupported
from bessemer.serve.refusals import of_engine

from .conftest import HELLO, PlayedEngine

FIELDS = {"message", "type", "param", "code"}


def chat(**fields: object) -> str:
    return json.dumps({"model": "played", "messages": HELLO} | fields)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "function", "content": "hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].tool_call_id", "invalid_value"),
        ({"messages": [*HELLO, {"role": "user", "content": 5}]}, "messages[1].content", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content",
            "unsupported_parameter",
        ),
        ({"messages": [{"role": "user", "content": "x", "rol": 1}]}, "messages[0].rol", "unknown_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 10**6}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "invalid_value"),
        ({"stop": ["", "x"]}, "stop", "invalid_type"),
        ({"stop": ["x"] * 17}, "stop", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"n": 17}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools", "unsupported_parameter"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"logit_bias": {"5": 101}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
        ({"store": True}, "store", "unsupported_parameter"),
        ({"metadata": {"a": "b" * 513}}, "metadata", "invalid_value"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
        ({"temprature": 0}, "temprature", "unknown_parameter"),
    ],
)
def test_a_wrong_field_is_named(running, fields, param, code) -> None:
    status, answer, _ = running.ask(chat(**fields))
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, param, code)
    assert answer["error"].keys() == FIELDS
    assert answer["error"]["type"] == "invalid_request_error"
    assert running.meter.started == 0


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"tool_choice": "sometimes"}, "tool_choice",
         "Invalid 'tool_choice': input should be 'none', 'auto' or 'required'"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function",
         "Missing required parameter: 'tool_choice.function'."),
        ({"messages": []}, "messages", "Invalid 'messages': must have at least 1"),
        ({"service_tier": "gold"}, "service_tier",
         "Invalid 'service_tier': must be auto, default, flex, priority or scale"),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            "messages[0].role",
            "Invalid 'messages[0].role': must be system, developer, user, assistant or tool",
        ),
        ({"metadata": {"A": 5}}, "metadata", "Invalid 'metadata': input should be a valid string"),
        ({"tools": [{"type": "function", "function": {"name": "x", "Strict": 1}}]}, "tools[0].function.Strict",
         "Unknown parameter: 'tools[0].function.Strict'."),
    ],
)  # fmt: skip
def test_refusals_are_in_the_words_of_the_wire(running, fields, param, said) -> None:
    """And not in those of what validates: no names of types, no patterns, no "after validation"."""
    status, answer, _ = running.ask(chat(**fields))
    assert (status, answer["error"]["param"], answer["error"]["message"]) == (400, param, said)


def test_what_is_wrong_with_no_field_alone_is_said_of_the_request(running) -> None:
    _, answer, _ = running.ask("[]")
    assert answer["error"]["message"] == "Invalid request: input should be an object"


@pytest.mark.parametrize(
    ("about", "param"), [("dimensions", "dimensions"), ("json_format", "response_format"), ("", None)]
)
def test_what_an_engine_refuses_is_named_as_the_wire_calls_it(about, param) -> None:
    refusal = of_engine(Unsupported("no", about=about))
    assert refusal is not None and (refusal.status, refusal.param) == (400, param)


def test_a_misspelt_field_names_the_nearest(running) -> None:
    with pytest.raises(openai.BadRequestError, match="Did you mean 'temperature'"):
        running.client().chat.completions.create(model="played", messages=HELLO, extra_body={"temprature": 1})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"model": NaN}', b"[" * 100_000])
def test_malformed_json(running, body) -> None:
    status, answer, _ = running.ask(body)
    assert status == 400
    assert answer["error"].keys() == FIELDS
    assert answer["error"]["type"] == "invalid_request_error"


def test_a_lone_surrogate_is_no_text(running) -> None:
    status, answer, _ = running.ask(chat().replace("one two", "\\ud800"))
    assert (status, answer["error"]["code"]) == (400, "invalid_json")


def test_what_is_shown_again_is_short(running) -> None:
    _, unknown, _ = running.ask(chat(**{"x" * 100_000: 1}))
    _, model, _ = running.ask(chat(model="m" * 100_000))
    assert len(json.dumps(unknown)) < 1000
    assert len(json.dumps(model)) < 1000


@pytest.mark.parametrize("field", [{"logprobs": True}, {"seed": 1}, {"stop": "x"}])
def test_what_the_engine_cannot_do_is_refused(start, field) -> None:
    status, answer, _ = start(PlayedEngine("chat stream")).ask(chat(**field))
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, *field, "unsupported_parameter")


def test_unknown_models(running) -> None:
    client = running.client()
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-0", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("a/b")
    assert "'a/b'" in caught.value.message


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/%ff%fe", 404),
    ],
)
def test_wrong_paths_and_methods(running, method, path, status) -> None:
    found, answer, headers = running.ask(b"", path, method)
    assert (found, answer["error"].keys()) == (status, FIELDS)
    assert len(headers.get_all("allow", [])) == (status == 405)
    assert not any(name.lower().startswith("access-control") for name in headers)


@pytest.mark.parametrize("content_length", [True, False])
def test_a_ten_megabyte_prompt(running, content_length) -> None:
    body = chat(messages=[{"role": "user", "content": "x" * 10_000_000}])
    if content_length:
        with pytest.raises(openai.APIStatusError) as caught:
            running.client().chat.completions.create(
                model="played", messages=[{"role": "user", "content": "x" * 10_000_000}]
            )
        assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    else:
        pieces = iter([body[at : at + 65536].encode() for at in range(0, len(body), 65536)])
        connection = running.connect()
        connection.request(
            "POST", "/v1/chat/completions", pieces, {"Authorization": f"Bearer {running.secret}"}, encode_chunked=True
        )
        assert connection.getresponse().status == 413
    assert running.meter.started == 0
    assert running.client().models.list().data, "the gateway goes on"


def test_a_large_prompt_within_the_limit_is_answered(running) -> None:
    text = "x" * 5_000_000
    answer = running.client().chat.completions.create(model="played", messages=[{"role": "user", "content": text}])
    assert answer.choices[0].message.content == text


def test_a_body_that_does_not_come(start) -> None:
    running = start(body_timeout_seconds=0.1)
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Authorization: Bearer " + running.secret.encode() + b"\r\n\r\n{"
        )
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"].keys() == FIELDS


def test_two_lengths_are_no_request(running) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"
            b"Authorization: Bearer " + running.secret.encode() + b"\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n"
        )
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BudgetExceeded("the prompt has 9 tokens, the context 5"), "context_length_exceeded"),
        (Unsupported("no alternatives here"), "unsupported_value"),
    ],
)
def test_what_the_engine_refuses_is_the_clients_to_mend(running, stream, error, code) -> None:
    running.engine.fail_at, running.engine.error = 0, error
    with pytest.raises(openai.BadRequestError, match=error.message) as caught:
        running.client().chat.completions.create(model="played", messages=HELLO, stream=stream)
    assert caught.value.code == code
    assert [entry.status for entry in running.meter.entries()] == ["error"]


@pytest.mark.parametrize("error", [RuntimeError("the secret inside"), BackendError("the secret inside")])
@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_fails_at_once(running, caplog, error, stream) -> None:
    running.engine.fail_at, running.engine.error = 0, error
    with caplog.at_level(logging.DEBUG), pytest.raises(openai.InternalServerError) as caught:
        running.client().chat.completions.create(model="played", messages=HELLO, stream=stream)
    assert caught.value.status_code == 500
    assert caught.value.response.json()["error"].keys() == FIELDS
    assert caught.value.response.headers["x-request-id"] in caught.value.message
    assert "secret" not in caught.value.message
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name == "bessemer.serve")
    assert type(error).__name__ in logged
    assert "in stream" in logged, "the log says where"
    for private in ("secret inside", "one two three", running.secret):
        assert private not in caplog.text


def test_an_engine_that_fails_in_the_middle_of_a_stream(running) -> None:
    running.engine.fail_at = 2
    stream = running.client().chat.completions.create(model="played", messages=HELLO, stream=True)
    said = []
    with pytest.raises(openai.APIError, match="failed") as caught:
        said.extend(chunk.choices[0].delta.content for chunk in stream)
    assert "".join(said) == "one two"
    assert caught.value.code == "internal_error"
    (entry,) = running.meter.entries()
    assert (entry.status, entry.usage.output_tokens) == ("broken", 2), "what the client has is charged"


def test_one_of_several_answers_that_fails_while_another_is_on_its_way(running, monkeypatch) -> None:
    """It fails before the other's first word has left, which leaves all the same, and is charged."""
    whole, asked = running.engine.stream, []

    async def stream(request):
        asked.append(request)
        if len(asked) == 2:
            raise RuntimeError("the second fails at once")
        async for piece in whole(request):
            yield piece

    monkeypatch.setattr(running.engine, "stream", stream)
    said = []
    with pytest.raises(openai.APIError, match="failed"):
        for chunk in running.client().chat.completions.create(model="played", messages=HELLO, stream=True, n=2):
            said.extend(choice.delta.content for choice in chunk.choices)
    (entry,) = running.meter.entries()
    assert "".join(said).startswith("one")
    assert entry.status == "broken" and entry.usage.output_tokens >= 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", ["error", "cancelled"])
def test_an_answer_that_ended_badly_is_no_answer(running, reason, stream) -> None:
    running.engine.last_reason = reason
    with pytest.raises(openai.APIError, match="failed"):
        list(running.client().chat.completions.create(model="played", messages=HELLO, stream=stream))
    assert [entry.status for entry in running.meter.entries()] == ["broken" if stream else "error"]


def test_headers_of_good_and_bad_answers(running) -> None:
    ids = set()
    for body in (chat(), "{"):
        _, _, headers = running.ask(body)
        ids.add(headers["x-request-id"])
        assert headers["x-request-id"].startswith("req_")
        assert int(headers["openai-processing-ms"]) >= 0
        assert headers["content-type"] == "application/json"
        assert "server" not in headers
    assert len(ids) == 2
