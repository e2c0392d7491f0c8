"""The one prompt that training, evaluation and serving share: what the model reads before it answers.

Owns the wording, and how texts are cut to fit. Knows no tokenizer: the model folder's chat template adds its marks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bessemer.core.nouns import Message

SYSTEM = "Answer from the documentation."
SEPARATOR = "\n\n---\n\n"


def prompt_messages(question: str, context: str = "") -> tuple[Message, ...]:
    """Return the conversation that asks a question about a context.

    Args:
        question: as a person would type it.
        context: documentation that the answer should come from, or empty.

    >>> [message.content for message in prompt_messages("What is tea?", "Tea is a drink.")]
    ['Answer from the documentation.', 'Tea is a drink.\\n\\nQuestion: What is tea?']
    """
    content = f"{context.strip()}\n\nQuestion: {question}" if context.strip() else question
    return Message(role="system", content=SYSTEM), Message(role="user", content=content)


def titled(title: str, text: str) -> str:
    """Return a text with its title above it, unless it begins with it: what a context shows of a document.

    >>> titled("tea: Uses", "Drink it."), titled("re.match", "re.match(pattern)")
    ('tea: Uses\\n\\nDrink it.', 're.match(pattern)')
    """
    return text if not title or text.lstrip("# ").startswith(title) else f"{title}\n\n{text}"


def join_context(texts: Sequence[str], limit_characters: int) -> str:
    """Return texts as one context of at most `limit_characters`; each gets an equal share of what is left.

    The order stays: a retriever puts the best first.

    >>> join_context(["one", "two"], 100)
    'one\\n\\n---\\n\\ntwo'
    """
    room = limit_characters - len(SEPARATOR) * (len(texts) - 1)
    parts = []
    for index, text in enumerate(texts):
        part = excerpt(text, max(0, room) // (len(texts) - index))
        room -= len(part)
        parts.append(part)
    return SEPARATOR.join(part for part in parts if part)


def excerpt(text: str, limit_characters: int) -> str:
    """Return the beginning of a text, cut at the end of a paragraph, sentence or word, in this order of preference.

    A cut that would throw away more than half of the room falls through to the next preference.

    >>> excerpt("First one. Second one. Third", 24)
    'First one. Second one.'
    """
    text = text.strip()
    if len(text) <= limit_characters:
        return text
    head = text[: limit_characters + 1]
    for mark in (r"\n\s*\n", r"(?<=[.!?])\s", r"\s"):
        ends = [match.start() for match in re.finditer(mark, head)]
        if ends and ends[-1] >= limit_characters // 2:
            return head[: ends[-1]].rstrip()
    return head[:limit_characters].rstrip()
