"""Whatever stands in the place of a part of a request, the answer to it is one: no body makes the gateway fail."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

WEIRD = (None, [], {}, [[]], {"a": 1}, 0, -1, 10**30, True, "", "\x00", "\ud800")
HELLO = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMA = {"type": "json_schema", "name": "n", "schema": PARAMETERS}
FUNCTION = {"name": "f", "description": "d", "parameters": PARAMETERS}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ANTHROPIC = [
    *HELLO,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": HELLO[0]["content"]}]},
]
ITEMS = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
]
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "chat/completions",
        {
            "messages": [*HELLO, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c"}],
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "stop": ["a"], "store": True, "metadata": {"a": "b"}, "stream_options": {"include_usage": True},
        },
    ),
    "chat as JSON": (
        "chat/completions", {"messages": HELLO, "response_format": {"type": "json_schema", "json_schema": SCHEMA}}
    ),
    "completions": ("completions", {"prompt": ["a"], "stop": ["x"], "n": 1, "max_tokens": 3, "logprobs": 1}),
    "embeddings": ("embeddings", {"input": ["a"], "encoding_format": "float"}),
    "responses": (
        "responses",
        {
            "input": ITEMS, "instructions": "i", "store": True, "metadata": {"a": "b"}, "include": ["acts"],
            "tools": [{"type": "function", **FUNCTION}], "tool_choice": {"type": "function", "name": "f"},
            "previous_response_id": "resp_1", "service_tier": "flex",
        },
    ),
    "responses as JSON": ("responses", {"input": "Hello", "text": {"format": SCHEMA}}),
    "messages": (
        "messages",
        {
            "max_tokens": 3, "messages": ANTHROPIC, "system": HELLO[0]["content"], "stop_sequences": ["a"],
            "tools": [{"name": "f", "input_schema": PARAMETERS}], "tool_choice": {"type": "tool", "name": "f"},
        },
    ),
    "messages as JSON": (
        "messages",
        {
            "max_tokens": 3, "messages": HELLO,
            "output_config": {"format": {"type": "json_schema", "schema": PARAMETERS}},
        },
    ),
    "count_tokens": ("messages/count_tokens", {"messages": ANTHROPIC, "tools": [], "thinking": {"type": "disabled"}}),
}  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where the parts of a value are."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*at, name)
        yield from places(part, (*at, name))


@pytest.mark.parametrize("what", BODIES)
def test_a_part_of_another_kind_is_answered(wire, what: str) -> None:
    path, body = BODIES[what]
    connection, asked = wire.running.connect(), 0
    for at in places(body):
        for weird in WEIRD:
            changed = within = copy.deepcopy({"model": "played", **body})
            for name in at[:-1]:
                within = within[name]
            within[at[-1]] = weird
            connection.request(
                "POST", f"/v1/{path}", json.dumps(changed), {"Authorization": f"Bearer {wire.secrets['shop']}"}
            )
            response = connection.getresponse()
            answer = response.read()
            assert response.status < 500, (at, weird, answer)
            json.loads(answer)
            asked += 1
    assert asked >= 36
