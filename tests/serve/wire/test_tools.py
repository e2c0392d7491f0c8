"""Tools, JSON and several answers through the official client, whole and streamed."""

from __future__ import annotations

import json

import openai
import pytest
from pydantic import BaseModel

from tests.serve.conftest import PlayedEngine

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Says how the weather is.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
ASK = [{"role": "user", "content": "please get_weather and clock"}]


def test_a_tool_is_called_and_answered(client, wire) -> None:
    first = client.chat.completions.create(model="played", messages=ASK, tools=[WEATHER])
    choice = first.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": ASK[0]["content"], "days": 0}
    told = {"role": "tool", "tool_call_id": call.id, "content": "sunny all day"}
    second = client.chat.completions.create(model="played", messages=[*ASK, choice.message, told], tools=[WEATHER])
    assert second.choices[0].message.content == "sunny all day"
    assert second.choices[0].message.tool_calls is None
    assert second.choices[0].finish_reason == "stop"
    assert [(project, status) for project, status, *_ in wire.booked()] == [("shop", "ok")] * 2


def test_streamed_calls_are_those_of_the_whole_answer(client) -> None:
    asked = {"model": "played", "messages": ASK, "tools": [WEATHER, CLOCK]}
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    assert [(c.id, c.function.name, c.function.arguments) for c in streamed.message.tool_calls] == [
        (c.id, c.function.name, c.function.arguments) for c in whole
    ]
    assert len(whole) == 2
    chunks = list(client.chat.completions.create(**asked, stream=True))
    pieces = [piece for chunk in chunks if chunk.choices for piece in chunk.choices[0].delta.tool_calls or ()]
    assert len(pieces) > 2 and sum(piece.id is not None for piece in pieces) == 2


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"tool_choice": "none"}, []),
        ({"parallel_tool_calls": False}, ["get_weather"]),
        ({"tool_choice": {"type": "function", "function": {"name": "clock"}}}, ["clock"]),
        ({"tool_choice": "required"}, ["get_weather", "clock"]),
    ],
)
def test_which_tools_are_called(client, more, names) -> None:
    answer = client.chat.completions.create(model="played", messages=ASK, tools=[WEATHER, CLOCK], **more)
    assert [call.function.name for call in answer.choices[0].message.tool_calls or ()] == names


def test_a_required_tool_is_called_though_nobody_named_it(client) -> None:
    hello = [{"role": "user", "content": "hello"}]
    asked = {"model": "played", "messages": hello, "tools": [CLOCK]}
    assert client.chat.completions.create(**asked).choices[0].message.tool_calls is None
    forced = client.chat.completions.create(**asked, tool_choice="required")
    assert forced.choices[0].message.tool_calls[0].function.name == "clock"


def test_a_tool_that_is_not_there_is_refused(client, wire) -> None:
    choice = {"type": "function", "function": {"name": "gone"}}
    with pytest.raises(openai.BadRequestError, match="not in 'tools'") as caught:
        client.chat.completions.create(model="played", messages=ASK, tools=[CLOCK], tool_choice=choice)
    assert caught.value.param == "tool_choice"
    assert wire.booked() == []


class City(BaseModel):
    name: str
    people: int


class Country(BaseModel):
    cities: list[City]
    capital: City


def test_json_that_follows_a_schema_is_parsed_by_the_client(client) -> None:
    asked = {"model": "played", "messages": [{"role": "user", "content": "Rome"}]}
    answer = client.chat.completions.parse(**asked, response_format=Country)
    assert answer.choices[0].message.parsed == Country(cities=[], capital=City(name="Rome", people=0))
    free = client.chat.completions.create(**asked, response_format={"type": "json_object"})
    assert json.loads(free.choices[0].message.content) == {"answer": "Rome"}
    with client.chat.completions.stream(**asked, response_format=Country) as stream:
        assert stream.get_final_completion().choices[0].message.parsed.capital.name == "Rome"


def test_a_schema_must_be_there_when_it_is_asked_for(client) -> None:
    for form in ({"type": "json_schema"}, {"type": "text", "json_schema": {"name": "x", "schema": {}}}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="played", messages=ASK, response_format=form)
        assert caught.value.param == "response_format"


@pytest.mark.parametrize("schema", [{"type": "bogus"}, {"$ref": "#/$defs/q"}])
def test_a_schema_that_is_wrong_is_named(client, wire, schema) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    tool = {"type": "function", "function": {"name": "clock", "parameters": schema}}
    for asked, param in (({"response_format": form}, "response_format"), ({"tools": [tool]}, "tools")):
        with pytest.raises(openai.BadRequestError, match="JSON schema") as caught:
            client.chat.completions.create(model="played", messages=ASK, **asked)
        assert (caught.value.param, caught.value.code) == (param, "unsupported_value")
    assert {status for _, status, *_ in wire.booked()} == {"error"}


def test_several_answers_are_booked_once(client, wire) -> None:
    asked = {"model": "played", "messages": [{"role": "user", "content": "one two"}], "n": 3}
    whole = client.chat.completions.create(**asked)
    assert [(c.index, c.message.content) for c in whole.choices] == [(n, "one two") for n in range(3)]
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (6, 6)
    assert wire.booked() == [("shop", "ok", 6, 6)]
    said, ends = {0: "", 1: "", 2: ""}, []
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason else []
    assert said == dict.fromkeys(range(3), "one two")
    assert ends == [0, 1, 2]
    assert wire.booked()[1:] == [("shop", "ok", 6, 6)]


def test_each_of_several_answers_has_its_own_seed(start) -> None:
    running = start(PlayedEngine())
    running.client().chat.completions.create(model="played", messages=ASK, n=2, seed=7)
    assert sorted(request.sampling.seed for request in running.engine.requests) == [7, 8]


def test_one_of_several_answers_that_fails_ends_them_all_and_is_booked_once(start) -> None:
    running = start(PlayedEngine())
    running.engine.fail_at = 1
    status, answer, _ = running.ask(json.dumps({"model": "played", "messages": ASK, "n": 4}))
    assert (status, answer["error"]["code"]) == (500, "internal_error")
    (entry,) = running.meter.entries()
    assert entry.status == "error"


def test_penalties_and_bias_reach_an_engine_that_has_them(start) -> None:
    running = start(PlayedEngine("chat stream penalties logit_bias"))
    running.client().chat.completions.create(
        model="played", messages=ASK, frequency_penalty=-0.5, presence_penalty=1, logit_bias={"15": -100}
    )
    sampling = running.engine.requests[0].sampling
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (-0.5, 1.0)
    assert sampling.logit_bias == ((15, -100.0),)


@pytest.mark.parametrize(
    "field",
    [
        {"frequency_penalty": 1},
        {"presence_penalty": 1},
        {"logit_bias": {"1": 1}},
        {"tools": [CLOCK]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    ],
)
def test_what_an_engine_lacks_is_refused_by_name(start, field) -> None:
    status, answer, _ = start(PlayedEngine("chat stream")).ask(json.dumps({"model": "played", "messages": ASK} | field))
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, *field, "unsupported_parameter")


def test_models_say_what_they_can(client) -> None:
    assert "tools" in client.models.retrieve("played").capabilities
