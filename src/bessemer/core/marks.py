"""The marks that a tokenizer reads as one token each, such as the end of a turn, kept out of what people write.

A chat template joins texts with such marks. A text that has one in it would be read as what it is not: a document that
says ``<|im_end|>`` would end the turn that it stands in, and begin another in any role. So training and inference break
them, the same way. Owns that. Knows no tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def breaker(marks: Iterable[str]) -> Callable[[str], str]:
    """Return what puts a space behind the first character of every mark in a text, and changes nothing else.

    Args:
        marks: of a tokenizer; one of a single character cannot be broken and stays.

    >>> breaker(["<|im_end|>"])("Done.<|im_end|>")
    'Done.< |im_end|>'
    """
    known = sorted({mark for mark in marks if len(mark) > 1}, key=lambda mark: (-len(mark), mark))
    if not known:
        return str
    pattern = re.compile("|".join(map(re.escape, known)))

    def broken(text: str) -> str:
        return pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    return broken
