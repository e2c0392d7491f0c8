"""reStructuredText, by docutils with everything that reaches outside of the text switched off.

Owns the safe settings (no file insertion, no raw HTML, no configuration files) and the walk over the tree. Roles
and directives that only Sphinx knows are read as the words they hold.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator

from docutils import nodes
from docutils.core import publish_doctree

from bessemer.core.nouns import Document
from bessemer.lake.document import reason
from bessemer.lake.readers.passages import passage_documents
from bessemer.lake.readers.raw import Parsed, Raw, Section, Unreadable, decode

_ROLE = re.compile(r":[a-zA-Z][\w.+-]*(?::[a-zA-Z][\w.+-]*)*:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")
_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "report_level": 5,
    "halt_level": 5,
    "traceback": False,
    "line_length_limit": 100_000,
    "doctitle_xform": False,
    "syntax_highlight": "none",
}
_LEFT_OUT = (nodes.system_message, nodes.comment, nodes.image, nodes.target, nodes.substitution_definition, nodes.raw)


def read(raw: Raw) -> Iterator[Document]:
    """Yield the passages of a reStructuredText.

    Raises:
        Unreadable: it is empty, binary, not UTF-8, or docutils fails on it.
    """
    return passage_documents(parse(decode(raw)), raw, "text/x-rst")


def parse(text: str) -> Parsed:
    """Return title and sections; the title is the first section's.

    Raises:
        Unreadable: docutils fails on it.
    """
    plain = _ROLE.sub(r"``\1``", text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = publish_doctree(plain, settings_overrides={**_SETTINGS, "warning_stream": io.StringIO()})
    except Exception as error:  # its own bugs come in every class, on other people's text
        raise Unreadable(reason("malformed", f"docutils: {type(error).__name__}: {error}")) from error
    sections = tuple(_sections(tree, ()))
    return Parsed(next((s.heading[0] for s in sections if s.heading), ""), sections)


def _sections(node: nodes.Element, path: tuple[str, ...]) -> Iterator[Section]:
    blocks: list[str] = []
    below: list[nodes.section] = []
    for child in node.children:
        if isinstance(child, nodes.section):
            below.append(child)
        elif not isinstance(child, (nodes.title, *_LEFT_OUT)):
            blocks.append(_block(child))
    yield Section(path, "\n\n".join(block for block in blocks if block.strip()))
    for section in below:
        title = next((c.astext() for c in section.children if isinstance(c, nodes.title)), "")
        yield from _sections(section, (*path, " ".join(title.split())) if title else path)


def _block(node: nodes.Node) -> str:
    """Return a block element as text: code fenced, lists with marks, the rest as its words."""
    if isinstance(node, _LEFT_OUT):
        return ""
    if isinstance(node, (nodes.literal_block, nodes.doctest_block)):
        return f"```\n{node.astext()}\n```"
    if isinstance(node, (nodes.bullet_list, nodes.enumerated_list)):
        return "\n".join(f"- {_block(item)}" for item in node.children)
    if isinstance(node, nodes.row):
        return " | ".join(_block(cell) for cell in node.children)
    if isinstance(node, nodes.Element) and not isinstance(node, nodes.TextElement):
        inner = (_block(child) for child in node.children)
        between = "\n" if isinstance(node, (nodes.tbody, nodes.thead)) else "\n\n"
        return between.join(block for block in inner if block.strip())
    return " ".join(node.astext().split())
