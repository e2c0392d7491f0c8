"""How a Document of this room is made: its identity, its reason for being dropped, its place in a file.

Owns the digest that names a document and the form of a reason (``name: detail``). Knows no format and no table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bessemer.core.digest import digest_bytes
from bessemer.core.nouns import Document

Progress = Callable[[int, int], None]
"""Called with how many files are done and how many there are."""


def no_progress(done: int, total: int) -> None:
    """Take a progress report and do nothing with it."""


def make_document(
    source: str,
    text: str,
    *,
    title: str,
    group: str,
    media_type: str = "text/plain",
    meta: Mapping[str, str] | None = None,
    dropped: str = "",
) -> Document:
    """Return a document named by the SHA-256 of its source and text, parted by a NUL that neither can hold.

    >>> make_document("a.txt", "Hello.", title="a", group="a.txt").id[:12]
    '6da9c4f62696'
    """
    clean = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    return Document(
        id=digest_bytes(f"{source}\0{clean}".encode("utf-8", "replace")),
        source=source,
        title=title,
        text=clean,
        group=group,
        media_type=media_type,
        meta=dict(meta or {}),
        dropped=dropped,
    )


def reason(name: str, detail: str = "") -> str:
    """Return why a document was dropped: a name to count by, and what a person wants to know.

    >>> reason("too_short", "12 of 40 characters"), reason("empty")
    ('too_short: 12 of 40 characters', 'empty')
    """
    return f"{name}: {detail}" if detail else name


def reason_name(dropped: str) -> str:
    """Return the name in a reason.

    >>> reason_name("too_short: 12 of 40 characters")
    'too_short'
    """
    return dropped.partition(":")[0]
