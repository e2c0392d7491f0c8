"""Tools for a model that only knows text: it is told of them, and a grammar lets it write only calls or an answer.

The answer is JSON of our own making: ``{"tool_calls": [{"name": …, "arguments": {…}}]}`` or ``{"answer": "…"}``. So
any model that can be held to a JSON schema can call tools; whether it calls the right ones is up to the model.

Owns that form, both ways. Knows no engine.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bessemer.core.errors import Unsupported
from bessemer.core.nouns import ChatRequest, Message, Tool, ToolCallPiece
from bessemer.infer import schemas

_ANSWER = re.compile(r'\s*\{\s*"answer"\s*:\s*"')
_CALLS = re.compile(r'\s*\{\s*"tool_calls"\s*:\s*\[')
_FORMS = ('{"answer":"', '{"tool_calls":[')
_JSON = json.JSONDecoder(strict=False)
_LONGEST_ESCAPE = 13
"""Characters, and one: two of them, such as ``\\ud83d\\ude00``, may be one character."""


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
        Unsupported: tools are asked for together with a JSON answer or log-probabilities, or no grammar can be made
            of a schema.
    """
    tools, form = request.callable_tools(), request.json_format
    schemas.check(request)
    if not tools:
        return None if form is None else (form.json_schema or {"type": "object"})
    if form is not None:
        told = "this engine takes tools or a JSON answer, not both"
        raise Unsupported(told, hint="Leave one of them out.", about="json_format")
    if request.sampling.top_logprobs is not None:  # they would be those of the form, not of what is told
        told = "this engine tells no log-probabilities where tools may be called"
        raise Unsupported(told, hint="Leave logprobs or the tools out.", about="logprobs")
    most = {} if request.parallel_tool_calls else {"maxItems": 1}
    items = {"anyOf": [_call(tool) for tool in tools]}
    calls = _object({"tool_calls": {"type": "array", "items": items, "minItems": 1, **most}})
    return calls if request.tool_choice != "auto" else {"anyOf": [calls, _object({"answer": {"type": "string"}})]}


def parsed(text: str) -> Said:
    """Return what an answer in that form says; a text that is not in it is taken as it is.

    Of one that was cut, the calls that are whole are told, or the text as far as it goes; never a piece of the form.

    >>> parsed('{"answer": "hi"}').text, parsed('{"answer": "hi the').text
    ('hi', 'hi the')
    >>> [call.name for call in parsed('{"tool_calls": [{"name": "now", "arguments": {}}, {"name": "th').calls]
    ['now']
    """
    if begun := _ANSWER.match(text):
        return Said(text=_string(text[begun.end() :]))
    if begun := _CALLS.match(text):
        calls = enumerate(_whole_calls(text, begun.end()))
        return Said(calls=tuple(_piece(index, call) for index, call in calls))
    bare = "".join(text.split())
    return Said(text="" if any(form.startswith(bare) for form in _FORMS) else text)


def _string(rest: str) -> str:
    """Return the text of a JSON string behind its first mark, with or without its end."""
    try:
        return str(_JSON.raw_decode(f'"{rest}')[0])
    except ValueError:
        for end in range(len(rest), max(-1, len(rest) - _LONGEST_ESCAPE), -1):
            with suppress(ValueError):
                said = str(_JSON.decode(f'"{rest[:end]}"'))
                said.encode()  # half a pair of surrogates is no text
                return said
    return ""


def _whole_calls(text: str, at: int) -> Iterator[dict[str, Any]]:
    with suppress(ValueError):  # there is no whole one any more
        while True:
            at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
            call, at = _JSON.raw_decode(text, at)
            if not (isinstance(call, dict) and isinstance(call.get("name"), str) and "arguments" in call):
                return
            yield call


def _piece(index: int, call: dict[str, Any]) -> ToolCallPiece:
    arguments = json.dumps(call["arguments"], ensure_ascii=False)
    return ToolCallPiece(index=index, id=f"call_{secrets.token_hex(12)}", name=call["name"], arguments=arguments)


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
