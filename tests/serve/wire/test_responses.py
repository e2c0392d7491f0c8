"""Responses through the official client: whole, streamed, with tools, continued, read and deleted."""

from __future__ import annotations

import json

import openai
import pytest

TOOL = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]},
    "strict": True,
}


def test_a_whole_response(client, wire) -> None:
    answer = client.responses.create(model="played", input="one two", instructions="be brief")
    assert (answer.output_text, answer.status, answer.object) == ("one two", "completed", "response")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 2)
    assert answer.usage.energy["joules"] == 1.5
    assert wire.booked() == [("shop", "ok", 4, 2)]
    short = client.responses.create(model="played", input="one two", max_output_tokens=1)
    assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")


@pytest.mark.parametrize("stream", [False, True])
def test_the_message_of_a_cut_answer_is_incomplete_too(client, stream) -> None:
    made = client.responses.create(model="played", input="one two", max_output_tokens=1, store=True, stream=stream)
    events = list(made) if stream else []
    told = events[-1].response if stream else made
    assert [told.status, told.output[0].status] == ["incomplete"] * 2
    assert client.responses.retrieve(told.id).output == told.output
    assert [event.item.status for event in events if event.type == "response.output_item.done"] in ([], ["incomplete"])


def test_the_stream_is_parsed_by_the_client(client, wire) -> None:
    with client.responses.stream(model="played", input="one two three") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "one two three"
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds.count("response.output_text.delta") == 3
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    events = list(client.responses.create(model="played", input="x", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert wire.booked() == [("shop", "ok", 3, 3), ("shop", "ok", 1, 1)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_answered(client, stream) -> None:
    asked = {"model": "played", "input": [{"role": "user", "content": "please look"}], "tools": [TOOL]}
    if stream:
        with client.responses.stream(**asked) as events:
            answer = events.get_final_response()
    else:
        answer = client.responses.create(**asked)
    (call,) = answer.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "look", {"where": "please look"})
    told = {"type": "function_call_output", "call_id": call.call_id, "output": "nothing there"}
    back = call.model_dump(include={"type", "call_id", "name", "arguments", "id", "status"})
    more = client.responses.create(**asked | {"input": [*asked["input"], back, told]})
    assert more.output_text == "nothing there"
    told["output"] = [{"type": "input_text", "text": "nothing there"}, {"type": "input_text", "text": "either"}]
    more = client.responses.create(**asked | {"input": [*asked["input"], back, told]})
    assert more.output_text == "nothing there\neither"


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_is_continued_read_and_deleted(client, wire, stream) -> None:
    made = client.responses.create(model="played", input="my first words", store=True, stream=stream)
    first = list(made)[-1].response if stream else made
    second = client.responses.create(model="played", input="and more", previous_response_id=first.id, store=True)
    assert second.usage.input_tokens == 3 + 3 + 2  # the engine read the whole conversation
    assert client.responses.retrieve(first.id).output_text == "my first words"
    items = list(client.responses.input_items.list(second.id, order="asc"))
    assert [item.role for item in items] == ["user", "assistant", "user"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:  # by this code clients know to send all of it anew
        client.responses.create(model="played", input="x", previous_response_id=first.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
    assert len(wire.booked()) == 2


def test_nothing_is_kept_unasked_and_nobody_else_sees_what_is(wire) -> None:
    unkept = wire.shop.responses.create(model="played", input="x")
    with pytest.raises(openai.NotFoundError):
        wire.shop.responses.retrieve(unkept.id)
    id = wire.shop.responses.create(model="played", input="x", store=True).id
    stranger = wire.docs.responses
    for reach in (
        lambda: stranger.retrieve(id),
        lambda: stranger.delete(id),
        lambda: stranger.input_items.list(id),
    ):
        with pytest.raises(openai.NotFoundError):
            reach()
    with pytest.raises(openai.BadRequestError):
        stranger.create(model="played", input="x", previous_response_id=id)
    assert wire.shop.responses.retrieve(id).id == id


def test_json_that_follows_a_schema(client) -> None:
    form = {"type": "json_schema", "name": "x", "strict": True, "schema": TOOL["parameters"]}
    answer = client.responses.create(model="played", input="Rome", text={"format": form})
    assert json.loads(answer.output_text) == {"where": "Rome"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "web_search_call"}]}, "input"),
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client, wire, fields, param) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "played", "input": "x"} | fields)
    assert caught.value.param == param
    assert wire.booked() == []


def test_what_is_over_is_neither_cancelled_nor_streamed_again(client) -> None:
    made = client.responses.create(model="played", input="one two", store=True)
    with pytest.raises(openai.BadRequestError, match="in the background"):
        client.responses.cancel(made.id)
    with pytest.raises(openai.BadRequestError, match="not streamed again"):
        client.responses.retrieve(made.id, stream=True)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_none")


def test_what_asks_for_nothing_is_taken_and_what_asks_for_more_is_named(client) -> None:
    taken = {
        "include": ["reasoning.encrypted_content"],
        "background": False,
        "prompt_cache_options": {"ttl": "30m"},
        "context_management": [],
    }
    assert client.responses.create(model="played", input="hi", **taken).output_text == "hi"
    for field, value in (("background", True), ("moderation", {"model": "m"}), ("access_programs", {})):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="played", input="hi", **{field: value})
        assert (refused.value.param, refused.value.code) == (field, "unsupported_parameter")


@pytest.mark.parametrize("asked", [{"input": "one two"}, {"input": "please look", "tools": [TOOL]}])
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_told_is_what_is_stored(client, asked, stream) -> None:
    made = client.responses.create(model="played", store=True, stream=stream, **asked)
    told = list(made)[-1].response if stream else made
    stored = client.responses.retrieve(told.id)
    assert len(told.output) == 1
    assert told.output == stored.output
    assert (told.status, told.output[0].status) == ("completed", "completed")
