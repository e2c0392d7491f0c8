"""Which JSON schemas are taken: of each that is, a real engine makes a grammar; what it would end with is refused."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import BackendError, Unsupported
from bessemer.core.nouns import ChatRequest, JsonFormat, Message, Sampling, Tool
from bessemer.infer import OpenVinoConfig, schemas
from bessemer.infer.calling import schema_of
from bessemer.infer.device import Device
from bessemer.infer.messages import Ask
from bessemer.infer.worker import Worker

TAKEN: list[dict[str, Any]] = [
    {},
    {"enum": [1, "a", None, {"b": []}]},
    {"const": {"x": 1}},
    {"const": None},
    {"allOf": [{"type": "string"}, {"type": "string", "minLength": 2}]},
    {"allOf": [{"type": "string"}]},
    {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    {"type": []},
    {"type": ["string", "null"]},
    {"type": "string", "pattern": "^\\d{3}-\\w+$"},
    {"type": "string", "pattern": "(?:a|b)*?"},
    {"type": "string", "pattern": ""},
    {"type": "string", "pattern": "a{2,5}b+?c??"},
    {"type": "string", "pattern": "^a$b"},
    {"type": "string", "pattern": "a|"},
    {"type": "string", "pattern": "()"},
    {"type": "string", "pattern": "[^\\n]*"},
    {"type": "string", "pattern": "\\u00e9\\x41"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "nonsense"},
    {"type": "string", "maxLength": 1000000000},
    {"type": "string", "minLength": 20000},
    {"type": "integer", "multipleOf": 3},
    {"type": "number", "minimum": -0.5, "maximum": 0.25},
    {"type": "array", "prefixItems": [{"type": "string"}], "items": False},
    {"type": "array", "uniqueItems": True},
    {"type": "array", "maxItems": 10000000},
    {"type": "object", "required": ["zz"]},
    {"type": "object", "required": ["zz"], "properties": {}, "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "patternProperties": {"^x": {"type": "string"}}},
    {"type": "object", "propertyNames": {"pattern": "^a"}},
    {"$ref": "#"},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"$defs": 5, "type": "string"},
    {"not": {"type": "string"}},
    {"type": "string", "title": 5, "description": []},
    {"type": "string", "enum": ["a", 5]},
    {"type": "integer", "enum": ["a"]},
    {"dependentRequired": {"a": ["b"]}},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    {"type": "object", "properties": {"": {"type": "string"}}},
    {"const": 'a"\\\n'},
    {"type": "null", "const": 5},
    {"minLength": 3},
    {"properties": {"a": {"type": "string"}}},
    {"items": {"type": "string"}},
]

STUMBLES: list[dict[str, Any]] = [
    {"enum": []},
    {"enum": "x"},
    {"anyOf": []},
    {"anyOf": "x"},
    {"type": ["bogus"]},
    {"type": 5},
    {"type": None},
    {"type": "string", "pattern": "(["},
    {"type": "string", "pattern": "a(?=b)"},
    {"type": "string", "pattern": "(a)\\1"},
    {"type": "string", "pattern": "\\bfoo\\b"},
    {"type": "string", "pattern": "(?i)a"},
    {"type": "string", "pattern": "(?P<x>a)"},
    {"type": "string", "pattern": "\\p{L}+"},
    {"type": "string", "pattern": "a{3,1}"},
    {"type": "string", "pattern": 5},
    {"type": "string", "pattern": "[a-\\d]"},
    {"type": "string", "pattern": "[z-a]"},
    {"type": "string", "pattern": "["},
    {"type": "string", "format": 5},
    {"type": "string", "minLength": -1},
    {"type": "string", "minLength": "2"},
    {"type": "string", "minLength": 1.5},
    {"type": "integer", "minimum": 5, "maximum": 2},
    {"type": "integer", "minimum": "x"},
    {"type": "integer", "minimum": 1.5},
    {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
    {"type": "number", "minimum": 2, "maximum": 1},
    {"type": "number", "minimum": "x"},
    {"type": "number", "exclusiveMinimum": True},
    {"type": "integer", "minimum": 1000000000000000000000000000000},
    {"type": "integer", "minimum": 1e300},
    {"type": "array", "minItems": 3, "maxItems": 1},
    {"type": "array", "minItems": "x"},
    {"type": "array", "prefixItems": [], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": 5},
    {"type": "array", "items": [{"type": "string"}]},
    {"type": "array", "items": False, "minItems": 1},
    {"type": "array", "unevaluatedItems": 5},
    {"type": "object", "properties": []},
    {"type": "object", "properties": {"a": 5}},
    {"type": "object", "properties": {"a": False}},
    {"type": "object", "required": "a"},
    {"type": "object", "required": [5]},
    {"type": "object", "additionalProperties": 5},
    {"type": "object", "patternProperties": {"([": {"type": "string"}}},
    {"type": "object", "propertyNames": {"type": "integer"}},
    {"type": "object", "minProperties": 3, "maxProperties": 1},
    {"type": "object", "minProperties": 3, "properties": {"a": True}, "additionalProperties": False},
    {"type": "object", "minProperties": -1},
    {"type": "object", "minProperties": "x"},
    {"type": "object", "unevaluatedProperties": 5},
    {"$ref": 5},
    {"$ref": "#/"},
    {"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "string"}}},
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}},
    {"$ref": "#/$defs/a/0", "$defs": {"a": [{"type": "string"}]}},
    {"type": "object", "properties": {'a"b\n': {"type": "string"}}},
    {"anyOf": [{"type": "bogus"}, {"type": "string"}]},
    {"$ref": "nope"},
    {"$ref": "#foo"},
]
"""What xgrammar raises on inside of a step, and references that it takes for anything."""

DEEP: dict[str, Any] = {"type": "string"}
for _ in range(40):
    DEEP = {"type": "array", "items": DEEP}


def ask(schema: dict[str, Any] | None, tokens: int = 4) -> ChatRequest:
    form = JsonFormat(json_schema=schema) if schema is not None else None
    said = (Message(role="user", content="river"),)
    return ChatRequest(messages=said, json_format=form, sampling=Sampling(max_output_tokens=tokens))


def call(schema: dict[str, Any]) -> ChatRequest:
    tool = Tool(name="look", parameters=schema)
    return ChatRequest(messages=(Message(role="user", content="x"),), tools=(tool,), tool_choice="required")


@pytest.mark.parametrize("schema", [*STUMBLES, DEEP], ids=str)
def test_what_a_grammar_cannot_be_made_of_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="JSON schema") as refused:
        schemas.check(ask(schema))
    assert refused.value.about == "json_format"
    with pytest.raises(Unsupported, match="the tool 'look'") as refused:
        schema_of(call(schema))
    assert refused.value.about == "tools"


async def test_of_what_is_taken_a_grammar_is_made(engine: Any) -> None:
    for schema in TAKEN:
        assert (await engine.respond(ask(schema))).finish_reason in ("stop", "length"), schema


async def test_nested_models_of_tools_are_written_out(engine: Any) -> None:
    city = {"type": "object", "properties": {"definitions": {"$ref": "#/$defs/n"}}, "required": ["definitions"]}
    schema = {"type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}, "required": ["city"],
              "$defs": {"city": city, "n": {"enum": [1, 2]}}}  # fmt: skip
    made = schema_of(call(schema))
    assert made and "$" not in str(made)
    (one,) = made["properties"]["tool_calls"]["items"]["anyOf"]
    assert one["properties"]["arguments"]["properties"]["city"]["properties"] == {"definitions": {"enum": [1, 2]}}
    assert (await engine.respond(ask(made))).finish_reason in ("stop", "length")
    twice = {"$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)}}
    twice["$defs"]["d30"] = {"enum": ["x"]}
    for beyond in (
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, **twice},
    ):
        with pytest.raises(Unsupported, match="refers to itself, or to too much") as refused:
            schema_of(call(beyond))
        assert refused.value.about == "tools"


def test_a_step_that_a_grammar_fails_ends_no_engine(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check does not know of: its client is told, others may ask again, and the engine goes on."""
    monkeypatch.setattr(schemas, "check", lambda request: None)
    device = Device(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24))
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        worker = Worker(theirs, device)

        def last(*asked: ChatRequest) -> list[Any]:
            replies: dict[int, Any] = {}
            for id, request in enumerate(asked):
                worker._take(Ask(id, request))
                replies |= {id: reply for id, reply, _ in worker._step()}
            while worker._jobs:
                replies |= {id: reply for id, reply, _ in worker._step()}
            return [replies[id] for id in range(len(asked))]

        other, wrong = last(ask(None, tokens=50), ask({"type": "bogus"}))
        assert isinstance(other, BackendError) and other.retry_after_seconds == 1.0
        assert isinstance(wrong, Unsupported) and wrong.about == "json_format"
        assert last(ask(None), ask({"enum": ["a"]}))[1].finish_reason in ("stop", "length")
        for id in (0, 1):  # nobody knows which of both it was
            worker._take(Ask(id, ask({"type": "bogus"})))
        assert [type(reply) for _, reply, _ in worker._step()] == [BackendError, BackendError]
