"""What an engine and its worker process say to each other over their pipe.

Owns the messages. The pipe joins a process and its own child, so they travel pickled.
"""

from __future__ import annotations

from dataclasses import dataclass

from bessemer.core.errors import BessemerError
from bessemer.core.nouns import ChatRequest, Delta, ScoreRequest, ScoreResult, Usage
from bessemer.core.raw import PromptRequest
from bessemer.infer.engines import Counters


@dataclass(frozen=True, slots=True)
class Ask:
    """To the worker: begin a request. `id` names it from now on."""

    id: int
    request: ChatRequest | PromptRequest | ScoreRequest


@dataclass(frozen=True, slots=True)
class Count:
    """To the worker: say how many tokens a request has; the reply is that number."""

    id: int
    request: ChatRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """To the worker: end a request; its last Delta still comes. Unknown ids are those that have just finished."""

    id: int


@dataclass(frozen=True, slots=True)
class Stop:
    """To the worker: end, once what was told before is done."""


@dataclass(frozen=True, slots=True)
class Ready:
    """From the worker: the model is loaded."""

    context_tokens: int
    max_prompt_bytes: int


@dataclass(frozen=True, slots=True)
class Step:
    """From the worker: what one step of the batch brought, and its counters after it.

    Attributes:
        replies: request, reply, and what the request took so far (also where the reply is an error).
    """

    replies: tuple[tuple[int, Delta | ScoreResult | int | BessemerError, Usage], ...]
    counters: Counters
