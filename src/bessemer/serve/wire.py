"""OpenAI's wire for chat completions, as our own models: what a request may say, what an answer looks like.

Owns the shapes and their translation to and from the nouns of `core`. What the engine cannot do is refused by name,
never ignored; what changes no answer (`user`, `metadata`, `store`) is accepted.

Source: OpenAI's published API reference for chat completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bessemer.core.nouns import ChatRequest, Entry, FinishReason, Message, Sampling, TokenLogprob, Usage
from bessemer.serve.config import GatewayConfig
from bessemer.serve.failures import Refusal

HARMLESS = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
}
"""Fields that this gateway does not act on, with the values under which acting and not acting are the same."""


class TextPart(BaseModel):
    """A part of a message's content; only text is understood."""

    type: Literal["text"]
    text: str


class WireMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart]

    @field_validator("content")
    @classmethod
    def _unicode(cls, value: str | list[TextPart]) -> str | list[TextPart]:
        texts = [value] if isinstance(value, str) else [part.text for part in value]
        if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
            raise ValueError("the text holds half of a surrogate pair, which is no Unicode character")
        return value

    def noun(self) -> Message:
        """Return the message in core's words."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class StreamOptions(BaseModel):
    """How a stream ends."""

    include_usage: bool = False


class ChatBody(BaseModel):
    """The body of POST /v1/chat/completions."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: Annotated[list[WireMessage], Field(min_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @field_validator("stop")
    @classmethod
    def _few(cls, value: str | list[str] | None) -> str | list[str] | None:
        if isinstance(value, list) and (len(value) > 16 or not all(value)):
            raise ValueError("give at most 16 stop sequences, none of them empty")
        if value == "":
            raise ValueError("a stop sequence is not empty")
        return value

    def request(self, config: GatewayConfig) -> ChatRequest:
        """Return the request in core's words.

        Raises:
            Refusal: it asks for something that this gateway does not do.
        """
        for name, value in (self.model_extra or {}).items():
            if name in HARMLESS or value is None or value in NEUTRAL.get(name, ()):
                continue
            known = name in NEUTRAL
            raise Refusal(
                400,
                f"'{name}' is not supported here." if known else f"Unknown field '{name}'.",
                param=name,
                code="unsupported_parameter" if known else "unknown_parameter",
            )
        asked = self.max_completion_tokens or self.max_tokens or config.default_output_tokens
        if asked > config.max_output_tokens:
            raise Refusal(
                400, f"At most {config.max_output_tokens} output tokens may be asked for.", param="max_tokens"
            )
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return ChatRequest(
            messages=tuple(message.noun() for message in self.messages),
            sampling=Sampling(
                max_output_tokens=asked,
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                seed=self.seed,
                stop=stop,
                top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            ),
        )


def usage_body(usage: Usage, entry: Entry) -> dict[str, Any]:
    """Return the wire's usage, with what the answer took beside it."""
    measured = entry.measurement
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "energy": {
            "joules": measured.joules,
            "joules_low": measured.joules_low,
            "joules_high": measured.joules_high,
            "class": measured.energy_class.value,
            "boundary": measured.boundary.value,
        },
        "charge": {"micros": entry.charge.micros, "currency": entry.charge.currency},
    }


def logprobs_body(logprobs: Sequence[TokenLogprob], wanted: bool) -> dict[str, Any] | None:
    """Return the wire's log-probabilities, or None if they were not asked for."""
    if not wanted:
        return None
    content = [
        {**_token(item.token, item.logprob), "top_logprobs": [_token(token, value) for token, value in item.top]}
        for item in logprobs
    ]
    return {"content": content, "refusal": None}


def finish_reason(reason: FinishReason | None) -> str | None:
    """Return the wire's word: it knows no cancelled answers."""
    return "stop" if reason == "cancelled" else reason


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
