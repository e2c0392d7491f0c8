"""What an Anthropic client may ask: its blocks, read into the messages of the chat wire.

Owns the request's schema. Source: Anthropic's API reference, messages.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from bessemer.serve.asking import Asked, Only, Wire
from bessemer.serve.refusals import Refused, invalid, of_validation, unsupported
from bessemer.serve.wire.responses_asking import chat_asked

NAMES = {"max_completion_tokens": "max_tokens", "stop": "stop_sequences", "response_format": "output_config.format"}


class Block(Wire):
    """A part of a message: text, a call, or what a call brought."""

    type: Literal["text", "tool_use", "tool_result"]
    text: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    tool_use_id: str = ""
    content: str | list[dict[str, Any]] = ""
    is_error: bool | None = None
    cache_control: Any = None
    citations: Annotated[Any, Only([])] = None
    caller: Any = None
    toolset_name: Annotated[Any, Only()] = None

    def result(self, where: str) -> str:
        """Return the text of what a call brought."""
        if isinstance(self.content, str):
            return self.content
        if not all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in self.content):
            raise Refused(unsupported(where, f"'{where}' has a part that is no text; only text is supported."))
        return "\n".join(part["text"] for part in self.content)


class AskedTurn(Wire):
    """One message."""

    role: Literal["user", "assistant"]
    content: str | list[Block]

    def to_chat(self, where: str) -> list[dict[str, Any]]:
        """Return it as messages of the chat wire: what tools brought first, then the rest."""
        if isinstance(self.content, str):
            return [{"role": self.role, "content": self.content}]
        kinds = {"user": ("text", "tool_result"), "assistant": ("text", "tool_use")}[self.role]
        if any(block.type not in kinds for block in self.content):
            raise Refused(invalid(where, f"'{where}' has a block that does not belong to its role."))
        told: list[dict[str, Any]] = [
            {"role": "tool", "tool_call_id": block.tool_use_id, "content": block.result(where)}
            for block in self.content
            if block.type == "tool_result"
        ]
        texts = [{"type": "text", "text": block.text} for block in self.content if block.type == "text"]
        calls = [
            {"id": b.id, "type": "function", "function": {"name": b.name, "arguments": json.dumps(b.input)}}
            for b in self.content
            if b.type == "tool_use"
        ]
        if texts or calls:
            told.append({"role": self.role, "content": texts, **({"tool_calls": calls} if calls else {})})
        return told


class AskedAnthropicTool(Wire):
    """A function that the model may ask to have called."""

    type: Literal["custom"] | None = None
    name: str
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None

    allowed_callers: Annotated[Any, Only(["direct"])] = None
    defer_loading: Annotated[Any, Only(False)] = None
    input_examples: Annotated[Any, Only([])] = None

    cache_control: Any = None
    eager_input_streaming: Any = None


class AskedToolChoice(Wire):
    """Which tool must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class AskedJson(Wire):
    """That the answer must be JSON that follows a schema."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class AskedOutput(Wire):
    """How the answer must be; effort changes nothing here."""

    format: AskedJson | None = None
    effort: Any = None


class AskedCount(Wire):
    """What a conversation is, as the model reads it; null is the same as left out."""

    model: str
    messages: Annotated[list[AskedTurn], Field(min_length=1)]
    system: str | list[Block] | None = None
    tools: list[AskedAnthropicTool] | None = None
    tool_choice: AskedToolChoice | None = None

    output_config: AskedOutput | None = None

    speed: Annotated[Any, Only("standard")] = None
    thinking: Annotated[Any, Only({"type": "disabled"})] = None

    cache_control: Any = None
    user_profile_id: Any = None
    workspace_id: Any = None

    def to_chat(self) -> Asked:
        """Return the same wish in the words of the chat wire.

        Raises:
            Refused: a field is wrong.
        """
        system = self.system if isinstance(self.system, str) else "\n".join(b.text for b in self.system or ())
        turns = [
            message
            for number, turn in enumerate(self.messages)
            for message in turn.to_chat(f"messages[{number}].content")
        ]
        choice = self.tool_choice or AskedToolChoice(type="auto")
        words = {"auto": "auto", "none": "none", "any": "required"}
        named = {"type": "function", "function": {"name": choice.name or ""}}
        body = {
            "model": self.model,
            "messages": ([{"role": "system", "content": system}] if system else []) + turns,
            "tools": [_function(tool) for tool in self.tools or ()],
            "tool_choice": words.get(choice.type, named),
            "response_format": _format(self.output_config),
            "parallel_tool_calls": not choice.disable_parallel_tool_use,
        }
        return chat_asked({**body, **self._sampling()}, NAMES)

    def _sampling(self) -> dict[str, Any]:
        """Return how to answer: nothing is answered."""
        return {}


class AskedMessages(AskedCount):
    """The body; null is the same as left out."""

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: float | None = None

    container: Annotated[Any, Only()] = None
    inference_geo: Annotated[Any, Only()] = None
    top_k: Annotated[Any, Only()] = None

    diagnostics: Any = None
    metadata: Any = None
    service_tier: Any = None

    def _sampling(self) -> dict[str, Any]:
        return {
            "max_completion_tokens": self.max_tokens,
            "stop": self.stop_sequences,
            "stream": self.stream,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }


A = TypeVar("A", bound=AskedCount)


def read_messages(body: bytes, form: type[A]) -> A:
    """Return the request that a body holds.

    Raises:
        Refused: it is no JSON, or a field is wrong; the refusal names it.
    """
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        raise Refused(of_validation(error, form)) from None


def _format(config: AskedOutput | None) -> dict[str, Any] | None:
    if config is None or config.format is None:
        return None
    named = {"name": "answer", "schema": config.format.schema_, "strict": True}
    return {"type": "json_schema", "json_schema": named}


def _function(tool: AskedAnthropicTool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": {**function, "strict": tool.strict}}
