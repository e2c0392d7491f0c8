"""A conversation as the text that a compiled model reads: by its chat template, and by nothing else.

Owns that rendering. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_STAND_IN = "bessemer-role-of-a-tool"
"""Stands in the place of the role ``tool`` while a template is rendered that does not know it."""


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
