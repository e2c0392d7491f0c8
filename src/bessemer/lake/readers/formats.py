"""Which reader reads which file, by suffix first and by content where the suffix says nothing.

Owns the tables from suffix to media type and from media type to reader. Another package adds a reader under the
entry-point group ``bessemer.readers``, named by its media type; so come pictures and sound, without a change here.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import PurePosixPath

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Document
from bessemer.core.registry import Registry
from bessemer.lake.document import make_document, reason
from bessemer.lake.readers.raw import Raw, Unreadable

Reader = Callable[[Raw], Iterator[Document]]

_READERS = Registry(
    "bessemer.readers",
    {
        "text/plain": "bessemer.lake.readers.plain:read",
        "text/markdown": "bessemer.lake.readers.markdown:read",
        "text/html": "bessemer.lake.readers.html:read",
        "text/x-rst": "bessemer.lake.readers.rst:read",
        "application/jsonl": "bessemer.lake.readers.records:read_jsonl",
        "application/vnd.apache.parquet": "bessemer.lake.readers.records:read_parquet",
    },
    extras={"text/html": "lake", "text/x-rst": "lake", "application/vnd.apache.parquet": "lake"},
)

_SUFFIXES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".mdx": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
    ".rst": "text/x-rst",
    ".rest": "text/x-rst",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
    ".txt": "text/plain",
    ".text": "text/plain",
}


def read_raw(raw: Raw, media_type: str = "") -> Iterator[Document]:
    """Yield a file's documents; one that cannot be read is one dropped document with the reason, never an error.

    Args:
        raw: the file.
        media_type: what it is, if that is known; else suffix and content decide.

    Raises:
        MissingDependency: the format's package is not installed.
    """
    kind = media_type or detect(raw.name, raw.data[:1024])
    try:
        yield from _reader(kind)(raw)
    except Unreadable as error:
        yield dropped(raw.source, raw.name, raw.group, str(error), kind)


def dropped(source: str, name: str, group: str, why: str, media_type: str = "") -> Document:
    """Return the document that stands for a file that was not read."""
    kind = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return make_document(source, "", title=name, group=group, media_type=kind, dropped=why)


def detect(name: str, head: bytes) -> str:
    """Return a file's media type.

    >>> detect("a.md", b""), detect("page", b"<!DOCTYPE html><p>x"), detect("notes", b"plain")
    ('text/markdown', 'text/html', 'text/plain')
    """
    known = _SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if known:
        return known
    guessed = mimetypes.guess_type(name)[0]
    if guessed and guessed in _names():
        return guessed
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "text/html"
    if head.startswith(b"PAR1"):
        return "application/vnd.apache.parquet"
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return guessed or "application/octet-stream"
    return "text/plain"


@cache
def _names() -> frozenset[str]:
    return frozenset(_READERS.names())


@cache
def _reader(media_type: str) -> Reader:
    try:
        reader: Reader = _READERS.load(media_type)
    except NotFound:
        return _refuse
    return reader


def _refuse(raw: Raw) -> Iterator[Document]:
    raise Unreadable(reason("binary", "no reader for this kind of file"))
