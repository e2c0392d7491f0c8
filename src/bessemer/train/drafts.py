"""What rules work on and what they give: a Section of a document in, a Draft of an example out.

Owns the two records, and how a long text falls into sections. Knows no rule.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bessemer.core.digest import digest
from bessemer.core.nouns import Document
from bessemer.train.prompt import titled

MIN_SECTION_CHARACTERS = 40
PYTHON_KINDS = ("module", "class", "function", "method", "property")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document that one question can be about.

    Attributes:
        id: stable digest of document and text.
        document: where it stands.
        heading: what it is called: the qualified name of a Python object, or the heading above the text.
        text: with its heading.
        neighbourhood: sections with the same one may share a context, as a retriever would mix them.
    """

    id: str
    document: Document
    heading: str
    text: str
    neighbourhood: str

    @property
    def group(self) -> str:
        """What must stay together when data is split."""
        return self.document.group

    def fact(self, key: str) -> str:
        """Return what the reader found under a key of the document's meta, or an empty string."""
        return self.document.meta.get(key, "")

    @property
    def shown(self) -> str:
        """The text as a context shows it: with what it is called above it."""
        return titled(self.heading, self.text)

    @property
    def body(self) -> str:
        """The text without its heading line."""
        return re.sub(r"\A\s*#{1,6} [^\n]*\n", "", self.text).strip()


@dataclass(frozen=True, slots=True)
class Draft:
    """A question, its answer, and the sections that a reader needs to answer it.

    Attributes:
        evidence: what the context must hold, whitespace aside, for the answer to follow from it.
    """

    question: str
    answer: str
    sections: tuple[Section, ...]
    evidence: str


Rule = Callable[[Section, Sequence[Section], random.Random], Draft | None]
"""(section, its neighbours without it, this section's choices) -> a draft, or None where the rule does not apply."""


def sections_of(document: Document) -> Iterator[Section]:
    """Yield a document's sections: one where its reader has cut it already, else one below each Markdown heading.

    Headings inside code fences do not count. A section too short to ask about is left out.
    """
    if is_python(document):
        yield _section(document, document.meta["name"], document.text, document.meta.get("module", document.group))
        return
    heading, lines, fenced = document.title, list[str](), False
    for line in document.text.splitlines():
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        found = None if fenced or document.meta.get("part") else re.match(r"#{1,6} +(.+?)[ #]*$", line)
        if found:
            yield from _worthy(document, heading, lines)
            heading, lines = plain(found.group(1)), []
        lines.append(line)
    yield from _worthy(document, heading, lines)


def is_python(document: Document) -> bool:
    """Return whether a document describes one Python object."""
    return bool(document.meta.get("name")) and document.meta.get("kind") in PYTHON_KINDS


def plain(text: str) -> str:
    """Return one line of text without Markdown's marks for links, images and emphasis.

    >>> plain("See [the *docs*](http://x.y) now")
    'See the docs now'
    """
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\*\*", "", text)
    text = re.sub(r"(?<![\w*])([*_])([^\s*_](?:[^*_]*[^\s*_])?)\1(?![\w*])", r"\2", text)
    return " ".join(text.split())


def _worthy(document: Document, heading: str, lines: Sequence[str]) -> Iterator[Section]:
    section = _section(document, heading, "\n".join(lines).strip(), document.source)
    if len(section.body) >= MIN_SECTION_CHARACTERS:
        yield section


def _section(document: Document, heading: str, text: str, neighbourhood: str) -> Section:
    return Section(digest((document.id, heading, text)), document, heading, text, neighbourhood)
