"""Tools, formats and penalties reach the server behind an upstream engine, and its calls come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from bessemer.core.errors import BackendError, NotFound
from bessemer.core.nouns import ChatRequest, JsonFormat, Message, Sampling, Tool, ToolCall, Usage
from bessemer.core.raw import EmbedRequest
from bessemer.infer import UpstreamConfig, open_engine

CALL = {"index": 0, "id": "call_7", "type": "function", "function": {"name": "look", "arguments": '{"a"'}}
REST = {"index": 0, "function": {"arguments": ": 1}"}}
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [REST]}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
]


async def test_forms_are_forwarded(serve_app: Callable[[Any], AbstractContextManager[str]]) -> None:
    asked: list[dict[str, Any]] = []

    async def completions(request: Request) -> StreamingResponse:
        asked.append(await request.json())
        return StreamingResponse(iter(f"data: {json.dumps(c)}\n\n" for c in CHUNKS), media_type="text/event-stream")

    said = (
        Message(role="user", content="go"),
        Message(role="assistant", content="", tool_calls=(ToolCall(id="call_1", name="look", arguments="{}"),)),
        Message(role="tool", content="seen", tool_call_id="call_1"),
    )
    request = ChatRequest(
        messages=said,
        sampling=Sampling(frequency_penalty=0.5, presence_penalty=-0.5, logit_bias=((3, 2.0),)),
        tools=(Tool(name="look", description="Looks.", parameters={"type": "object"}, strict=True),),
        tool_choice="function:look",
        parallel_tool_calls=False,
        json_format=JsonFormat(json_schema={"type": "object"}),
    )
    with serve_app(Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])) as url:
        engine = open_engine(UpstreamConfig(base_url=f"{url}/v1", model="m"))
        answer = await engine.respond(request)
        await engine.close()
    assert answer.finish_reason == "tool_calls"
    assert answer.tool_calls == (ToolCall(id="call_7", name="look", arguments='{"a": 1}'),)
    (body,) = asked
    function = {"name": "look", "parameters": {"type": "object"}, "description": "Looks.", "strict": True}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body["parallel_tool_calls"] is False
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["frequency_penalty"], body["presence_penalty"], body["logit_bias"]) == (0.5, -0.5, {"3": 2.0})
    assert body["messages"][1]["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}
    assert body["messages"][2] == {"role": "tool", "content": "seen", "tool_call_id": "call_1"}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"data": [{"embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": 2}}, 200),
        ({"data": [{"embedding": [3.0, 4.0]}]}, 200),
        ({"data": []}, 200),
        ({"error": {"message": "no such model"}}, 404),
    ],
)
async def test_vectors_are_forwarded(serve_app: Callable[[Any], AbstractContextManager[str]], answer, status) -> None:
    asked: list[dict[str, Any]] = []

    async def embeddings(request: Request) -> JSONResponse:
        asked.append(await request.json())
        return JSONResponse(answer, status)

    with serve_app(Starlette(routes=[Route("/v1/embeddings", embeddings, methods=["POST"])])) as url:
        engine = open_engine(UpstreamConfig(base_url=f"{url}/v1", model="m"))
        try:
            found = await engine.respond(EmbedRequest(text="hi", dimensions=2))
        except (BackendError, NotFound) as error:
            assert isinstance(error, NotFound) == (status == 404)
            assert "usage" not in answer
        else:
            assert (found.vector, found.usage) == ((0.6, 0.8), Usage(input_tokens=2))
            assert engine.counters.total == found.usage
        await engine.close()
    assert asked == [{"model": "m", "input": "hi", "encoding_format": "float", "dimensions": 2}]
