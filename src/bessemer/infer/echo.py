"""The reference engine: answers with the last user message. For tests, and for machines without a model.

What it lacks in wisdom it has in manners: it calls a tool that the last message names, answers in JSON that follows a
schema, scores as the model that finds all bytes equally likely, and embeds by hashing words. All of it is the same each
time.

Owns nothing but the echo; a token is a word with the white space behind it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import overload

from bessemer.core.errors import BudgetExceeded, Unsupported
from bessemer.core.nouns import (
    ChatRequest,
    Completion,
    Delta,
    FinishReason,
    ScoreRequest,
    ScoreResult,
    TokenLogprob,
    ToolCallPiece,
    Usage,
)
from bessemer.core.raw import EmbedRequest, EmbedResult, PromptRequest
from bessemer.infer import schemas
from bessemer.infer.config import EchoConfig
from bessemer.infer.engines import NOTHING, Counters, complete, minus
from bessemer.infer.instance import instance
from bessemer.infer.text import StopFilter

_DIMENSIONS = 256
_LOG_BYTE = math.log(256)

Asked = ChatRequest | PromptRequest


class EchoEngine:
    """Answers with the last user message, word by word."""

    name = "echo"
    capabilities = frozenset(
        {"chat", "stream", "stop", "seed", "batch", "tools", "json_object", "json_schema", "prompt", "score", "embed"}
    )

    def __init__(self, config: EchoConfig, clock: Callable[[], float] = time.perf_counter) -> None:
        self._config = config
        self._clock = clock
        self._closed = False
        self.counters = Counters()

    @overload
    async def respond(self, request: Asked, /) -> Completion: ...
    @overload
    async def respond(self, request: ScoreRequest, /) -> ScoreResult: ...
    @overload
    async def respond(self, request: EmbedRequest, /) -> EmbedResult: ...
    async def respond(self, request: Asked | ScoreRequest | EmbedRequest, /) -> Completion | ScoreResult | EmbedResult:
        """Return the whole answer, the likelihood of a text, or its vector; see `stream` for what it raises."""
        if isinstance(request, ChatRequest | PromptRequest):
            return await complete(self.stream(request), self._clock)
        usage = self._read(request)
        self.counters = self.counters.plus(requests=1, total=usage)
        if isinstance(request, EmbedRequest):
            return EmbedResult(vector=_vector(request.text, request.dimensions or _DIMENSIONS), usage=usage)
        return _score(request.text, usage)

    async def stream(self, request: Asked, /) -> AsyncGenerator[Delta, None]:
        """Yield the answer word by word.

        Raises:
            Unsupported: the engine is closed, or something is asked that `capabilities` leave out.
            BudgetExceeded: the prompt does not fit the context.
        """
        usage, taken = self._read(request), NOTHING
        self.counters = self.counters.plus(requests=1, total=usage)
        words, stop = _answer(request), StopFilter(request.sampling.stop)
        room = min(request.sampling.max_output_tokens, self._config.context_tokens - usage.input_tokens)
        shown, reason, calling = "", None, False
        try:
            while reason is None:
                await asyncio.sleep(self._config.token_seconds)
                word = next(words, None)
                reason = self._reason(word, usage.output_tokens == room)
                call: tuple[ToolCallPiece, ...] = ()
                if reason is None and word is not None:
                    usage = usage.model_copy(update={"output_tokens": usage.output_tokens + 1})
                    self.counters = self.counters.plus(total=Usage(output_tokens=1))
                    if isinstance(word, ToolCallPiece):
                        shown, call, calling = "", (word,), True
                    else:
                        shown = stop.push(word)
                    reason = "stop" if stop.stopped else None
                else:
                    shown = stop.finish()
                    reason = "tool_calls" if calling and reason == "stop" else reason
                if shown or reason or call:
                    taken = usage
                    yield Delta(text=shown, finish_reason=reason, usage=usage, tool_calls=call)
        finally:
            self.counters = self.counters.plus(undelivered=minus(usage, taken))

    async def count_tokens(self, request: ChatRequest, /) -> int:
        """Return how many words would be read; see `stream` for what it raises."""
        return self._read(request).input_tokens

    async def close(self) -> None:
        """End running answers as cancelled."""
        self._closed = True

    def _read(self, request: Asked | ScoreRequest | EmbedRequest) -> Usage:
        """Return what reading the prompt took, or raise."""
        if self._closed:
            raise Unsupported("the engine is closed", hint="Open another one.")
        if isinstance(request, ChatRequest):
            schemas.check(request)
            texts = [message.content for message in request.messages]
        elif request.tokens or not request.text:
            raise Unsupported("the echo engine has no vocabulary: it takes text only", hint="Send text, not tokens.")
        else:
            texts = [request.text]
        if isinstance(request, ChatRequest | PromptRequest):
            sampling = request.sampling
            if sampling.top_logprobs is not None:
                raise Unsupported("the echo engine has no log-probabilities", hint="Leave logprobs out.")
            if sampling.frequency_penalty or sampling.presence_penalty or sampling.logit_bias:
                raise Unsupported("the echo engine has no penalties and no bias", hint="Leave them out.")
        read = sum(len(text.split()) for text in texts)
        if read >= self._config.context_tokens:
            raise BudgetExceeded(
                f"the prompt has {read} tokens, the context takes {self._config.context_tokens} with the answer",
                hint="Shorten the prompt.",
            )
        return Usage(input_tokens=read)

    def _reason(self, word: object, full: bool) -> FinishReason | None:
        if self._closed:
            return "cancelled"
        if word is None:
            return "stop"
        return "length" if full else None


def _answer(request: Asked) -> Iterator[str | ToolCallPiece]:
    if isinstance(request, PromptRequest):
        return iter(_words(request.text))
    said = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
    last = request.messages[-1]
    if last.role == "tool":
        said = last.content
    elif called := _called(request, said):
        return iter(called)
    form = request.json_format
    if form is not None:
        value = {"answer": said} if form.json_schema is None else instance(form.json_schema, said)
        said = json.dumps(value, ensure_ascii=False)
    return iter(_words(said))


def _called(request: ChatRequest, said: str) -> list[ToolCallPiece]:
    """Return the calls that a message asks for: of the tools that it names, or of the first if one must be called."""
    tools = request.callable_tools()
    named = [tool for tool in tools if re.search(rf"(?<![\w-]){re.escape(tool.name)}(?![\w-])", said)]
    chosen = named or (list(tools[:1]) if request.tool_choice != "auto" else [])
    pieces = []
    for index, tool in enumerate(chosen if request.parallel_tool_calls else chosen[:1]):
        arguments = json.dumps(instance({"type": "object", **tool.parameters}, said), ensure_ascii=False)
        id = "call_" + hashlib.sha256(f"{index} {tool.name} {arguments}".encode()).hexdigest()[:24]
        first, *rest = _words(arguments)
        pieces.append(ToolCallPiece(index=index, id=id, name=tool.name, arguments=first))
        pieces += [ToolCallPiece(index=index, arguments=word) for word in rest]
    return pieces


def _words(text: str) -> list[str]:
    return [match.group() for match in re.finditer(r"^\s+|\S+\s*", text)]


def _score(text: str, usage: Usage) -> ScoreResult:
    """Return the likelihood of a text if all bytes are equally likely."""
    first, *rest = _words(text)
    scored = [TokenLogprob(token=word, logprob=-_LOG_BYTE * len(word.encode())) for word in rest]
    return ScoreResult(
        logprob_sum=sum(token.logprob for token in scored),
        scored_tokens=len(scored),
        scored_bytes=sum(len(word.encode()) for word in rest),
        tokens=(TokenLogprob(token=first, logprob=0.0), *scored),
        usage=usage,
    )


def _vector(text: str, dimensions: int) -> tuple[float, ...]:
    """Return the words of a text, hashed to signed places of a vector of length 1.

    Source: Weinberger et al. 2009, Feature hashing for large scale multitask learning (arXiv 0902.2206).
    """
    sums = [0.0] * dimensions
    for word in text.lower().split():
        number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        sums[(number >> 1) % dimensions] += 1 if number & 1 else -1
    norm = math.sqrt(sum(value * value for value in sums))
    return tuple(value / norm for value in sums) if norm else (1.0, *[0.0] * (dimensions - 1))


def open_engine(config: EchoConfig) -> EchoEngine:
    """Return an echo engine."""
    return EchoEngine(config)
