"""The reference engine: answers with the last user message. For tests, and for machines without a model.

Owns nothing but the echo; a token is a word with the white space behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from bessemer.core.errors import BudgetExceeded, Unsupported
from bessemer.core.nouns import ChatRequest, Delta, FinishReason, Usage
from bessemer.infer.config import EchoConfig
from bessemer.infer.engines import Counters, complete, minus
from bessemer.infer.text import StopFilter


class EchoEngine:
    """Answers with the last user message, word by word."""

    name = "echo"
    capabilities = frozenset({"chat", "stream", "stop", "seed", "batch"})

    def __init__(self, config: EchoConfig, clock: Callable[[], float] = time.perf_counter) -> None:
        self._config = config
        self._clock = clock
        self._closed = asyncio.Event()
        self.counters = Counters()

    async def respond(self, request: ChatRequest, /) -> Any:
        """Return the whole answer."""
        return await complete(self.stream(request), self._clock)

    async def stream(self, request: ChatRequest, /) -> AsyncGenerator[Delta, None]:
        """Yield the answer word by word.

        Raises:
            Unsupported: the engine is closed, or log-probabilities or a score are asked for.
            BudgetExceeded: the prompt does not fit the context.
        """
        words, usage = self._read(request)
        told = Usage()
        text = StopFilter(request.sampling.stop)
        reason: FinishReason = "stop"
        self.counters = self.counters.plus(requests=1, total=usage)
        try:
            for word in words:
                if usage.output_tokens == request.sampling.max_output_tokens:
                    reason = "length"
                    break
                await self._pause()
                if self._closed.is_set():
                    reason = "cancelled"
                    break
                usage = usage.model_copy(update={"output_tokens": usage.output_tokens + 1})
                self.counters = self.counters.plus(total=Usage(output_tokens=1))
                shown = text.push(word)
                if text.stopped:
                    words = [shown]
                    break
                if shown:
                    told = usage
                    yield Delta(text=shown, usage=usage)
            rest = words[0] if text.stopped else text.finish()
            told = usage
            yield Delta(text=rest, finish_reason=reason, usage=usage)
        finally:
            self.counters = self.counters.plus(undelivered=minus(usage, told))

    async def close(self) -> None:
        """End running answers as cancelled."""
        self._closed.set()

    def _read(self, request: ChatRequest) -> tuple[list[str], Usage]:
        if self._closed.is_set():
            raise Unsupported("the engine is closed", hint="Open another one.")
        if not isinstance(request, ChatRequest):
            raise Unsupported("the echo engine has no model and cannot score", hint="Use the openvino engine.")
        if request.sampling.top_logprobs is not None:
            raise Unsupported("the echo engine has no log-probabilities", hint="Leave logprobs out.")
        read = sum(len(message.content.split()) for message in request.messages)
        if read >= self._config.context_tokens:
            raise BudgetExceeded(
                f"the prompt has {read} tokens, the context {self._config.context_tokens}", hint="Shorten the prompt."
            )
        said = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        return re.findall(r"^\s+|\S+\s*", said), Usage(input_tokens=read)

    async def _pause(self) -> None:
        """Wait one token's time, or until the engine is closed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), self._config.token_seconds)


def open_engine(config: EchoConfig) -> EchoEngine:
    """Return an echo engine."""
    return EchoEngine(config)
