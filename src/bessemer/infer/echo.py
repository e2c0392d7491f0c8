"""The reference engine: answers with the last user message. For tests, and for machines without a model.

Owns nothing but the echo; a token is a word with the white space behind it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator

from bessemer.core.errors import BudgetExceeded, Unsupported
from bessemer.core.nouns import ChatRequest, Completion, Delta, FinishReason, Usage
from bessemer.infer.config import EchoConfig
from bessemer.infer.engines import NOTHING, Counters, complete, minus
from bessemer.infer.text import StopFilter


class EchoEngine:
    """Answers with the last user message, word by word."""

    name = "echo"
    capabilities = frozenset({"chat", "stream", "stop", "seed", "batch"})

    def __init__(self, config: EchoConfig, clock: Callable[[], float] = time.perf_counter) -> None:
        self._config = config
        self._clock = clock
        self._closed = False
        self.counters = Counters()

    async def respond(self, request: ChatRequest, /) -> Completion:
        """Return the whole answer."""
        return await complete(self.stream(request), self._clock)

    async def stream(self, request: ChatRequest, /) -> AsyncGenerator[Delta, None]:
        """Yield the answer word by word.

        Raises:
            Unsupported: the engine is closed, or log-probabilities or a score are asked for.
            BudgetExceeded: the prompt does not fit the context.
        """
        usage, taken = self._read(request), NOTHING
        self.counters = self.counters.plus(requests=1, total=usage)
        words, stop = _words(request), StopFilter(request.sampling.stop)
        room = min(request.sampling.max_output_tokens, self._config.context_tokens - usage.input_tokens)
        shown, reason = "", None
        try:
            while reason is None:
                await asyncio.sleep(self._config.token_seconds)
                word = next(words, None)
                reason = self._reason(word, usage.output_tokens == room)
                if reason is None and word is not None:
                    usage = usage.model_copy(update={"output_tokens": usage.output_tokens + 1})
                    self.counters = self.counters.plus(total=Usage(output_tokens=1))
                    shown = stop.push(word)
                    reason = "stop" if stop.stopped else None
                else:
                    shown = stop.finish()
                if shown or reason:
                    taken = usage
                    yield Delta(text=shown, finish_reason=reason, usage=usage)
        finally:
            self.counters = self.counters.plus(undelivered=minus(usage, taken))

    async def close(self) -> None:
        """End running answers as cancelled."""
        self._closed = True

    def _read(self, request: ChatRequest) -> Usage:
        """Return what reading the prompt took, or raise."""
        if self._closed:
            raise Unsupported("the engine is closed", hint="Open another one.")
        if not isinstance(request, ChatRequest):
            raise Unsupported("the echo engine has no model and cannot score", hint="Use the openvino engine.")
        if request.sampling.top_logprobs is not None:
            raise Unsupported("the echo engine has no log-probabilities", hint="Leave logprobs out.")
        read = sum(len(message.content.split()) for message in request.messages)
        if read >= self._config.context_tokens:
            raise BudgetExceeded(
                f"the prompt has {read} tokens, the context takes {self._config.context_tokens} with the answer",
                hint="Shorten the prompt.",
            )
        return Usage(input_tokens=read)

    def _reason(self, word: str | None, full: bool) -> FinishReason | None:
        if self._closed:
            return "cancelled"
        if word is None:
            return "stop"
        return "length" if full else None


def _words(request: ChatRequest) -> Iterator[str]:
    said = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
    return (match.group() for match in re.finditer(r"^\s+|\S+\s*", said))


def open_engine(config: EchoConfig) -> EchoEngine:
    """Return an echo engine."""
    return EchoEngine(config)
