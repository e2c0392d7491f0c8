"""Raw texts as clients send them: one or several, as strings or as numbers of the model's vocabulary.

Owns their reading. Knows no endpoint.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from pydantic_core import PydanticCustomError

from bessemer.serve.refusals import Refused, unsupported

MOST_INPUTS = 2048
Input = str | tuple[int, ...]


def as_inputs(value: Any) -> tuple[Input, ...]:
    """Return the texts of a field; a list of numbers is one text."""
    if not isinstance(value, list) or (value and all(_is_token(item) for item in value)):
        value = [value]
    if not 1 <= len(value) <= MOST_INPUTS:
        raise PydanticCustomError("input", "send from 1 to {most} texts", {"most": MOST_INPUTS})
    found: list[Input] = []
    for item in value:
        if isinstance(item, str) and item:
            found.append(item)
        elif isinstance(item, list) and item and all(_is_token(token) for token in item):
            found.append(tuple(item))
        else:
            raise PydanticCustomError(
                "input_type", "must be a text that is not empty, a list of tokens, or a list of these"
            )
    return tuple(found)


def named(inputs: tuple[Input, ...]) -> list[dict[str, Any]]:
    """Return each text as the field of a raw request that it belongs to."""
    return [{"text": item} if isinstance(item, str) else {"tokens": item} for item in inputs]


def refuse_tokens(field: str, inputs: tuple[Input, ...], capabilities: Set[str]) -> None:
    """Refuse texts as tokens if the engine takes none."""
    if "tokens" not in capabilities and not all(isinstance(item, str) for item in inputs):
        raise Refused(unsupported(field, f"The engine of this model takes '{field}' as text only, not as tokens."))


def _is_token(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**31
