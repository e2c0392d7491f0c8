"""The nouns that rooms hand to each other. Frozen; pydantic because all of them cross a disk or a wire.

Owns the words (one per idea, the field's own). Knows no file, no network, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bessemer.core.units import Money


class Noun(BaseModel):
    """Base of the nouns: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- data -----------------------------------------------------------------------------------------------------------


class Document(Noun):
    """One raw text with where it came from.

    Attributes:
        id: SHA-256 of source and text, 64 hexadecimal digits.
        source: URI or path of the file that it was read from.
        title: what a person would call it.
        text: the content, plain text or Markdown.
        group: what must stay together when data is split (a module, a folder, a site), so that nothing leaks.
        media_type: of the raw file, such as ``text/markdown``.
        meta: facts that the reader found, as strings (for Python documentation: kind, name, module, signature,
            summary).
        dropped: empty, or the reason for which a filter dropped it; dropped documents are kept and listed.
    """

    id: str
    source: str
    title: str
    text: str
    group: str
    media_type: str = "text/plain"
    meta: dict[str, str] = Field(default_factory=dict)
    dropped: str = ""


class Example(Noun):
    """One training or evaluation example.

    Attributes:
        id: stable digest.
        document_ids: the documents that it says something of; the first is the one that it is about.
        group: that document's group.
        rule: what made it, such as ``signature``, ``summary`` or ``passage``.
        context: text that the model may read before it answers, or empty.
        question: what is asked; empty for a plain passage.
        answer: the reference answer, or the passage itself.
        split: ``train`` or ``heldout``.
    """

    id: str
    document_ids: Annotated[tuple[str, ...], Field(min_length=1)]
    group: str
    rule: str
    context: str = ""
    question: str = ""
    answer: str
    split: Literal["train", "heldout"]


class Artifact(Noun):
    """An immutable, content-addressed result of a step.

    Attributes:
        key: the key of the step that made it: digest of code version, config and inputs.
        digest: SHA-256 over the sorted (name, SHA-256) list of its files and its meta.
        step: name of the step.
        path: folder that holds its files, absolute on this machine.
        meta: what the step returned, JSON values.
    """

    key: str
    digest: str
    step: str
    path: str
    meta: dict[str, Any] = Field(default_factory=dict)


# --- asking a model --------------------------------------------------------------------------------------------------


class Usage(Noun):
    """What a request took: tokens, `cached_tokens` of them from a cache; `units`: ranked items, accepted rows."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    units: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


class ToolCall(Noun):
    """A model's wish to have a tool called; `arguments` is JSON as the model wrote it, which may be wrong."""

    id: str
    name: str
    arguments: str


class Message(Noun):
    """One message of a conversation.

    Attributes:
        role: who says it.
        content: text; empty where an assistant only calls tools.
        tool_calls: of an assistant.
        tool_call_id: which call a tool's message answers.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class Tool(Noun):
    """A function that a model may ask to have called; `parameters`: a JSON schema, which `strict` arguments follow."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool = False


class JsonFormat(Noun):
    """The answer must be JSON: a value that follows `json_schema`, or any object if that is None."""

    json_schema: dict[str, Any] | None = None


class Sampling(Noun):
    """How the next token is chosen. `temperature` 0 is greedy; `top_logprobs` None means no log-probabilities.

    `logit_bias` adds to the logits of tokens, by their number in the model's vocabulary.
    """

    max_output_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()


class ChatRequest(Noun):
    """A conversation to be continued.

    Attributes:
        messages: what was said.
        sampling: how the answer is chosen.
        tools: which the model may ask to have called.
        tool_choice: the model decides (``auto``), calls none, must call one, or this one (``function:NAME``).
        parallel_tool_calls: whether one answer may call several.
        json_format: the answer must be JSON; None leaves it free.
    """

    messages: Annotated[tuple[Message, ...], Field(min_length=1)]
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: Annotated[str, Field(pattern=r"^(auto|none|required|function:.+)$")] = "auto"
    parallel_tool_calls: bool = True
    json_format: JsonFormat | None = None

    def callable_tools(self) -> tuple[Tool, ...]:
        """Return the tools that the answer may call: none, the named one, or all."""
        kind, _, name = self.tool_choice.partition(":")
        return () if kind == "none" else tuple(t for t in self.tools if not name or t.name == name)


class TokenLogprob(Noun):
    """A token's text, natural-log probability, likeliest alternatives if asked for, and bytes where they are known."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()
    raw: tuple[int, ...] = ()


FinishReason = Literal["stop", "length", "tool_calls", "cancelled", "error"]


class ToolCallPiece(Noun):
    """A piece of the call of that number in the answer; `id` and `name` are in its first piece only."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(Noun):
    """A piece of an answer. The last one has a finish reason and the usage; its text may be empty."""

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallPiece, ...] = ()


def joined_calls(pieces: Iterable[Delta]) -> tuple[ToolCall, ...]:
    """Return the tool calls that the pieces of an answer make together."""
    calls: dict[int, ToolCall] = {}
    for piece in (call for delta in pieces for call in delta.tool_calls):
        call = calls.get(piece.index) or ToolCall(id="", name="", arguments="")
        calls[piece.index] = ToolCall(
            id=call.id or piece.id, name=call.name or piece.name, arguments=call.arguments + piece.arguments
        )
    return tuple(calls[number] for number in sorted(calls))


class Completion(Noun):
    """A whole answer. The times are the engine's own clock, in seconds since it took the request."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    time_to_first_token_seconds: float | None = None
    seconds: float | None = None


class RawText(Noun):
    """A text as it is, without chat template: exactly one of `text` and `tokens` (numbers in the vocabulary)."""

    text: str = ""
    tokens: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if bool(self.text) == bool(self.tokens):
            raise ValueError("give a text or tokens, one of them")
        return self


class ScoreRequest(RawText):
    """A text whose likelihood is wanted (capability ``score``), and of each token so many alternatives."""

    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0


class ScoreResult(Noun):
    """Sum of natural-log probabilities of all tokens after the first, and how many those are.

    `scored_bytes` are the UTF-8 bytes of those tokens, None where the engine does not know. `tokens` are all tokens in
    order, empty where the engine does not say; the first has no likelihood, and 0 in its place.
    """

    logprob_sum: float
    scored_tokens: int
    scored_bytes: int | None = None
    tokens: tuple[TokenLogprob, ...] = ()
    usage: Usage = Usage()


# --- energy, money, carbon -------------------------------------------------------------------------------------------


class EnergyClass(StrEnum):
    """How a joule is known."""

    MEASURED = "measured"
    ATTRIBUTED = "attributed"
    MODELLED = "modelled"
    ASSUMED = "assumed"


class Boundary(StrEnum):
    """What a joule includes."""

    CHIP = "chip"
    BOARD = "board"
    HOST = "host"
    WALL = "wall"
    FACILITY = "facility"


class Measurement(Noun):
    """Time and energy of something, with provenance. `low` and `high` bound the joules."""

    seconds: float
    joules: float
    joules_low: float
    joules_high: float
    energy_class: EnergyClass
    boundary: Boundary
    source: str


class Carbon(Noun):
    """Grams of CO2-equivalent, with the grid intensity that they were computed from."""

    grams: float
    grams_low: float
    grams_high: float
    grid: str
    grams_per_kilowatt_hour: float
    source: str


class Subject(Noun):
    """Who or what an entry of the ledger is about; empty fields do not apply.

    Attributes:
        kind: ``step`` (of a run) or ``request`` (to the gateway).
        id: unique: a request id, or the step's key with its attempt.
        service_tier: which a request asked for and got, for example ``flex``; empty is the standard one.
        batch: whether a request came in a batch.
    """

    kind: Literal["step", "request"]
    id: str
    name: str = ""
    run: str = ""
    project: str = ""
    key_id: str = ""
    model: str = ""
    service_tier: str = ""
    batch: bool = False


EntryStatus = Literal["ok", "cancelled", "broken", "error"]
"""How the work ended: well; stopped by whoever asked for it; broken off in the middle by the engine or by a kill of the
gateway, with what was generated by then counted here and charged; failed by our own fault, which nobody is charged
for."""


class Entry(Noun):
    """One line of the ledger: what was used, what it took, what it costs. Appended, never changed.

    Attributes:
        started_at: Unix time in seconds.
        energy_cost: what the energy cost the operator.
        charge: what the customer is charged; zero for steps and for requests that failed.
        price_version: version of the price book in force.
    """

    id: str
    subject: Subject
    started_at: float
    status: EntryStatus
    usage: Usage = Usage()
    measurement: Measurement
    carbon: Carbon
    energy_cost: Money = Money()
    charge: Money = Money()
    price_version: str = ""


# --- verdicts --------------------------------------------------------------------------------------------------------


class Interval(Noun):
    """An estimate with its confidence interval; `confidence` is a ratio such as 0.95."""

    value: float
    low: float
    high: float
    confidence: float


class RuleOutcome(Noun):
    """What one rule of a gate found, in numbers and in one sentence."""

    rule: str
    metric: str
    passed: bool
    before: float | None = None
    after: float
    difference: Interval | None = None
    sentence: str


class Verdict(Noun):
    """A gate's decision: a value, not an exception."""

    passed: bool
    outcomes: tuple[RuleOutcome, ...]
