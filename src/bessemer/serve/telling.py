"""What a client is told: OpenAI's chat completion and its chunks, made from the house's own nouns.

`usage` has more than the wire asks for: ``energy`` (joules, how they are known, what they include) and, if the answer
is charged, ``cost`` in whole millionths of a currency unit.

Owns the answer's schema and the event stream's framing. Source: the published OpenAPI description of OpenAI's API.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from bessemer.core.acting import Act, acts_of
from bessemer.core.nouns import Boundary, Delta, EnergyClass, Entry, TokenLogprob, ToolCallPiece, Usage

if TYPE_CHECKING:
    from bessemer.serve.serving import Answer

DONE = b"data: [DONE]\n\n"

LOWEST_LOGPROB = -9999.0
"""What the wire says for a probability of zero, whose logarithm JSON cannot hold."""

_LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
"""Allowed in JSON, but many clients' line readers split an event there."""


class Told(BaseModel):
    """Base of what clients are told."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True)


class TopLogprob(Told):
    """A token that might have stood here."""

    token: str
    logprob: float
    bytes: list[int] | None


class Logprob(TopLogprob):
    """A token of the answer, with the likeliest alternatives."""

    top_logprobs: list[TopLogprob]


class Logprobs(Told):
    """The log-probabilities of a piece."""

    content: list[Logprob]
    refusal: None = None


class Energy(Told):
    """What an answer took; `class` says how it is known, `low` and `high` bound it."""

    joules: float
    joules_low: float
    joules_high: float
    energy_class: EnergyClass = Field(serialization_alias="class")
    boundary: Boundary
    source: str


class Cost(Told):
    """What an answer is charged: whole millionths of a currency unit."""

    micros: int
    currency: str
    price_version: str


class PromptDetails(Told):
    """Of the prompt's tokens, how many came from a cache."""

    cached_tokens: int


class ToldUsage(Told):
    """Tokens, energy and cost of an answer, from its entry in the ledger."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    energy: Energy | None = None
    cost: Cost | None = None

    @classmethod
    def of(cls, entry: Entry) -> ToldUsage:
        """Return the wire's words for an entry."""
        found, charge = entry.measurement, entry.charge
        energy = Energy(
            joules=found.joules,
            joules_low=found.joules_low,
            joules_high=found.joules_high,
            energy_class=found.energy_class,
            boundary=found.boundary,
            source=found.source,
        )
        cost = Cost(micros=charge.micros, currency=charge.currency, price_version=entry.price_version)
        update = {"energy": energy, "cost": cost if charge.micros else None}
        return cls._of(entry.usage).model_copy(update=update)

    @classmethod
    def of_tokens(cls, answers: Iterable[Answer]) -> ToldUsage:
        """Return the wire's words for answers that are not booked yet: tokens only."""
        total = Usage()
        for answer in answers:
            total = Usage(
                input_tokens=total.input_tokens + answer.usage.input_tokens,
                output_tokens=total.output_tokens + answer.usage.output_tokens,
                cached_tokens=total.cached_tokens + answer.usage.cached_tokens,
            )
        return cls._of(total)

    @classmethod
    def _of(cls, usage: Usage) -> ToldUsage:
        return cls(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            prompt_tokens_details=PromptDetails(cached_tokens=usage.cached_tokens),
        )


class ToldFunction(Told):
    """What is called; in a stream, a piece of it."""

    name: str | None = None
    arguments: str


class ToldCall(Told):
    """A tool call; `index` is its number in the answer, told in streams."""

    index: int | None = None
    id: str | None = None
    type: Literal["function"] | None = "function"
    function: ToldFunction


class ToldMessage(Told):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToldCall] | None = None
    acts: list[dict[str, Any]] | None = None

    @model_serializer(mode="wrap")
    def _without_calls(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The wire leaves `tool_calls` out where there are none."""
        told: dict[str, Any] = write(self)
        if self.acts is None:
            told.pop("acts", None)
        if self.tool_calls is None:
            told.pop("tool_calls", None)
        else:
            told["tool_calls"] = [call.model_dump(exclude_none=True) for call in self.tool_calls]
        return told


class Choice(Told):
    """One of the answers."""

    index: int = 0
    message: ToldMessage
    logprobs: Logprobs | None
    finish_reason: str


class ChatCompletion(Told):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: ToldUsage
    service_tier: str = "default"
    system_fingerprint: None = None


class ChunkChoice(Told):
    """A piece of an answer; `delta` has `role` in the first, `content` or calls after it, nothing in the last."""

    index: int = 0
    delta: dict[Literal["role", "content", "tool_calls", "acts"], Any]
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class Chunk(Told):
    """One event of a stream; `usage` is told in the last one, if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ToldUsage | None = None
    service_tier: str = "default"
    system_fingerprint: None = None


class Model(Told):
    """A model that is served; `capabilities` is our own field: what its engine can do."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "bessemer"
    capabilities: list[str] = []


class ModelList(Told):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[Model]


def event(data: str) -> bytes:
    """Return one event of the stream.

    >>> event('{"text": "a\\u2028b"}')
    b'data: {"text": "a\\\\u2028b"}\\n\\n'
    """
    return f"data: {data.translate(_LINE_ENDS)}\n\n".encode()


def logprobs_of(tokens: Iterable[TokenLogprob]) -> Logprobs:
    """Return the wire's words for log-probabilities."""
    return Logprobs(
        content=[
            Logprob(
                token=t.token,
                logprob=max(t.logprob, LOWEST_LOGPROB),
                bytes=list(t.raw) or _bytes_of(t.token),
                top_logprobs=[_top(token, value) for token, value in t.top],
            )
            for t in tokens
        ]
    )


def _top(token: str, logprob: float) -> TopLogprob:
    return TopLogprob(token=token, logprob=max(logprob, LOWEST_LOGPROB), bytes=_bytes_of(token))


def _bytes_of(token: str) -> list[int] | None:
    """Return the bytes of a token's text; None where the text does not tell them, as of a part of a character."""
    return None if "\ufffd" in token else list(token.encode("utf-8", "replace"))


class Teller:
    """Writes the answers to one request.

    Args:
        id: of the answer, ``chatcmpl-…``.
        created: Unix seconds.
        model: the name that was asked for.
        with_usage: a stream ends with a chunk that has the usage.
        with_logprobs: log-probabilities were asked for.
    """

    keeps = False
    with_acts = False
    """Whether an agent's acts are told besides its answer."""
    service_tier = "default"
    """In which the answer was made, and by whose price it is charged."""

    def __init__(self, id: str, created: int, model: str, with_usage: bool, with_logprobs: bool) -> None:
        self.id, self.created, self._model = id, created, model
        self._with_usage, self._with_logprobs = with_usage, with_logprobs
        self._begun: set[int] = set()

    def first(self) -> bytes:
        """Return nothing: each answer begins with its own first piece."""
        return b""

    def piece(self, index: int, piece: Delta) -> bytes:
        """Return the events for a piece, or nothing for one that adds nothing."""
        begin = b""
        if index not in self._begun:
            self._begun.add(index)
            begin = self._chunk([ChunkChoice(index=index, delta={"role": "assistant", "content": ""})])
        acts = acts_of([piece]) if self.with_acts else ()
        if not piece.text and not piece.logprobs and not piece.tool_calls and not acts:
            return begin
        logprobs = logprobs_of(piece.logprobs) if self._with_logprobs else None
        delta: dict[Literal["role", "content", "tool_calls", "acts"], Any] = {}
        if acts:
            delta["acts"] = told_acts(acts)
        if piece.text or not (piece.tool_calls or acts):
            delta["content"] = piece.text
        if piece.tool_calls:
            delta["tool_calls"] = [_call_piece(call) for call in piece.tool_calls]
        return begin + self._chunk([ChunkChoice(index=index, delta=delta, logprobs=logprobs)])

    def last(self, answers: list[Answer], entry: Entry) -> bytes:
        """Return the events that end a stream."""
        ends = (
            self._chunk([ChunkChoice(index=index, delta={}, finish_reason=answer.finish_reason)])
            for index, answer in enumerate(answers)
        )
        usage = self._chunk([], ToldUsage.of(entry)) if self._with_usage else b""
        return b"".join(ends) + usage + DONE

    def whole(self, answers: list[Answer], entry: Entry) -> bytes:
        """Return the whole answers as JSON."""
        return self.completion(answers, ToldUsage.of(entry)).model_dump_json().encode()

    async def keep(self, answers: list[Answer]) -> None:
        """Store nothing."""

    def completion(self, answers: list[Answer], usage: ToldUsage) -> ChatCompletion:
        """Return the whole answers."""
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self._model,
            choices=[self._choice(index, answer) for index, answer in enumerate(answers)],
            usage=usage,
            service_tier=self.service_tier,
        )

    def _choice(self, index: int, answer: Answer) -> Choice:
        calls = [
            ToldCall(id=call.id, function=ToldFunction(name=call.name, arguments=call.arguments))
            for call in answer.tool_calls
        ]
        tokens = [token for piece in answer.deltas for token in piece.logprobs]
        text = answer.text
        return Choice(
            index=index,
            message=ToldMessage(
                content=text if text or not calls else None,
                tool_calls=calls or None,
                acts=told_acts(acts_of(answer.deltas)) if self.with_acts else None,
            ),
            logprobs=logprobs_of(tokens) if self._with_logprobs else None,
            finish_reason=answer.finish_reason,
        )

    def _chunk(self, choices: list[ChunkChoice], usage: ToldUsage | None = None) -> bytes:
        chunk = Chunk(
            id=self.id,
            created=self.created,
            model=self._model,
            choices=choices,
            usage=usage,
            service_tier=self.service_tier,
        )
        # The wire has "usage": null in every other chunk when it was asked for, and no such field otherwise.
        return event(chunk.model_dump_json(exclude=None if self._with_usage else {"usage"}))


def told_acts(acts: Iterable[Act]) -> list[dict[str, Any]]:
    """Return the wire's words for what an agent did: a field of our own."""
    return [act.model_dump(mode="json", exclude_defaults=True) | {"number": act.number} for act in acts]


def _call_piece(call: ToolCallPiece) -> dict[str, Any]:
    function = ToldFunction(name=call.name or None, arguments=call.arguments)
    told = ToldCall(index=call.index, id=call.id or None, type="function" if call.id else None, function=function)
    return told.model_dump(exclude_none=True)
