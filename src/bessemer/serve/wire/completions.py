"""``POST /v1/completions``: raw texts in, their continuations out; with `echo` and `logprobs`, how likely they are.

Owns the endpoint's schema. Source: the published OpenAPI description of OpenAI's API, completions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from bessemer.core.nouns import Delta, Entry, Sampling, ScoreRequest, ScoreResult, TokenLogprob
from bessemer.core.raw import PromptRequest
from bessemer.serve.asking import MAX_ANSWERS, Only, StreamOptions, Wire, as_bias, as_stops
from bessemer.serve.refusals import Refused, invalid, of_validation, unsupported
from bessemer.serve.serving import Answer, Caller, Order, Wanted
from bessemer.serve.telling import DONE, LOWEST_LOGPROB, Told, ToldUsage, event
from bessemer.serve.wire.inputs import Input, as_inputs, named, refuse_tokens


class AskedText(Wire):
    """The body; null is the same as left out."""

    model: str
    prompt: Annotated[tuple[Input, ...], BeforeValidator(as_inputs)]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(as_stops)] = ()
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[int, float] | None, BeforeValidator(as_bias)] = None

    suffix: Annotated[Any, Only("")] = None
    best_of: Annotated[Any, Only(1)] = None

    user: Any = None

    def to_wanted(self, caller: Caller, can: frozenset[str]) -> tuple[Wanted, ...]:
        """Return the continuations that are wanted, then the likelihoods of the prompts.

        Raises:
            Refused: fields contradict each other, or the engine lacks a capability.
        """
        self._refuse_contradictions(caller)
        scored = bool(self.echo) and self.logprobs is not None
        for field, asked, capability in (
            ("model", self.max_tokens != 0, "prompt"),
            ("echo", scored, "score"),
            ("logprobs", self.logprobs is not None and self.max_tokens != 0, "logprobs"),
            ("stop", self.stop, "stop"),
            ("seed", self.seed is not None, "seed"),
            ("frequency_penalty", self.frequency_penalty, "penalties"),
            ("presence_penalty", self.presence_penalty, "penalties"),
            ("logit_bias", self.logit_bias, "logit_bias"),
        ):
            if asked and capability not in can:
                raise Refused(unsupported(field, f"The engine of this model lacks '{capability}'."))
        refuse_tokens("prompt", self.prompt, can)
        texts = named(self.prompt)
        wanted: list[Wanted] = []
        if self.max_tokens != 0:
            tops = self.logprobs if "top_logprobs" in can else self.logprobs and 0
            samplings = [self._sampling(number, tops, caller) for number in range(self.n or 1)]
            wanted += [PromptRequest(**text, sampling=sampling) for text in texts for sampling in samplings]
        likeliest = (self.logprobs or 0) if "top_logprobs" in can else 0
        return (*wanted, *(ScoreRequest(**text, top_logprobs=likeliest) for text in texts if scored))

    def _refuse_contradictions(self, caller: Caller) -> None:
        if self.stream_options and not self.stream:
            raise Refused(invalid("stream_options", "'stream_options' is only taken with 'stream': true."))
        if (self.max_tokens or 0) > caller.config.max_output_tokens:
            raise Refused(
                invalid("max_tokens", f"'max_tokens' is too large: at most {caller.config.max_output_tokens}.")
            )
        scored = bool(self.echo) and self.logprobs is not None
        if self.max_tokens == 0 and (not scored or self.stream or (self.n or 1) > 1):
            raise Refused(
                invalid("max_tokens", "'max_tokens': 0 needs 'echo' and 'logprobs', no 'stream' and no 'n' over 1.")
            )
        if scored and self.stream:
            raise Refused(invalid("stream", "'echo' with 'logprobs' is not streamed."))
        if self.echo and not scored and not all(isinstance(text, str) for text in self.prompt):
            raise Refused(invalid("echo", "'echo' of tokens needs 'logprobs'."))
        if len(self.prompt) * (self.n or 1) > MAX_ANSWERS * 16:
            raise Refused(invalid("n", f"At most {MAX_ANSWERS * 16} answers are given to one request."))

    def _sampling(self, number: int, top_logprobs: int | None, caller: Caller) -> Sampling:
        given: dict[str, Any] = {
            "max_output_tokens": self.max_tokens or min(16, caller.config.max_output_tokens),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": None if self.seed is None else self.seed + number,
            "stop": self.stop,
            "top_logprobs": top_logprobs,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "logit_bias": tuple((self.logit_bias or {}).items()),
        }
        return Sampling(**{name: value for name, value in given.items() if value is not None})


class TextLogprobs(Told):
    """Likelihoods of the tokens of a text, and where each begins in it, in characters."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Told):
    """A continuation, or a piece of one."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None


class TextCompletion(Told):
    """All continuations, or pieces of them."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: ToldUsage | None = None


async def read_text(body: bytes, caller: Caller) -> Order:
    """Return the order in a body.

    Raises:
        Refused: a field is wrong, or the engine cannot do what it asks.
    """
    try:
        asked = AskedText.model_validate_json(body)
    except ValidationError as error:
        raise Refused(of_validation(error, AskedText)) from None
    engine = await caller.engine(asked.model)
    wanted, teller = asked.to_wanted(caller, engine.capabilities), _TextTeller(asked, caller)
    return Order(asked.model, engine, wanted, teller, bool(asked.stream), names={"messages": "prompt"})


class _TextTeller:
    """Tells continuations."""

    keeps = False

    def __init__(self, asked: AskedText, caller: Caller) -> None:
        self._asked, self._id, self._created = asked, caller.id("cmpl-"), caller.created
        self._usage_wanted = bool(asked.stream_options and asked.stream_options.include_usage)
        self._begun: set[int] = set()
        self._offsets: dict[int, int] = {}

    def first(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Delta) -> bytes:
        text = piece.text
        if index not in self._begun:
            self._begun.add(index)
            text = self._echoed(index) + text
        if not text and not piece.logprobs:
            return b""
        logprobs = None
        if self._asked.logprobs is not None:
            logprobs = _logprobs(list(piece.logprobs), self._offsets.get(index, 0), scored=0)
            self._offsets[index] = self._offsets.get(index, 0) + sum(len(t.token) for t in piece.logprobs)
        return self._event([TextChoice(index=index, text=text, logprobs=logprobs)])

    def last(self, answers: list[Answer], entry: Entry) -> bytes:
        ends = [
            TextChoice(index=index, text="", finish_reason=answer.finish_reason) for index, answer in enumerate(answers)
        ]
        usage = self._event([], ToldUsage.of(entry)) if self._usage_wanted else b""
        return b"".join(self._event([end]) for end in ends) + usage + DONE

    def whole(self, answers: list[Answer], entry: Entry) -> bytes:
        scores = [piece for answer in answers for piece in answer.pieces if isinstance(piece, ScoreResult)]
        texts = answers[: len(answers) - len(scores)]
        if texts:
            each = len(texts) // len(self._asked.prompt)
            choices = [
                self._choice(index, answer, scores[index // each] if scores else None)
                for index, answer in enumerate(texts)
            ]
        else:
            choices = [self._choice(index, None, score) for index, score in enumerate(scores)]
        return self._completion(choices, ToldUsage.of(entry)).model_dump_json().encode()

    async def keep(self, answers: list[Answer]) -> None:
        """Store nothing: the wire has no such wish here."""

    def _choice(self, index: int, answer: Answer | None, score: ScoreResult | None) -> TextChoice:
        prompt = list(score.tokens) if score else []
        said = [token for delta in answer.deltas for token in delta.logprobs] if answer else []
        begin = "".join(token.token for token in prompt) if score else self._echoed(index)
        return TextChoice(
            index=index,
            text=begin + (answer.text if answer else ""),
            logprobs=_logprobs(prompt + said, 0, len(prompt)) if self._asked.logprobs is not None else None,
            finish_reason=answer.finish_reason if answer else "length",
        )

    def _echoed(self, index: int) -> str:
        prompt = self._asked.prompt[index // (self._asked.n or 1)]
        return prompt if self._asked.echo and isinstance(prompt, str) else ""

    def _event(self, choices: list[TextChoice], usage: ToldUsage | None = None) -> bytes:
        told = self._completion(choices, usage)
        return event(told.model_dump_json(exclude=None if self._usage_wanted else {"usage"}))

    def _completion(self, choices: list[TextChoice], usage: ToldUsage | None) -> TextCompletion:
        return TextCompletion(id=self._id, created=self._created, model=self._asked.model, choices=choices, usage=usage)


def _logprobs(tokens: list[TokenLogprob], offset: int, scored: int) -> TextLogprobs:
    """Return the wire's words; of `scored` tokens of a prompt, the first has no likelihood."""
    offsets, values, tops = [], [], []
    for number, token in enumerate(tokens):
        unknown = scored > 0 and number == 0
        value = max(token.logprob, LOWEST_LOGPROB)
        offsets.append(offset)
        values.append(None if unknown else value)
        alternatives = {name: max(logprob, LOWEST_LOGPROB) for name, logprob in token.top}
        tops.append(None if unknown else {**alternatives, token.token: value})
        offset += len(token.token)
    return TextLogprobs(tokens=[t.token for t in tokens], token_logprobs=values, top_logprobs=tops, text_offset=offsets)
