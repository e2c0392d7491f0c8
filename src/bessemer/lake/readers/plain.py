"""Plain text: its paragraphs are its only structure."""

from __future__ import annotations

from collections.abc import Iterator

from bessemer.core.nouns import Document
from bessemer.lake.readers.passages import passage_documents
from bessemer.lake.readers.raw import Parsed, Raw, Section, decode


def read(raw: Raw) -> Iterator[Document]:
    """Yield the passages of a plain text.

    Raises:
        Unreadable: it is empty, binary or not UTF-8.
    """
    return passage_documents(Parsed("", (Section((), decode(raw)),)), raw, "text/plain")
