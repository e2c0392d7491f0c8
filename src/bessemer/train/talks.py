"""Conversations to learn from, one JSON object on each line, as OpenAI's chat format has them.

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…", "weight": 1}]}

What the assistant says is learnt, except where its weight is 0; all else is only read. Owns the format. Imports nothing
heavy. Source: OpenAI's guide to supervised fine-tuning, "Formatting your data".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Message, Noun

_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


class Talk(Noun):
    """A conversation with what is learnt of it.

    Attributes:
        id: sorts as the lines of its file do.
        messages: in their order.
        learnt: for each message, whether it is learnt; only the assistant's are.
        split: ``train`` or ``heldout``.
    """

    id: str
    messages: tuple[Message, ...]
    learnt: tuple[bool, ...]
    split: Literal["train", "heldout"] = "train"


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(min_length=1)]
    weight: Literal[0, 1] | None = None
    name: str | None = None


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    messages: Annotated[list[_Said], Field(min_length=2)]


def read_talks(path: Path, split: Literal["train", "heldout"] = "train") -> Iterator[Talk]:
    """Yield the conversations of a file; empty lines do not count.

    Args:
        path: of a file of JSON lines, UTF-8.
        split: what they are for.

    Raises:
        ConfigError: a line is something else; the message names it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield read_talk(line, number, split)


def read_talk(line: bytes, number: int, split: Literal["train", "heldout"] = "train") -> Talk:
    """Return the conversation on a line; raises as `read_talks`.

    >>> said = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}'
    >>> read_talk(said, 1).learnt
    (False, True)
    """
    try:
        said = _Line.model_validate(json.loads(line)).messages
    except ValidationError as error:
        item: Any = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _wrong(number, f"{_place(item['loc'])}: {item['msg']}") from None
    except (ValueError, RecursionError):
        raise _wrong(number, "it is not valid JSON") from None
    for at, each in enumerate(said):
        if each.role != "assistant" and each.weight is not None:
            raise _wrong(number, f"messages[{at}].weight: only the assistant's messages have a weight")
    learnt = tuple(each.role == "assistant" and each.weight != 0 for each in said)
    if not any(learnt):
        raise _wrong(number, "no message of the assistant is to be learnt")
    messages = tuple(Message(role=_ROLES[each.role], content=each.content) for each in said)
    return Talk(id=f"{number:012d}", messages=messages, learnt=learnt, split=split)


def _place(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".") or "the line"


def _wrong(number: int, reason: str) -> ConfigError:
    hint = 'Each line is {"messages": […]} with the roles system, user and assistant, and text as content.'
    return ConfigError(f"line {number} cannot be learnt from: {reason}", hint=hint)
