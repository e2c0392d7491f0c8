"""HTML (WHATWG, parsed by Lexbor): the words of the main part, sections at headings, everything else left out.

Owns which elements are no content (scripts, styles, navigation, forms) and how blocks become lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from bessemer.core.nouns import Document
from bessemer.lake.readers.passages import passage_documents
from bessemer.lake.readers.raw import Parsed, Raw, Section, decode

_NO_CONTENT = (
    "script, style, noscript, template, svg, iframe, object, nav, aside, footer, form, button, select, dialog, "
    "[hidden], [aria-hidden=true], [role=navigation], [role=search], [role=banner], [role=contentinfo]"
)
_MAIN = ("main", "[role=main]", "article")
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LIST_BLOCKS = frozenset({"dd", "dl", "dt", "ol", "ul", "li"})
_TABLE_BLOCKS = frozenset({"caption", "table", "tbody", "td", "tfoot", "th", "thead", "tr"})
_TEXT_BLOCKS = frozenset(
    {"address", "blockquote", "br", "details", "div", "figcaption", "figure", "hr", "p", "summary"}
)
_PAGE_BLOCKS = frozenset({"article", "body", "footer", "header", "main", "section"})
_BLOCKS = _LIST_BLOCKS | _TABLE_BLOCKS | _TEXT_BLOCKS | _PAGE_BLOCKS
_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)


def read(raw: Raw) -> Iterator[Document]:
    """Yield the passages of a page.

    Raises:
        Unreadable: it is empty, binary or not in the encoding that it declares (UTF-8 if none).
    """
    declared = _CHARSET.search(raw.data[:2_048])
    text = decode(raw, declared.group(1).decode("ascii") if declared else "utf-8")
    return passage_documents(parse(text), raw, "text/html")


def parse(text: str) -> Parsed:
    """Return title and sections; the title is the first ``h1``, else the ``title`` element."""
    tree = LexborHTMLParser(text)
    title = tree.css_first("title")
    for node in tree.css(_NO_CONTENT):
        node.decompose()
    for node in tree.css("header"):
        if node.css_first("h1") is None:
            node.decompose()
    found = (tree.css_first(selector) for selector in _MAIN)
    root = next((node for node in found if node is not None), tree.body)
    sections = tuple(_sections(root)) if root is not None else ()
    first = next((s.heading[0] for s in sections if s.heading), "")
    named = " ".join(title.text().split()) if title is not None else ""
    main = root.css_first("h1") if root is not None else None
    return Parsed(" ".join(main.text().split()) if main is not None else named or first, sections)


def _sections(root: Any) -> Iterator[Section]:
    path: list[tuple[int, str]] = []
    held: list[str] = []
    for level, piece in _pieces(root):
        if level:
            yield Section(tuple(title for _, title in path), _tidy("".join(held)))
            held.clear()
            path = [(depth, title) for depth, title in path if depth < level]
            path.append((level, piece))
        else:
            held.append(piece)
    yield Section(tuple(title for _, title in path), _tidy("".join(held)))


def _pieces(root: Any) -> Iterator[tuple[int, str]]:
    """Yield (heading level, its text) or (0, a piece of text); an explicit stack, because pages nest deeply."""
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield 0, node
            continue
        tag = node.tag
        if tag == "-text":
            yield 0, re.sub(r"\s+", " ", node.text_content or "")
        elif tag in _HEADINGS:
            title = " ".join(node.text().replace("¶", " ").split())
            if title:
                yield _HEADINGS[tag], title
        elif tag == "pre":
            yield 0, f"\n\n```\n{node.text().strip(chr(10))}\n```\n\n"
        elif not tag.startswith(("-", "!", "_")):
            before, after = _around(tag)
            yield 0, before
            stack.append(after)
            stack.extend(reversed(list(node.iter(include_text=True))))


def _around(tag: str) -> tuple[str, str]:
    """Return the white space and marks before and after an element."""
    if tag == "li":
        return "\n- ", ""
    if tag in ("td", "th"):
        return "", " | "
    if tag in ("tr", "br", "dt"):
        return "\n", ""
    return ("\n\n", "\n\n") if tag in _BLOCKS else ("", "")


def _tidy(text: str) -> str:
    """Return text with single spaces outside of preformatted blocks and one blank line between blocks."""
    parts = re.split(r"\n(```\n.*?\n```)\n", text, flags=re.DOTALL)
    tidied = [part if index % 2 else _tidy_lines(part) for index, part in enumerate(parts)]
    return "\n\n".join(part for part in tidied if part)


def _tidy_lines(text: str) -> str:
    lines = re.sub(r"[ \t]*\n[ \t]*", "\n", re.sub(r"[ \t]+", " ", text))
    return re.sub(r"\n{3,}", "\n\n", lines).strip()
