"""Whether a row that a model wrote may stay, and why not.

Owns the checks; each reason says which column and what is wrong, never the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bessemer.lake.writing.columns import Differs, Grounded, Length, Pattern, Validator

_WORD = re.compile(r"\w+")


def wrong_with(row: Mapping[str, Any], validators: tuple[Validator, ...]) -> str:
    """Return the first reason to reject a row; empty if there is none."""
    return next((reason for each in validators if (reason := _reason(row, each))), "")


def _reason(row: Mapping[str, Any], each: Validator) -> str:
    if isinstance(each, Length):
        size = len(str(row[each.column]))
        return "" if each.least <= size <= each.most else f"{each.column}: length is not {each.least} to {each.most}"
    if isinstance(each, Pattern):
        found = re.search(each.pattern, str(row[each.column])) is not None
        told = "matches" if each.absent else "does not match"
        return "" if found != each.absent else f"{each.column}: {told} {each.pattern}"
    if isinstance(each, Differs):
        one, other = (normal(str(row[name])) for name in each.columns)
        return "" if one != other else f"{each.columns[0]} and {each.columns[1]}: the same"
    return _ungrounded(row, each)


def _ungrounded(row: Mapping[str, Any], each: Grounded) -> str:
    words = _WORD.findall(str(row[each.column]).lower())
    within = set(_WORD.findall(str(row[each.within]).lower()))
    ratio = sum(word in within for word in words) / len(words) if words else 0.0
    return "" if ratio >= each.least_ratio else f"{each.column}: not grounded in {each.within}"


def normal(text: str) -> str:
    """Return a text without what does not make it another one: capitals and spaces.

    >>> normal("  A  b\\n")
    'a b'
    """
    return " ".join(text.lower().split())
