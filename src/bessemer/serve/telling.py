"""What a client is told: OpenAI's chat completion and its chunks, made from the house's own nouns.

`usage` has more than the wire asks for: ``energy`` (joules, how they are known, what they include) and, if the answer
is charged, ``cost`` in whole millionths of a currency unit.

Owns the answer's schema and the event stream's framing. Source: the published OpenAPI description of OpenAI's API.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bessemer.core.nouns import Boundary, Delta, EnergyClass, Entry, TokenLogprob

DONE = b"data: [DONE]\n\n"

_LOWEST_LOGPROB = -9999.0
"""What the wire says for a probability of zero, whose logarithm JSON cannot hold."""

_LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
"""Allowed in JSON, but many clients' line readers split an event there."""


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, serialize_by_alias=True)


class TopLogprob(_Told):
    """A token that might have stood here."""

    token: str
    logprob: float
    bytes: list[int]


class Logprob(TopLogprob):
    """A token of the answer, with the likeliest alternatives."""

    top_logprobs: list[TopLogprob]


class Logprobs(_Told):
    """The log-probabilities of a piece."""

    content: list[Logprob]
    refusal: None = None


class Energy(_Told):
    """What an answer took; `class` says how it is known, `low` and `high` bound it."""

    joules: float
    joules_low: float
    joules_high: float
    energy_class: EnergyClass = Field(serialization_alias="class")
    boundary: Boundary
    source: str


class Cost(_Told):
    """What an answer is charged: whole millionths of a currency unit."""

    micros: int
    currency: str
    price_version: str


class PromptDetails(_Told):
    """Of the prompt's tokens, how many came from a cache."""

    cached_tokens: int


class ToldUsage(_Told):
    """Tokens, energy and cost of an answer, from its entry in the ledger."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    energy: Energy
    cost: Cost | None = None

    @classmethod
    def of(cls, entry: Entry) -> ToldUsage:
        """Return the wire's words for an entry."""
        usage, found, charge = entry.usage, entry.measurement, entry.charge
        return cls(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            prompt_tokens_details=PromptDetails(cached_tokens=usage.cached_tokens),
            energy=Energy(
                joules=found.joules,
                joules_low=found.joules_low,
                joules_high=found.joules_high,
                energy_class=found.energy_class,
                boundary=found.boundary,
                source=found.source,
            ),
            cost=Cost(micros=charge.micros, currency=charge.currency, price_version=entry.price_version)
            if charge.micros
            else None,
        )


class ToldMessage(_Told):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(_Told):
    """The one answer that is given."""

    index: int = 0
    message: ToldMessage
    logprobs: Logprobs | None
    finish_reason: str


class ChatCompletion(_Told):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: ToldUsage
    system_fingerprint: None = None


class ChunkChoice(_Told):
    """A piece of the one answer; `delta` has `role` in the first, `content` in those after it, nothing in the last."""

    index: int = 0
    delta: dict[Literal["role", "content"], str]
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class Chunk(_Told):
    """One event of a stream; `usage` is told in the last one, if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ToldUsage | None = None
    system_fingerprint: None = None


class Model(_Told):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "bessemer"


class ModelList(_Told):
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
                logprob=max(t.logprob, _LOWEST_LOGPROB),
                bytes=list(t.token.encode("utf-8", "replace")),
                top_logprobs=[_top(token, value) for token, value in t.top],
            )
            for t in tokens
        ]
    )


def _top(token: str, logprob: float) -> TopLogprob:
    return TopLogprob(token=token, logprob=max(logprob, _LOWEST_LOGPROB), bytes=list(token.encode("utf-8", "replace")))


class Teller:
    """Writes the answer to one request.

    Args:
        id: of the answer, ``chatcmpl-…``.
        created: Unix seconds.
        model: the name that was asked for.
        with_usage: a stream ends with a chunk that has the usage.
        with_logprobs: log-probabilities were asked for.
    """

    def __init__(self, id: str, created: int, model: str, with_usage: bool, with_logprobs: bool) -> None:
        self._id, self._created, self._model = id, created, model
        self._with_usage, self._with_logprobs = with_usage, with_logprobs

    def first(self) -> bytes:
        """Return the event that begins a stream."""
        return self._chunk([ChunkChoice(delta={"role": "assistant", "content": ""})])

    def piece(self, piece: Delta) -> bytes:
        """Return the event for a piece, or nothing for one that adds nothing."""
        if not piece.text and not piece.logprobs:
            return b""
        logprobs = logprobs_of(piece.logprobs) if self._with_logprobs else None
        return self._chunk([ChunkChoice(delta={"content": piece.text}, logprobs=logprobs)])

    def last(self, finish_reason: str, entry: Entry) -> bytes:
        """Return the events that end a stream."""
        end = self._chunk([ChunkChoice(delta={}, finish_reason=finish_reason)])
        usage = self._chunk([], ToldUsage.of(entry)) if self._with_usage else b""
        return end + usage + DONE

    def whole(self, pieces: list[Delta], finish_reason: str, entry: Entry) -> bytes:
        """Return a whole answer as JSON."""
        tokens = [token for piece in pieces for token in piece.logprobs]
        choice = Choice(
            message=ToldMessage(content="".join(piece.text for piece in pieces)),
            logprobs=logprobs_of(tokens) if self._with_logprobs else None,
            finish_reason=finish_reason,
        )
        answer = ChatCompletion(
            id=self._id, created=self._created, model=self._model, choices=[choice], usage=ToldUsage.of(entry)
        )
        return answer.model_dump_json().encode()

    def _chunk(self, choices: list[ChunkChoice], usage: ToldUsage | None = None) -> bytes:
        chunk = Chunk(id=self._id, created=self._created, model=self._model, choices=choices, usage=usage)
        # The wire has "usage": null in every other chunk when it was asked for, and no such field otherwise.
        return event(chunk.model_dump_json(exclude=None if self._with_usage else {"usage"}))
