"""Search terms: how texts and questions about code are cut into words, the same way on both sides.

Owns the analysis. A general tokeniser breaks ``json.dumps`` into two common words or keeps ``json.dumps(obj,``
whole; here a dotted name is a term of its own, rare and telling, beside its parts. Stemming and stop words are left
to the index.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"\w+(?:\.\w+)*")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_A-Za-z]+")


def terms(text: str) -> str:
    """Return the search terms of a text, lower case, separated by spaces.

    >>> terms("json.dumps(obj, *, indent=None)")
    'json.dumps json dumps obj indent none'
    >>> terms("What is a snake_case or CamelCase name?")
    'what is a snake_case snake case or camelcase camel case name'
    """
    return " ".join(term for name in _NAME.findall(text) for term in _terms_of(name))


def names(text: str) -> str:
    """Return only the names of a text as wholes, lower case, separated by spaces.

    >>> names("json.dumps(obj, *, indent=None)")
    'json.dumps obj indent none'
    """
    return " ".join(name.lower() for name in _NAME.findall(text))


def _terms_of(name: str) -> list[str]:
    found = {name.lower(): None}
    for part in name.split("."):
        found[part.lower()] = None
        pieces = _PART.findall(part)
        if len(pieces) > 1:
            found.update(dict.fromkeys(piece.lower() for piece in pieces))
    return [term for term in found if term]
