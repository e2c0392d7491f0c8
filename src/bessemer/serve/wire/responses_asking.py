"""What a client may ask of ``POST /v1/responses``: its items, read into the messages of the chat wire.

Owns the request's schema. Source: the published OpenAPI description of OpenAI's API, responses.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from bessemer.serve.asking import Asked, Only, ServiceTier, Wire, read_asked, within_limits
from bessemer.serve.refusals import Refused, of_validation

_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "messages": "input",
    "top_logprobs": "top_logprobs",
}
_TEXTS = ("input_text", "output_text", "text")


def _as_items(value: Any) -> list[dict[str, Any]]:
    """Return the items of an input; a string is one message of the user."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise PydanticCustomError("input_type", "must be a text or a list of items")
    return [_item(dict(item), number) for number, item in enumerate(value)]


def _item(item: dict[str, Any], number: int) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "message":
        return {"type": kind, "role": item.get("role"), "content": _parts(item.get("content"), item.get("role"))}
    if kind == "function_call_output" and isinstance(item.get("output"), list):
        item["output"] = "\n".join(part["text"] for part in _parts(item["output"], None))
    fields = {"function_call": ("call_id", "name", "arguments"), "function_call_output": ("call_id", "output")}
    if not isinstance(kind, str) or kind not in fields:
        raise PydanticCustomError(
            "unsupported_parameter", "item {number} is of a type that is not supported", {"number": number}
        )
    if not all(isinstance(item.get(name), str) for name in fields[kind]):
        raise PydanticCustomError("input_type", "item {number} lacks a text in its fields", {"number": number})
    return {"type": kind, **{name: item[name] for name in fields[kind]}}


def _parts(content: Any, role: Any) -> list[dict[str, Any]]:
    parts = [{"text": content, "type": "text"}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(
        isinstance(part, dict) and part.get("type") in _TEXTS and isinstance(part.get("text"), str) for part in parts
    ):
        raise PydanticCustomError("unsupported_parameter", "the content of a message must be text")
    kind = "output_text" if role == "assistant" else "input_text"
    return [{"type": kind, "text": part["text"]} for part in parts]


_Includable = Literal[
    "acts",  # our own
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]
"""What may be told besides. All but our own are of what no answer here has, so that nothing is told of them."""


class AskedFlatTool(Wire):
    """A function; the only kind of tools."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    allowed_callers: Annotated[Any, Only(["direct"])] = None
    async_: Annotated[Any, Only(False), Field(alias="async")] = None
    defer_loading: Annotated[Any, Only(False)] = None
    output_schema: Any = None

    def told(self) -> dict[str, Any]:
        """Return the tool as an answer repeats it."""
        return {"type": self.type, **self.function()}

    def function(self) -> dict[str, Any]:
        """Return what the chat wire calls its function."""
        return {name: getattr(self, name) for name in ("name", "description", "parameters", "strict")}


class AskedText(Wire):
    """How the answer's text must be."""

    format: dict[str, Any] | None = None
    verbosity: Any = None


class AskedResponse(Wire):
    """The body; null is the same as left out. `store` is false unless it is asked for."""

    model: str
    input: Annotated[list[dict[str, Any]], BeforeValidator(_as_items), Field(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    metadata: Annotated[dict[str, str] | None, AfterValidator(within_limits)] = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[AskedFlatTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: AskedText | None = None
    include: Annotated[list[_Includable] | None, Field(max_length=16)] = None

    access_programs: Annotated[Any, Only()] = None
    background: Annotated[Any, Only(False)] = None
    background_options: Annotated[Any, Only()] = None
    context_management: Annotated[Any, Only([])] = None
    conversation: Annotated[Any, Only()] = None
    image: Annotated[Any, Only()] = None
    max_tool_calls: Annotated[Any, Only()] = None
    moderation: Annotated[Any, Only()] = None
    prompt: Annotated[Any, Only()] = None
    top_logprobs: Annotated[Any, Only(0)] = None
    truncation: Annotated[Any, Only("disabled", "auto")] = None

    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning: Any = None
    safety_identifier: Any = None
    service_tier: ServiceTier = ""
    stream_options: Any = None
    user: Any = None

    def to_chat(self, items: list[dict[str, Any]]) -> Asked:
        """Return the same wish in the words of the chat wire, with all items of the conversation.

        Raises:
            Refused: a field is wrong.
        """
        told = [{"role": "system", "content": self.instructions}] if self.instructions else []
        form = dict((self.text and self.text.format) or {"type": "text"})
        if form.get("type") == "json_schema":
            form = {"type": "json_schema", "json_schema": {k: v for k, v in form.items() if k != "type"}}
        choice = self.tool_choice
        if isinstance(choice, dict) and "name" in choice:
            choice = {"type": choice.get("type"), "function": {"name": choice["name"]}}
        body = {
            "model": self.model,
            "messages": told + messages_of(items),
            "stream": self.stream,
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "response_format": form,
            "tools": [{"type": "function", "function": tool.function()} for tool in self.tools or ()],
            "tool_choice": choice,
            "parallel_tool_calls": self.parallel_tool_calls,
        }
        return chat_asked(body, _NAMES)


def chat_asked(body: dict[str, Any], names: dict[str, str]) -> Asked:
    """Return a chat request; a refusal names the field as this wire calls it."""
    try:
        return read_asked(json.dumps(body).encode())
    except Refused as error:
        raise renamed(error, names) from None


def renamed(error: Refused, names: dict[str, str]) -> Refused:
    """Return a refusal whose field is named as another wire calls it."""
    param = error.refusal.param or ""
    head = param.split("[")[0].split(".")[0]
    if head not in names:
        return error
    name = names[head]
    return Refused(replace(error.refusal, param=name, message=error.refusal.message.replace(head, name)))


def messages_of(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return items as messages; calls that follow each other are one message of the assistant."""
    messages: list[dict[str, Any]] = []
    for item in items:
        if item["type"] == "function_call":
            call = {"id": item["call_id"], "type": "function"}
            call["function"] = {"name": item["name"], "arguments": item["arguments"]}
            if not (messages and messages[-1].get("tool_calls")):
                messages.append({"role": "assistant", "content": "", "tool_calls": []})
            messages[-1]["tool_calls"].append(call)
        elif item["type"] == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        else:
            parts = [{"type": "text", "text": part["text"]} for part in item["content"]]
            messages.append({"role": item["role"], "content": parts})
    return messages


def read_response(body: bytes) -> AskedResponse:
    """Return the request that a body holds.

    Raises:
        Refused: it is no JSON, or a field is wrong; the refusal names it.
    """
    try:
        return AskedResponse.model_validate_json(body)
    except ValidationError as error:
        raise Refused(of_validation(error, AskedResponse)) from None
