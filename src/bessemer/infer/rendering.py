"""A conversation as the text that a compiled model reads: by its chat template, and by nothing else.

Owns that rendering. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bessemer.core.nouns import Message

_STAND_IN = "bessemer-role-of-a-tool"
"""Stands in the place of the role ``tool`` while a template is rendered that does not know it."""


def read_text(tokenizer: Any, messages: Sequence[Message], plain: Callable[[str], str]) -> str:
    """Return the text that a model reads of a conversation.

    Args:
        tokenizer: a compiled one, with its template.
        messages: which may say anything: what a client wrote, or a document, or a tool.
        plain: breaks the tokenizer's marks in a text, so that no message ends its turn and begins another; see
            `bessemer.core.marks`.
    """
    return rendered(tokenizer, [{"role": m.role, "content": plain(m.content)} for m in messages])


def marks_of(tokenizer: Any) -> list[str]:
    """Return the special tokens of a compiled tokenizer: those that it shows as nothing."""
    raw: list[tuple[bytes, int]] = list(tokenizer.get_vocab().items())
    shown = tokenizer.decode([[id] for _, id in raw])
    return [mark.decode(errors="replace") for (mark, _), text in zip(raw, shown, strict=True) if not text]


def rendered(tokenizer: Any, history: Sequence[dict[str, str]]) -> str:
    """Return a conversation with the mark that begins the next answer, as training renders it.

    A template without a word of tools writes any role as it is; OpenVINO GenAI writes a tool's message as a user's JSON
    then, which a model that was trained on our conversations never saw.

    Args:
        tokenizer: a compiled one, with its template.
        history: messages, each with ``role`` and ``content``.
    """
    turns = [dict(turn) for turn in history]
    if "tool" in str(tokenizer.chat_template):
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=True))
    for turn in turns:
        turn["role"] = _STAND_IN if turn["role"] == "tool" else turn["role"]
    text = str(tokenizer.apply_chat_template(turns, add_generation_prompt=True))
    return text.replace(_STAND_IN, "tool")
