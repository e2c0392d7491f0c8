"""What a batch adds up to: how its lines ended, what they took, and which model answered them.

Owns the sums. Source: the published OpenAPI description of OpenAI's API, batches.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Counts(BaseModel):
    """How many lines there are, and how they ended; at a batch's end, one that was not answered has failed."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Cached(BaseModel):
    """Of the input, how much came from a cache."""

    cached_tokens: int = 0


class Reasoned(BaseModel):
    """Of the output, how much was thought and not said: none here."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """The tokens of all lines that were answered well."""

    input_tokens: int = 0
    input_tokens_details: Cached = Cached()
    output_tokens: int = 0
    output_tokens_details: Reasoned = Reasoned()
    total_tokens: int = 0


class Totals:
    """Adds up the answers to lines.

    Attributes:
        usage: of all so far.
    """

    def __init__(self) -> None:
        self.usage = BatchUsage()
        self._models: set[str] = set()

    @property
    def model(self) -> str | None:
        """The model of all lines, None if there are several, or if none was answered."""
        return next(iter(self._models)) if len(self._models) == 1 else None

    def add(self, body: dict[str, Any]) -> None:
        """Take in the answer to a line, of whichever endpoint."""
        told, was = body.get("usage") or {}, self.usage
        details = told.get("prompt_tokens_details") or told.get("input_tokens_details") or {}
        read = told.get("prompt_tokens", told.get("input_tokens", 0))
        written = told.get("completion_tokens", told.get("output_tokens", 0))
        cached = was.input_tokens_details.cached_tokens + details.get("cached_tokens", 0)
        self.usage = BatchUsage(
            input_tokens=was.input_tokens + read,
            input_tokens_details=Cached(cached_tokens=cached),
            output_tokens=was.output_tokens + written,
            total_tokens=was.total_tokens + read + written,
        )
        self._models.add(str(body.get("model")))
