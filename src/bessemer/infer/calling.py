"""Tools for a model that only knows text: it is told of them, and a grammar lets it write only calls or an answer.

The answer is JSON of our own making: ``{"tool_calls": [{"name": …, "arguments": {…}}]}`` or ``{"answer": "…"}``. So
any model that can be held to a JSON schema can call tools; whether it calls the right ones is up to the model.

Owns that form, both ways. Knows no engine.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from bessemer.core.errors import Unsupported
from bessemer.core.nouns import ChatRequest, Message, Tool, ToolCallPiece
from bessemer.infer import schemas


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer turned out to be: a text, or calls."""

    text: str = ""
    calls: tuple[ToolCallPiece, ...] = ()


def spoken(request: ChatRequest) -> tuple[Message, ...]:
    """Return the messages as a model reads them: calls written out, and the tools told first, if there are any."""
    told = tuple(_written(message) for message in request.messages)
    tools = request.callable_tools()
    if not tools:
        return told
    known = "\n".join(json.dumps(_described(tool), ensure_ascii=False) for tool in tools)
    rule = (
        'Answer in JSON: {"tool_calls": [{"name": NAME, "arguments": ARGUMENTS}]} calls functions'
        + (', {"answer": TEXT} answers without.' if request.tool_choice == "auto" else ".")
        + f" The functions are:\n{known}"
    )
    if told[0].role == "system":
        return (told[0].model_copy(update={"content": f"{told[0].content}\n\n{rule}"}), *told[1:])
    return (Message(role="system", content=rule), *told)


def schema_of(request: ChatRequest) -> dict[str, Any] | None:
    """Return the JSON schema that the answer's text must follow, or None if it is free.

    Raises:
        Unsupported: tools and a JSON answer are asked for together, or no grammar can be made of a schema.
    """
    tools, form = request.callable_tools(), request.json_format
    schemas.check(request)
    if not tools:
        return None if form is None else (form.json_schema or {"type": "object"})
    if form is not None:
        raise Unsupported("this engine takes tools or a JSON answer, not both", hint="Leave one of them out.")
    most = {} if request.parallel_tool_calls else {"maxItems": 1}
    items = {"anyOf": [_call(tool) for tool in tools]}
    calls = _object({"tool_calls": {"type": "array", "items": items, "minItems": 1, **most}})
    return calls if request.tool_choice != "auto" else {"anyOf": [calls, _object({"answer": {"type": "string"}})]}


def parsed(text: str) -> Said:
    """Return what an answer in that form says; a text that is not in it is taken as it is.

    >>> parsed('{"answer": "hi"}').text
    'hi'
    >>> [call.name for call in parsed('{"tool_calls": [{"name": "now", "arguments": {}}]}').calls]
    ['now']
    """
    try:
        found = json.loads(text)
        if "answer" in found:
            return Said(text=str(found["answer"]))
        calls = tuple(
            ToolCallPiece(
                index=index,
                id=f"call_{secrets.token_hex(12)}",
                name=call["name"],
                arguments=json.dumps(call["arguments"], ensure_ascii=False),
            )
            for index, call in enumerate(found["tool_calls"])
        )
    except (ValueError, KeyError, TypeError):
        return Said(text=text)
    return Said(calls=calls)


def written_answer(text: str) -> str:
    """Return an answer without calls in that form: what a model writes where it may call tools.

    >>> parsed(written_answer('He said "no".')).text
    'He said "no".'
    """
    return json.dumps({"answer": text}, ensure_ascii=False)


def _written(message: Message) -> Message:
    if not message.tool_calls:
        return message
    calls = [f'{{"name": {json.dumps(c.name)}, "arguments": {c.arguments}}}' for c in message.tool_calls]
    content = f'{{"tool_calls": [{", ".join(calls)}]}}'
    return Message(role=message.role, content=f"{message.content}\n{content}".strip())


def _described(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _call(tool: Tool) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}, "additionalProperties": False}
    return _object({"name": {"const": tool.name}, "arguments": schemas.inlined(parameters)})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
