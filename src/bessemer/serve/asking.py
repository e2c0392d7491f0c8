"""What a client may ask: OpenAI's chat completion request, read strictly into the house's own ChatRequest.

Three kinds of fields: those that are honoured; those that are accepted because leaving them out changes no answer
(`user`, `metadata`, …); those that would change the answer and cannot be honoured, which are refused unless they ask
for what happens anyway. Unknown fields are refused, so that a misspelt one is noticed.

Owns the request's schema. Source: the published OpenAPI description of OpenAI's API, chat completions.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from bessemer.core.nouns import ChatRequest, Message, Sampling
from bessemer.serve.config import GatewayConfig
from bessemer.serve.refusals import Refused, invalid, of_validation, unsupported

ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
MAX_STOP_SEQUENCES = 16


def Only(*harmless: object) -> AfterValidator:  # noqa: N802 (reads as a type)
    """Return a validator that takes null and values that ask for what happens anyway, and refuses the rest."""

    def check(value: Any) -> Any:
        if value is None or (value in harmless and not isinstance(value, bool)):  # Python takes True for 1
            return value
        raise PydanticCustomError("unsupported_parameter", "this is not supported here yet; leave it out")

    return AfterValidator(check)


def _as_text(content: Any) -> str:
    """Return the text of a message's content: a string, or text parts, which are joined by line ends."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise PydanticCustomError("content_type", "content must be a string or a list of text parts")
    texts = []
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise PydanticCustomError(
                "unsupported_parameter", "part {number} is no text part; only text is supported", {"number": number}
            )
        if not isinstance(part.get("text"), str):
            raise PydanticCustomError("content_type", "part {number} has no text", {"number": number})
        texts.append(part["text"])
    return "\n".join(texts)


def _as_stops(stop: Any) -> tuple[str, ...]:
    stops = () if stop is None else (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, (list, tuple)) or not all(isinstance(text, str) and text for text in stops):
        raise PydanticCustomError("stop_type", "stop must be a non-empty string or a list of them")
    if len(stops) > MAX_STOP_SEQUENCES:
        raise PydanticCustomError("stop", "at most {limit} stop sequences are taken", {"limit": MAX_STOP_SEQUENCES})
    return tuple(stops)


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class AskedMessage(_Asked):
    """One message. Fields that the official client sends back with an answer are taken when they are empty."""

    role: Annotated[str, Only(*ROLES)]
    content: Annotated[str, BeforeValidator(_as_text)] = ""
    name: str | None = None
    refusal: Annotated[Any, Only("")] = None
    annotations: Annotated[Any, Only([])] = None
    audio: Annotated[Any, Only()] = None
    tool_calls: Annotated[Any, Only([])] = None
    function_call: Annotated[Any, Only()] = None


class StreamOptions(_Asked):
    """How a stream is told."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Asked(_Asked):
    """The body of ``POST /v1/chat/completions``; null is the same as left out."""

    model: str
    messages: Annotated[list[AskedMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(_as_stops)] = ()
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    # Would change the answer: taken only when they ask for what happens anyway.
    n: Annotated[Any, Only(1)] = None
    tools: Annotated[Any, Only([])] = None
    tool_choice: Annotated[Any, Only("none", "auto")] = None
    functions: Annotated[Any, Only([])] = None
    function_call: Annotated[Any, Only("none", "auto")] = None
    response_format: Annotated[Any, Only({"type": "text"})] = None
    frequency_penalty: Annotated[Any, Only(0)] = None
    presence_penalty: Annotated[Any, Only(0)] = None
    logit_bias: Annotated[Any, Only({})] = None
    modalities: Annotated[Any, Only(["text"])] = None
    audio: Annotated[Any, Only()] = None
    web_search_options: Annotated[Any, Only()] = None

    # Change no answer: taken, and not kept.
    metadata: Any = None
    parallel_tool_calls: Any = None
    prediction: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    user: Any = None
    verbosity: Any = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk that has the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def to_request(self, capabilities: Set[str], config: GatewayConfig) -> ChatRequest:
        """Return what the engine is asked.

        Raises:
            Refused: fields contradict each other, or the engine lacks a capability.
        """
        if self.stream_options and not self.stream:
            raise Refused(invalid("stream_options", "'stream_options' is only taken with 'stream': true."))
        if self.top_logprobs is not None and not self.logprobs:
            raise Refused(invalid("top_logprobs", "'top_logprobs' needs 'logprobs': true."))
        for field, asked in (("logprobs", self.logprobs), ("stop", self.stop), ("seed", self.seed is not None)):
            if asked and field not in capabilities:
                raise Refused(unsupported(field, f"The engine of this model does not support '{field}'."))
        given = {"temperature": self.temperature, "top_p": self.top_p}
        return ChatRequest(
            messages=tuple(Message(role=ROLES[m.role], content=m.content) for m in self.messages),
            sampling=Sampling(
                max_output_tokens=self._output_tokens(config),
                seed=self.seed,
                stop=self.stop,
                top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                **{name: value for name, value in given.items() if value is not None},
            ),
        )

    def _output_tokens(self, config: GatewayConfig) -> int:
        given = {
            name: value
            for name, value in (
                ("max_completion_tokens", self.max_completion_tokens),
                ("max_tokens", self.max_tokens),
            )
            if value is not None
        }
        if len(set(given.values())) > 1:
            raise Refused(invalid("max_tokens", "'max_tokens' and 'max_completion_tokens' differ; send one of them."))
        for name, value in given.items():
            if value > config.max_output_tokens:
                raise Refused(invalid(name, f"'{name}' is too large: at most {config.max_output_tokens} are allowed."))
            return value
        return config.default_output_tokens


def read_asked(body: bytes) -> Asked:
    """Return the request that a body holds.

    Raises:
        Refused: it is no JSON, or a field is wrong; the refusal names it.
    """
    try:
        return Asked.model_validate_json(body)
    except ValidationError as error:
        raise Refused(of_validation(error, Asked)) from None
