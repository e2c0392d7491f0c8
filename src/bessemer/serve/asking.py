"""What a client may ask: OpenAI's chat completion request, read strictly into the house's own ChatRequest.

Three kinds of fields: those that are honoured, some only by engines with the capability; those that are accepted
because leaving them out changes no answer (`user`, …); those that would change the answer and cannot
be honoured, which are refused unless they ask for what happens anyway. Unknown fields are refused, so that a misspelt
one is noticed.

Owns the request's schema. Source: the published OpenAPI description of OpenAI's API, chat completions.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from bessemer.core.nouns import ChatRequest, JsonFormat, Message, Sampling, Tool, ToolCall
from bessemer.serve.config import GatewayConfig
from bessemer.serve.refusals import Refused, invalid, missing, of_validation, unsupported

ROLES: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
MAX_STOP_SEQUENCES = 16
MAX_ANSWERS = 16


def Only(*harmless: object) -> AfterValidator:  # noqa: N802 (reads as a type)
    """Return a validator that takes null and values that ask for what happens anyway, and refuses the rest."""

    def check(value: Any) -> Any:
        if value is None or any(value == each and type(value) is type(each) for each in harmless):  # True is not 1
            return value
        raise PydanticCustomError("unsupported_parameter", "this is not supported here yet; leave it out")

    return AfterValidator(check)


def _as_tier(value: Any) -> Any:
    if value in (None, "auto", "default", "standard"):
        return ""
    if value not in ("flex", "priority", "scale"):
        raise PydanticCustomError("service_tier", "must be auto, default, flex, priority or scale")
    return value


ServiceTier = Annotated[str, BeforeValidator(_as_tier)]
"""What prices may be told apart by; empty is the standard, which ``auto`` and ``default`` ask for too. No other names
than OpenAI's: the books keep sums for each."""


def _as_text(content: Any) -> str | None:
    """Return the text of a message's content: a string, or text parts, which are joined by line ends; None if null."""
    if content is None or isinstance(content, str):
        return content
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


def _as_role(role: str) -> str:
    if role not in ROLES:
        raise PydanticCustomError("role", f"must be {', '.join(list(ROLES)[:-1])} or {list(ROLES)[-1]}")
    return role


def as_stops(stop: Any) -> tuple[str, ...]:
    """Return stop sequences: one text or a list."""
    stops = () if stop is None else (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, (list, tuple)) or not all(isinstance(text, str) and text for text in stops):
        raise PydanticCustomError("stop_type", "stop must be a non-empty string or a list of them")
    if len(stops) > MAX_STOP_SEQUENCES:
        raise PydanticCustomError("stop", "at most {limit} stop sequences are taken", {"limit": MAX_STOP_SEQUENCES})
    return tuple(stops)


def as_bias(bias: Any) -> Any:
    """Return a bias by token; on the wire, tokens are the names of a JSON object's fields, so they are strings."""
    if not isinstance(bias, dict):
        return bias
    tokens = {int(token): value for token, value in bias.items() if token.isdecimal() and len(token) < 10}
    within = all(isinstance(value, int | float) and abs(value) <= 100 for value in tokens.values())
    if len(tokens) < len(bias) or not within:
        raise PydanticCustomError("bias", "tokens must be numbers, and their bias from -100 to 100")
    return {token: float(value) for token, value in tokens.items()}


def within_limits(metadata: dict[str, str] | None) -> dict[str, str] | None:
    """Return metadata that is small enough.

    Source: OpenAI's API reference, metadata: 16 pairs, keys of 64 characters, values of 512.
    """
    pairs = (metadata or {}).items()
    if len(pairs) > 16 or any(len(key) > 64 or len(value) > 512 for key, value in pairs):
        raise PydanticCustomError("metadata", "at most 16 pairs of 64 and 512 characters are taken")
    return metadata


Include = Annotated[list[Literal["acts"]] | None, Field(max_length=16)]
"""What is told besides; our own: ``acts`` shows what an agent did on its way to the answer."""


class Wire(BaseModel):
    """Base of what clients send: unknown fields and loose types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class AskedFunctionCall(Wire):
    """Name and arguments of a call, the arguments as JSON text."""

    name: str
    arguments: str


class AskedCall(Wire):
    """A tool call that an earlier answer made."""

    id: str
    type: Literal["function"] = "function"
    function: AskedFunctionCall


class AskedFunction(Wire):
    """A function that the model may ask to have called."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def to_tool(self) -> Tool:
        """Return the house's own noun."""
        return Tool(
            name=self.name,
            description=self.description or "",
            parameters=self.parameters or {},
            strict=bool(self.strict),
        )


class AskedTool(Wire):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: AskedFunction


class AskedName(Wire):
    """The name of a function."""

    name: str


class AskedChoice(Wire):
    """A tool that must be called."""

    type: Literal["function"]
    function: AskedName


class AskedSchema(Wire):
    """A JSON schema that the answer must follow."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class AskedFormat(Wire):
    """What the answer must be: text, a JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: AskedSchema | None = None


class AskedMessage(Wire):
    """One message. Fields that the official client sends back with an answer are taken when they are empty."""

    role: Annotated[str, AfterValidator(_as_role)]
    content: Annotated[str | None, BeforeValidator(_as_text)] = None
    name: str | None = None
    refusal: Annotated[Any, Only("")] = None
    annotations: Annotated[Any, Only([])] = None
    audio: Annotated[Any, Only()] = None
    tool_calls: list[AskedCall] | None = None
    tool_call_id: str | None = None
    function_call: Annotated[Any, Only()] = None

    def to_message(self) -> Message:
        """Return the house's own noun."""
        return Message(
            role=ROLES[self.role],
            content=self.content or "",
            tool_calls=tuple(
                ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
                for call in self.tool_calls or ()
            ),
            tool_call_id=self.tool_call_id or "",
        )


class StreamOptions(Wire):
    """How a stream is told."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Asked(Wire):
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
    stop: Annotated[tuple[str, ...], BeforeValidator(as_stops)] = ()
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[int, float] | None, BeforeValidator(as_bias)] = None
    response_format: AskedFormat | None = None
    tools: list[AskedTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | AskedChoice | None = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    metadata: Annotated[dict[str, str] | None, AfterValidator(within_limits)] = None

    include: Include = None

    # Would change the answer: taken only when they ask for what happens anyway.
    functions: Annotated[Any, Only([])] = None
    function_call: Annotated[Any, Only("none", "auto")] = None
    modalities: Annotated[Any, Only(["text"])] = None
    audio: Annotated[Any, Only()] = None
    moderation: Annotated[Any, Only()] = None
    web_search_options: Annotated[Any, Only()] = None

    # Change no answer: taken, and not kept.
    prediction: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    safety_identifier: Any = None
    service_tier: ServiceTier = ""
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
        self._refuse_beyond(capabilities)
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
        }
        return ChatRequest(
            messages=tuple(m.to_message() for m in self.messages),
            sampling=Sampling(
                max_output_tokens=self._output_tokens(config),
                seed=self.seed,
                stop=self.stop,
                top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                logit_bias=tuple((self.logit_bias or {}).items()),
                **{name: value for name, value in given.items() if value is not None},
            ),
            tools=tuple(tool.function.to_tool() for tool in self.tools or ()),
            tool_choice=self._tool_choice(),
            parallel_tool_calls=self.parallel_tool_calls is not False,
            json_format=self._json_format(),
        )

    def _refuse_beyond(self, capabilities: Set[str]) -> None:
        """Refuse what the engine cannot do, and calls that no message asked for."""
        form = self.response_format.type if self.response_format else "text"
        for field, asked, capability in (
            ("logprobs", self.logprobs, "logprobs"),
            ("stop", self.stop, "stop"),
            ("seed", self.seed is not None, "seed"),
            ("frequency_penalty", self.frequency_penalty, "penalties"),
            ("presence_penalty", self.presence_penalty, "penalties"),
            ("logit_bias", self.logit_bias, "logit_bias"),
            ("response_format", form != "text", form),
            ("tools", self.tools, "tools"),
        ):
            if asked and capability not in capabilities:
                raise Refused(unsupported(field, f"The engine of this model does not support '{field}'."))
        called: set[str] = set()
        for number, message in enumerate(self.messages):
            if message.content is None and not message.tool_calls:
                raise Refused(missing(f"messages[{number}].content"))
            called.update(call.id for call in message.tool_calls or ())
            if message.role == "tool" and message.tool_call_id not in called:
                where = f"messages[{number}].tool_call_id"
                raise Refused(invalid(where, f"'{where}' is the id of no tool call in the messages before it."))
        if called and "tools" not in capabilities:
            raise Refused(unsupported("messages", "The engine of this model does not support tool calls."))

    def _tool_choice(self) -> str:
        names = {tool.function.name for tool in self.tools or ()}
        choice = self.tool_choice or "auto"
        if isinstance(choice, str):
            if choice == "required" and not names:
                raise Refused(invalid("tool_choice", "'tool_choice': \"required\" needs 'tools'."))
            return choice
        if choice.function.name not in names:
            raise Refused(invalid("tool_choice", "'tool_choice' names a function that is not in 'tools'."))
        return f"function:{choice.function.name}"

    def _json_format(self) -> JsonFormat | None:
        form = self.response_format
        if form is None:
            return None
        if (form.json_schema is not None) != (form.type == "json_schema"):
            raise Refused(
                invalid("response_format", "'json_schema' belongs to 'type': \"json_schema\", and it alone has one.")
            )
        if form.type == "text":
            return None
        return JsonFormat(json_schema=(form.json_schema.schema_ or {}) if form.json_schema else None)

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
