"""Accepted rows in the shapes that training reads: conversations, preferences, tool calls.

Owns the shapes. Source: OpenAI's guides to supervised and preference fine-tuning, "Formatting your data".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bessemer.lake.writing.columns import CallShape, PreferenceShape, Preferred, TalkShape, WritingConfig


def shaped(row: Mapping[str, Any], config: WritingConfig) -> dict[str, Any]:
    """Return what is written of an accepted row."""
    shape = config.shape
    if isinstance(shape, TalkShape):
        first = [{"role": "system", "content": shape.system}] if shape.system else []
        said = [("user", shape.user), ("assistant", shape.assistant)]
        return {"messages": [*first, *({"role": role, "content": str(row[name])} for role, name in said)]}
    if isinstance(shape, PreferenceShape):
        column = config.columns[shape.preferred]
        assert isinstance(column, Preferred)  # the declaration saw to it
        better = row[shape.preferred]
        worse = column.other if better == column.one else column.one
        return {
            "input": {"messages": [{"role": "user", "content": str(row[shape.user])}]},
            "preferred_output": [{"role": "assistant", "content": str(row[better])}],
            "non_preferred_output": [{"role": "assistant", "content": str(row[worse])}],
        }
    if isinstance(shape, CallShape):
        calls = [
            {
                "id": f"call_{number}", "type": "function",
                "function": {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)},
            }
            for number, call in enumerate(json.loads(row[shape.calls]))
        ]  # fmt: skip
        asked = {"role": "user", "content": str(row[shape.user])}
        return {"messages": [asked, {"role": "assistant", "content": "", "tool_calls": calls}]}
    return dict(row)
