"""What a reader is given and what a reader of texts returns.

Owns the decoding of bytes and the reasons why a file cannot be read. Knows no format.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field

from bessemer.lake.document import reason

_SNIFFED_BYTES = 8_192


class Unreadable(Exception):
    """A file holds no text that we can read; its message is the reason for which the document is dropped."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One file, or one text that stands for a file.

    Attributes:
        source: URI or path that its documents carry.
        name: file name, the title of last resort.
        group: what its documents are split by.
        data: all its bytes.
        text_field: for tables and records: the field that holds the text.
        passage_characters: length at most of a passage; 0 keeps texts whole.
    """

    source: str
    name: str
    group: str
    data: bytes
    text_field: str = "text"
    passage_characters: int = 1_500


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of a text under a path of headings, the outermost first."""

    heading: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A text as its format tells it apart: title (may be empty), sections in order, facts about the whole."""

    title: str
    sections: tuple[Section, ...]
    meta: Mapping[str, str] = field(default_factory=dict)


def decode(raw: Raw, encoding: str = "utf-8") -> str:
    """Return the text of a file: by its byte-order mark, else in the given encoding, never guessed.

    Raises:
        Unreadable: it is empty, binary, or not in that encoding.
    """
    data = raw.data
    if not data.strip():
        raise Unreadable(reason("empty"))
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            encoding = name
            break
    else:
        if b"\0" in data[:_SNIFFED_BYTES]:
            raise Unreadable(reason("binary", "holds NUL bytes"))
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(reason("undecodable", f"not {encoding} at byte {error.start}")) from error
    except LookupError as error:
        raise Unreadable(reason("undecodable", f"unknown encoding {encoding!r}")) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
