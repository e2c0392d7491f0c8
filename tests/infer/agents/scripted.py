"""A model that says what it was told to say: for tests of what surrounds a model."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from bessemer.core.nouns import ChatRequest, Completion, Delta, ToolCallPiece, Usage
from bessemer.infer.engines import Counters, complete

Line = str | Sequence[tuple[str, dict[str, Any]]] | Callable[[ChatRequest], Any]
"""A text; calls, each a name and arguments; or a function from the request to one of these."""


class Scripted:
    """Says one line after the other; a token is a word of what it reads, and each line is three tokens."""

    name = "scripted"

    def __init__(self, *lines: Line, capabilities: frozenset[str] = frozenset({"chat", "stream", "tools"})) -> None:
        self.lines, self.capabilities = list(lines), capabilities
        self.asked: list[ChatRequest] = []
        self.counters = Counters()

    async def respond(self, request: ChatRequest, /) -> Completion:
        return await complete(self.stream(request), lambda: 0.0)

    async def stream(self, request: ChatRequest, /) -> AsyncGenerator[Delta, None]:
        self.asked.append(request)
        line = self.lines.pop(0)
        line = line(request) if callable(line) else line
        read = Usage(input_tokens=sum(len(m.content.split()) + 1 for m in request.messages))
        yield Delta(usage=read)
        usage = Usage(input_tokens=read.input_tokens, output_tokens=3)
        self.counters = self.counters.plus(1, usage)
        if isinstance(line, str):
            yield Delta(text=line, finish_reason="stop", usage=usage)
            return
        calls = tuple(
            ToolCallPiece(index=number, id=f"x{number}", name=name, arguments=json.dumps(arguments))
            for number, (name, arguments) in enumerate(line)
        )
        yield Delta(finish_reason="tool_calls", usage=usage, tool_calls=calls)

    async def close(self) -> None:
        pass
