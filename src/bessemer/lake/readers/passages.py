"""From a parsed text to documents: one per section, none longer than a small model can read.

Owns where a long section is cut (paragraph, line, sentence, word, in this order of preference) and what a passage
carries: the path of headings above it and which part of its text it is. Nothing but white space is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bessemer.core.nouns import Document
from bessemer.lake.document import make_document, reason
from bessemer.lake.readers.raw import Parsed, Raw, Section

_SHORT_CHARACTERS = 120
"""A section shorter than this says too little alone and is joined to the one that follows."""

_CUTS = (
    re.compile(r"\n[ \t]*\n+"),
    re.compile(r"\n+"),
    re.compile(r"(?<=[.!?;:])\s+"),
    re.compile(r"\s+"),
)


def passage_documents(parsed: Parsed, raw: Raw, media_type: str) -> Iterator[Document]:
    """Yield the passages of a text; a text without any is one document dropped as ``empty``."""
    title = parsed.title or raw.name
    passages = split_sections(parsed.sections, raw.passage_characters)
    if not passages:
        yield make_document(
            raw.source, "", title=title, group=raw.group, media_type=media_type, dropped=reason("empty")
        )
    for number, passage in enumerate(passages, 1):
        below = passage.heading[1:] if passage.heading[:1] == (title,) else passage.heading
        yield make_document(
            raw.source,
            passage.text,
            title=": ".join(part for part in (title, " > ".join(below)) if part),
            group=raw.group,
            media_type=media_type,
            meta={
                **parsed.meta,
                "kind": "passage",
                "document": title,
                "heading": " > ".join(below),
                "part": f"{number}/{len(passages)}",
            },
        )


def split_sections(sections: tuple[Section, ...], limit: int) -> list[Section]:
    """Return sections of at most `limit` characters each (0 is no limit: one section), empty ones left out.

    A very short section is joined to the next one under the same heading, their own headings kept as lines.
    """
    full = [section for section in sections if section.text.strip()]
    if not limit:
        text = "\n\n".join(_with_heading(section) for section in full)
        return [Section(_common([section.heading for section in full]), text)] if full else []
    joined: list[tuple[tuple[str, ...], Section]] = []  # with the heading that a sister must stand under
    for section in full:
        parent = section.heading[:-1]
        if joined and joined[-1][0] == parent and len(joined[-1][1].text.strip()) < _SHORT_CHARACTERS:
            last = joined[-1][1]
            before = last.text.strip() if last.heading == parent else _with_heading(last)
            both = f"{before}\n\n{_with_heading(section)}"
            if len(both) <= limit:
                joined[-1] = (parent, Section(parent, both))
                continue
        joined.append((parent, section))
    return [Section(section.heading, text) for _, section in joined for text in split_text(section.text, limit)]


def split_text(text: str, limit: int) -> list[str]:
    """Return the text in stripped pieces of at most `limit` characters, cut at the coarsest boundary that does.

    >>> split_text("One two.\\n\\nThree four. Five.", 12)
    ['One two.', 'Three four.', 'Five.']
    """
    return [piece.strip() for piece in _split(text.strip(), limit, 0) if piece.strip()]


def _split(text: str, limit: int, level: int) -> Iterator[str]:
    if len(text) <= limit:
        yield text
        return
    if level == len(_CUTS):
        yield from (text[start : start + limit] for start in range(0, len(text), limit))
        return
    held = ""
    for atom in _atoms(text, level):
        if len(held) + len(atom.rstrip()) <= limit:
            held += atom
        else:
            yield held
            held = ""
            if len(atom.rstrip()) <= limit:
                held = atom
            else:
                yield from _split(atom, limit, level + 1)
    yield held


def _atoms(text: str, level: int) -> Iterator[str]:
    """Yield the pieces between cuts, each with the white space after it; a fenced block is not cut at blank lines."""
    start = 0
    for cut in _CUTS[level].finditer(text):
        piece = text[start : cut.end()]
        if level == 0 and piece.count("```") % 2:
            continue
        yield piece
        start = cut.end()
    yield text[start:]


def _with_heading(section: Section) -> str:
    return f"{section.heading[-1]}\n{section.text.strip()}" if section.heading else section.text.strip()


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the headings that all paths begin with."""
    shared: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return tuple(shared)
