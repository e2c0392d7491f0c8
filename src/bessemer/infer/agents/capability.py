"""What a tool is to an agent: what the model is told of it, how it is called, and what it may do to the world.

Owns the call: arguments checked, time bounded, output bounded, secrets struck out, every failure a sentence that the
model may read. Knows no tool in particular.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bessemer.core.acting import Asker, Effects
from bessemer.core.errors import BessemerError, ConfigError
from bessemer.core.nouns import Tool, ToolCall, Usage

Called = Callable[[Mapping[str, Any], "Occasion"], Any]
"""Takes checked arguments and the occasion; returns a text or JSON values, or awaits them."""

Approve = Callable[[ToolCall, "Occasion"], Awaitable[bool]]
"""Asked before a tool that needs approval is called; says whether it may be."""

STRUCK = "[secret]"
_CUT = "\n[cut: {left} more characters]"


@dataclass(frozen=True, slots=True)
class Said:
    """What the model is told of a call: the tool's words, or why there are none, with the code of that error.

    Attributes:
        output: the tool's words.
        error: code of what went wrong.
        usage: of the engines that the tool asked.
        quotes: ids of documents of the lake that the words may quote.
    """

    output: str
    error: str = ""
    usage: Usage = field(default_factory=Usage)
    quotes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a tool returns that asked another engine or read documents.

    Attributes:
        value: its words.
        usage: what the other engine took, which is billed with the answer.
        quotes: ids of documents of the lake that the words may quote, so that an erasure reaches what is kept of them.
    """

    value: Any
    usage: Usage = field(default_factory=Usage)
    quotes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Occasion:
    """For whom and for what a tool is called.

    Attributes:
        asker: who asks the agent.
        idempotency_key: the same when the same call of the same run is made again.
    """

    asker: Asker = field(default_factory=Asker)
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Capability:
    """A tool that an agent can call.

    Attributes:
        tool: what the model is told.
        call: does it; a plain function runs in a thread.
        check: returns the arguments as `call` wants them, or raises ValueError; None takes them as they are.
        effects: what it does to the world; one that has effects which cannot be repeated is never called twice for
            one call of the model, whatever dies meanwhile.
        approval: whether somebody must approve each call.
        trusted: whether nobody from outside can have written what it returns.
        timeout_seconds: of a call.
        most_characters: of its output; what is longer is cut, and says so.
        secrets: never reach the model: where its output has one, it is struck out.
        close: releases what it holds.
        asks: name of the engine that it asks, where that counts what it delivers, too.
        most: that a call can take of it.
    """

    tool: Tool
    call: Called
    check: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    effects: Effects = "none"
    approval: bool = False
    trusted: bool = False
    timeout_seconds: float = 30.0
    most_characters: int = 4_000
    secrets: tuple[str, ...] = ()
    close: Callable[[], Awaitable[None]] | None = None
    asks: str = ""
    most: Usage = field(default_factory=Usage)

    def read(self, arguments: str) -> Mapping[str, Any]:
        """Return the checked arguments of a call.

        Raises:
            ConfigError: they are no JSON object, or not what the tool takes.
        """
        try:
            values = json.loads(arguments or "{}")
            if not isinstance(values, dict):
                raise ValueError("they are no JSON object")
            return self.check(values) if self.check else values
        except (ValueError, RecursionError) as error:
            told = _first_line(error)
            raise ConfigError(f"the arguments of '{self.tool.name}' are wrong: {told}") from error

    async def perform(self, values: Mapping[str, Any], occasion: Occasion) -> Said:
        """Return what the tool says, as text; whatever goes wrong in it is a sentence."""
        name = self.tool.name
        try:
            async with asyncio.timeout(self.timeout_seconds):
                if inspect.iscoroutinefunction(self.call):
                    found = await self.call(values, occasion)
                else:
                    found = await asyncio.to_thread(self.call, values, occasion)
        except TimeoutError:
            return Said(f"'{name}' took longer than {self.timeout_seconds:g} s", "timeout")
        except BessemerError as error:
            return Said(self.shown(error.message), error.code)
        except Exception as error:  # a tool is somebody else's code; what it says of its inside is not for the model
            return Said(f"'{name}' failed: {type(error).__name__}", "backend_error")
        usage, quotes = Usage(), frozenset[str]()
        if isinstance(found, Delivered):
            found, usage, quotes = found.value, found.usage, found.quotes
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
        return Said(self.shown(text), usage=usage, quotes=quotes)

    def shown(self, text: str) -> str:
        """Return a text without secrets, and not longer than it may be."""
        for secret in self.secrets:
            if secret:
                text = text.replace(secret, STRUCK)
        left = len(text) - self.most_characters
        return text if left <= 0 else text[: self.most_characters] + _CUT.format(left=left)


def _first_line(error: BaseException) -> str:
    problems = getattr(error, "errors", None)
    if callable(problems):  # pydantic's: one sentence for each
        return "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}" for each in problems(include_url=False)
        )[:500]
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
