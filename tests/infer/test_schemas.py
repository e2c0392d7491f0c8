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

Schema = dict[str, Any]


def of(kind: str, *rest: Schema) -> list[Schema]:
    return [{"type": kind, **each} for each in rest]


def each(name: str, *values: Any) -> list[Schema]:
    return [{name: value} for value in values]


def to(reference: Any, **defined: Schema) -> Schema:
    return {"$ref": reference, "$defs": defined}


TAKEN: list[Schema] = [
    {},
    *each("enum", [1, "a", None, {"b": []}]),
    *each("const", {"x": 1}, None, 'a"\\\n'),
    *each("allOf", *([{"type": "string"}, *more] for more in ([], of("string", {"minLength": 2}), of("integer", {})))),
    {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    *each("type", [], ["string", "null"]),
    *of(
        "string",
        *each(
            "pattern", "^\\d{3}-\\w+$", "(?:a|b)*?", "", "a{2,5}b+?c??", "^a$b", "a|", "()", "[^\\n]*", "\\u00e9\\x41"
        ),
        *each("format", "date-time", "nonsense"),
        {"maxLength": 1000000000},
        {"minLength": 20000},
        {"title": 5, "description": []},
        {"enum": ["a", 5]},
        {"$defs": 5},
    ),
    *of("integer", {"multipleOf": 3}, {"enum": ["a"]}),
    *of("number", {"minimum": -0.5, "maximum": 0.25}),
    *of("array", {"prefixItems": [{"type": "string"}], "items": False}, {"uniqueItems": True}, {"maxItems": 10000000}),
    *of(
        "object",
        {"required": ["zz"]},
        {"required": ["zz"], "properties": {}, "additionalProperties": False},
        {"additionalProperties": {"type": "integer"}},
        {"patternProperties": {"^x": {"type": "string"}}},
        {"propertyNames": {"pattern": "^a"}},
        {"properties": {"": {"type": "string"}}},
    ),
    *of("null", {"const": 5}),
    {"$ref": "#"},
    to("#/$defs/a", a={"$ref": "#/$defs/a"}),
    to("#/$defs/a", a={"$ref": "#/$defs/b"}, b={"$ref": "#/$defs/a"}),
    {"not": {"type": "string"}},
    {"dependentRequired": {"a": ["b"]}},
    {"minLength": 3},
    {"properties": {"a": {"type": "string"}}},
    {"items": {"type": "string"}},
]

STUMBLES: list[Schema] = [
    *each("enum", [], "x"),
    *each("anyOf", [], "x", [{"type": "bogus"}, {"type": "string"}]),
    *each("type", ["bogus"], 5, None),
    *of(
        "string",
        *each("pattern", "([", "a(?=b)", "(a)\\1", "\\bfoo\\b", "(?i)a", "(?P<x>a)", "\\p{L}+", "a{3,1}", 5),
        *each("pattern", "[a-\\d]", "[z-a]", "["),
        *each("minLength", -1, "2", 1.5),
        {"format": 5},
    ),
    *of(
        "integer",
        *each("minimum", "x", 1.5, 1000000000000000000000000000000, 1e300),
        {"minimum": 5, "maximum": 2},
        {"exclusiveMinimum": 1, "exclusiveMaximum": 2},
    ),
    *of("number", {"minimum": 2, "maximum": 1}, {"minimum": "x"}, {"exclusiveMinimum": True}),
    *of(
        "array",
        {"minItems": 3, "maxItems": 1},
        {"minItems": "x"},
        {"prefixItems": [], "items": False, "minItems": 2},
        {"prefixItems": 5},
        {"items": [{"type": "string"}]},
        {"items": False, "minItems": 1},
        {"unevaluatedItems": 5},
    ),
    *of(
        "object",
        *each("properties", [], {"a": 5}, {"a": False}, {'a"b\n': {"type": "string"}}),
        *each("required", "a", [5]),
        *each("minProperties", -1, "x"),
        {"additionalProperties": 5},
        {"patternProperties": {"([": {"type": "string"}}},
        {"propertyNames": {"type": "integer"}},
        {"minProperties": 3, "maxProperties": 1},
        {"minProperties": 3, "properties": {"a": True}, "additionalProperties": False},
        {"unevaluatedProperties": 5},
    ),
    *each("$ref", 5, "#/", "nope", "#foo"),
    to("#/$defs/a%20b", **{"a b": {"type": "string"}}),
    to("#/$defs/a~1b", **{"a/b": {"type": "string"}}),
    {"$ref": "#/$defs/a/0", "$defs": {"a": [{"type": "string"}]}},
]
"""What xgrammar raises on inside of a step, and references that it takes for anything."""

DEEP: Schema = {"type": "string"}
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
