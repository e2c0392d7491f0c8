"""The quality filters: each has a name, its threshold in `CurateConfig`, and says in numbers why it drops a text.

Owns the measures. Sources of the thresholds, where they come from literature: "Gopher" is Rae et al. 2021,
arXiv:2112.11446, appendix A.1 and table A1; "C4" is Raffel et al. 2020, arXiv:1910.10683, section 2.2. Both were set
for web pages; documentation holds code and is short, so that some defaults are looser, which each one says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.nouns import Document
from bessemer.lake.document import reason

FilterName = Literal[
    "duplicate", "too_short", "too_long", "low_alphabetic", "symbols", "repetitive", "boilerplate", "stub"
]
Ratio = Annotated[float, Field(ge=0, le=1)]


class CurateConfig(Config):
    """Which documents are dropped. Every filter can be switched off by name.

    Attributes:
        off: filters that do not run.
        min_characters: shorter is ``too_short`` (Gopher: 50 words; a docstring says something in one line).
        max_characters: longer is ``too_long`` (Gopher: 100,000 words).
        min_alphabetic_ratio: of words with a letter; below is ``low_alphabetic`` (Gopher: 0.8; examples hold numbers).
        max_symbol_ratio: of ``#`` and ellipses to words; above is ``symbols`` (Gopher: 0.1).
        max_duplicate_line_ratio: of lines that stood before; above is ``repetitive`` (Gopher: 0.3).
        max_ngram_ratio: of characters in the commonest run of two to four words; above is ``repetitive`` (Gopher:
            0.20, 0.18 and 0.16 for two, three and four words).
        repetition_min_words: shorter texts are not judged for repetition.
        boilerplate_phrases: a text that holds one is ``boilerplate`` (C4: "lorem ipsum", JavaScript notices).
        stub_max_characters: a text of at most this length that only points elsewhere is a ``stub``.
    """

    off: tuple[FilterName, ...] = ()
    min_characters: Annotated[int, Field(ge=0)] = 30
    max_characters: Annotated[int, Field(ge=1)] = 500_000
    min_alphabetic_ratio: Ratio = 0.3
    max_symbol_ratio: Ratio = 0.1
    max_duplicate_line_ratio: Ratio = 0.3
    max_ngram_ratio: Ratio = 0.2
    repetition_min_words: Annotated[int, Field(ge=2)] = 100
    boilerplate_phrases: tuple[str, ...] = (
        "lorem ipsum",
        "enable javascript",
        "javascript is disabled",
        "accept all cookies",
        "404 not found",
    )
    stub_max_characters: Annotated[int, Field(ge=0)] = 300


_STUB = re.compile(
    r"\s*(?:todo\b|tbd\b|deprecated\b|obsolete\b|undocumented\b|not (?:yet )?(?:implemented|documented)\b"
    r"|(?:this \w+ is|it is) (?:deprecated|obsolete)\b|internal (?:use|helper)\b"
    r"|(?:see (?:also|the|base|super|help|`|:|[\w.]+\()|inherited from |alias (?:for|of|to) )[^\n]{0,60}$"
    r"|initialize self\.|under construction)",
    re.IGNORECASE,
)


def quality_fault(document: Document, config: CurateConfig) -> str:
    """Return the reason of the first filter that drops a document, or an empty string."""
    for name, check in _CHECKS.items():
        if name not in config.off:
            detail = check(document, config)
            if detail:
                return reason(name, detail)
    return ""


def _too_short(document: Document, config: CurateConfig) -> str:
    size = len(document.text.strip())
    return f"{size} characters, fewer than {config.min_characters}" if size < config.min_characters else ""


def _too_long(document: Document, config: CurateConfig) -> str:
    size = len(document.text)
    return f"{size} characters, more than {config.max_characters}" if size > config.max_characters else ""


def _low_alphabetic(document: Document, config: CurateConfig) -> str:
    words = document.text.split()
    ratio = sum(any(c.isalpha() for c in word) for word in words) / len(words) if words else 0.0
    return f"{ratio:.2f} of words have a letter" if ratio < config.min_alphabetic_ratio else ""


def _symbols(document: Document, config: CurateConfig) -> str:
    text, words = document.text, document.text.split()
    # A heading's or comment's mark at the start of a line is markup, and '>>> ... ' is a doctest's prompt.
    counted = re.sub(r"(?m)^\s*(?:#+|\.\.\.)(?=\s|$)", "", text)
    marks = counted.count("#") + counted.count("...") + counted.count("…")
    ratio = marks / len(words) if words else 0.0
    return f"{ratio:.2f} marks per word" if ratio > config.max_symbol_ratio and marks > 3 else ""


def _repetitive(document: Document, config: CurateConfig) -> str:
    words = [word for word in document.text.lower().split() if any(c.isalnum() for c in word)]
    if len(words) < config.repetition_min_words:
        return ""
    lines = [line.strip() for line in document.text.splitlines() if any(c.isalnum() for c in line)]
    repeated = 1 - len(set(lines)) / len(lines)
    if repeated > config.max_duplicate_line_ratio:
        return f"{repeated:.2f} of lines stood before"
    total = sum(len(word) for word in words)
    for size in (2, 3, 4):
        share = _commonest_share(words, size, total)
        if share > config.max_ngram_ratio:
            return f"one run of {size} words makes {share:.2f} of the text"
    return ""


def _commonest_share(words: Sequence[str], size: int, total: int) -> float:
    """Return the share of characters in the commonest n-gram, all its occurrences counted."""
    grams = Counter(zip(*(words[start:] for start in range(size)), strict=False))
    gram, count = max(grams.items(), key=lambda item: item[1], default=((), 0))
    return sum(len(word) for word in gram) * count / total if count > 1 else 0.0


def _boilerplate(document: Document, config: CurateConfig) -> str:
    text = document.text.lower()
    found = next((phrase for phrase in config.boilerplate_phrases if phrase.lower() in text), "")
    return f"holds '{found}'" if found else ""


def _stub(document: Document, config: CurateConfig) -> str:
    """Judge what a text says: for Python documentation that begins after the signature."""
    name = document.meta.get("signature") or document.meta.get("name") or ""
    says = document.text.removeprefix(name).strip() if name else document.text.strip()
    found = _STUB.match(says) if len(says) <= config.stub_max_characters else None
    return f"only says '{says.splitlines()[0][:60]}'" if found else ""


_CHECKS: dict[FilterName, Callable[[Document, CurateConfig], str]] = {
    "too_short": _too_short,
    "too_long": _too_long,
    "boilerplate": _boilerplate,
    "stub": _stub,
    "low_alphabetic": _low_alphabetic,
    "symbols": _symbols,
    "repetitive": _repetitive,
}
"""In the order of their cost; a duplicate is looked for after them, among what they keep."""
