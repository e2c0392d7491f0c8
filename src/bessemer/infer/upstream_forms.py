"""Tools, calls and JSON answers in the words of OpenAI's wire: what an upstream server is asked and what it says.

Owns those words. Knows no connection. Source: the published OpenAPI description of OpenAI's API, chat completions.
"""

from __future__ import annotations

import json
import math
from typing import Any

from bessemer.core.errors import BackendError
from bessemer.core.nouns import ChatRequest, Message, Tool, ToolCallPiece
from bessemer.core.raw import EmbedRequest, EmbedResult
from bessemer.infer.upstream_texts import usage_of


def message_of(message: Message) -> dict[str, Any]:
    """Return a message as the wire has it.

    >>> message_of(Message(role="tool", content="sunny", tool_call_id="call_1"))
    {'role': 'tool', 'content': 'sunny', 'tool_call_id': 'call_1'}
    """
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        told["tool_call_id"] = message.tool_call_id
    return told


def forms_of(request: ChatRequest) -> dict[str, Any]:
    """Return the fields for tools and for the form of the answer; none if neither is asked for."""
    told: dict[str, Any] = {}
    if request.tools:
        kind, _, name = request.tool_choice.partition(":")
        told["tools"] = [{"type": "function", "function": _function(tool)} for tool in request.tools]
        told["tool_choice"] = {"type": "function", "function": {"name": name}} if name else kind
        told["parallel_tool_calls"] = request.parallel_tool_calls
    if request.json_format:
        schema = request.json_format.json_schema
        wanted = {"name": "answer", "schema": schema, "strict": True}
        told["response_format"] = (
            {"type": "json_object"} if schema is None else {"type": "json_schema", "json_schema": wanted}
        )
    return told


def calls_of(delta: dict[str, Any]) -> tuple[ToolCallPiece, ...]:
    """Return the pieces of calls in one delta of a stream."""
    pieces = []
    for number, call in enumerate(delta.get("tool_calls") or ()):
        function = call.get("function") or {}
        pieces.append(
            ToolCallPiece(
                index=call.get("index", number),
                id=call.get("id") or "",
                name=function.get("name") or "",
                arguments=function.get("arguments") or "",
            )
        )
    return tuple(pieces)


def embedding_of(request: EmbedRequest, model: str) -> dict[str, Any]:
    """Return the body that asks for a vector."""
    told: dict[str, Any] = {"model": model, "input": request.text or list(request.tokens), "encoding_format": "float"}
    return told if request.dimensions is None else {**told, "dimensions": request.dimensions}


def vector_of(body: str) -> EmbedResult:
    """Return the vector in an answer, brought to length 1, with the tokens that the server counted.

    Raises:
        BackendError: there is none, or no count.
    """
    try:
        found = json.loads(body)
        raw = [float(value) for value in found["data"][0]["embedding"]]
        norm, usage = math.hypot(*raw), usage_of(found["usage"])
        if usage is None:
            raise ValueError
        return EmbedResult(vector=tuple(value / norm for value in raw), usage=usage)
    except (ValueError, LookupError, TypeError, ZeroDivisionError) as error:
        raise BackendError(
            "the upstream server sent no vector with its usage", hint="Choose another server."
        ) from error


def _function(tool: Tool) -> dict[str, Any]:
    told: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        told["description"] = tool.description
    if tool.strict:
        told["strict"] = True
    return told
