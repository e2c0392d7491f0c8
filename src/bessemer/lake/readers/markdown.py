"""Markdown (CommonMark headings and fences, YAML front matter): sections at headings, pictures and markup dropped.

Owns what is left out: front matter (it becomes meta), comments, badges, raw HTML tags, the targets of links.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from bessemer.core.nouns import Document
from bessemer.lake.readers.passages import passage_documents
from bessemer.lake.readers.raw import Parsed, Raw, Section, decode

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)

_NOISE = (
    (re.compile(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])"), ""),  # pictures
    (re.compile(r"\[\s*\](?:\([^)]*\)|\[[^\]]*\])"), ""),  # links whose whole text was a picture
    (re.compile(r"\[([^\]]+)\](?:\([^)\s]*(?:\s+\"[^\"]*\")?\)|\[[^\]]*\])"), r"\1"),  # links: the words stay
    (re.compile(r"^ {0,3}\[[^\]]+\]:\s+\S+.*$"), ""),  # definitions of link targets
    (
        re.compile(
            r"</?(?:p|div|img|a|br|hr|b|i|em|strong|h[1-6]|table|t[drh]|tbody|thead|picture|source|center|details"
            r"|summary|su[bp]|kbd|span|[uo]l|li|font|video|svg|path|blockquote)(?:\s[^<>]*)?/?>",
            re.IGNORECASE,
        ),
        "",
    ),
)


def read(raw: Raw) -> Iterator[Document]:
    """Yield the passages of a Markdown text.

    Raises:
        Unreadable: it is empty, binary or not UTF-8.
    """
    return passage_documents(parse(decode(raw)), raw, "text/markdown")


def parse(text: str) -> Parsed:
    """Return title, sections and front matter; the title is the front matter's, else the first heading of level 1.

    >>> parse("# Bees\\n\\nThey hum.\\n\\n## Food\\n\\nNectar.").sections[1]
    Section(heading=('Bees', 'Food'), text='Nectar.')
    """
    meta, body = _front_matter(text)
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    held: list[str] = []

    def close() -> None:
        sections.append(Section(tuple(title for _, title in path), "\n".join(held).strip()))
        held.clear()

    lines = list(_lines(re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)))
    titles = (line for level, line in lines if level == 1)
    for level, line in lines:
        if level:
            close()
            path = [(depth, title) for depth, title in path if depth < level]
            path.append((level, line))
        else:
            held.append(line)
    close()
    title = meta.get("title") or next(titles, "")
    return Parsed(title, tuple(section for section in sections if section.text), meta)


def _lines(body: str) -> Iterator[tuple[int, str]]:
    """Yield (heading level, its text) or (0, a line of text); within fences nothing is markup."""
    fence = ""
    waiting: str | None = None  # a line of text that an underline below it may turn into a heading
    for line in body.split("\n"):
        mark = _FENCE.match(line)
        if fence or mark:
            if waiting is not None:
                yield 0, waiting
                waiting = None
            yield 0, line
            if mark and not fence:
                fence = mark.group(1)
            elif mark and mark.group(1).startswith(fence):
                fence = ""
            continue
        underline = _UNDERLINE.match(line)
        if underline and waiting and waiting.strip():
            yield (1 if underline.group(1).startswith("=") else 2), waiting.strip()
            waiting = None
            continue
        if waiting is not None:
            yield 0, waiting
            waiting = None
        heading = _HEADING.match(line)
        if heading and (title := _plain(heading.group(2) or "").strip(" *_`")):
            yield len(heading.group(1)), title
        else:
            waiting = _plain(line)
    if waiting is not None:
        yield 0, waiting


def _plain(line: str) -> str:
    if line.startswith(("    ", "\t")) and not line.lstrip().startswith("<"):  # indented code
        return line
    for pattern, kept in _NOISE:
        line = pattern.sub(kept, line)
    return line


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    found = _FRONT.match(text)
    if not found:
        return {}, text
    try:
        values = yaml.safe_load(found.group(1))
    except yaml.YAMLError:
        return {}, text
    if not isinstance(values, dict):
        return {}, text
    return {str(key): _as_text(value) for key, value in values.items()}, text[found.end() :]


def _as_text(value: Any) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
