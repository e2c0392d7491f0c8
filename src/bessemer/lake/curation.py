"""Curation: every document goes through, and what is no good carries the reason with it.

Owns exact deduplication and the order of the filters. Streams: it remembers one digest per kept document.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator

from bessemer.core.nouns import Document
from bessemer.lake.filters import CurateConfig, quality_fault

__all__ = ["DUPLICATE_OF", "CurateConfig", "curate", "text_digest"]

DUPLICATE_OF = "duplicate: same text as "
"""How the reason of a duplicate begins; the first 12 digits of the id of the document that is kept follow."""


def curate(documents: Iterable[Document], config: CurateConfig = CurateConfig()) -> Iterator[Document]:  # noqa: B008
    """Yield every document in its order, `dropped` set where a filter or an earlier twin drops it.

    What came in with a reason keeps it. Curating twice changes nothing.
    """
    seen: dict[bytes, str] = {}
    for document in documents:
        why = document.dropped or quality_fault(document, config)
        if not why and "duplicate" not in config.off:
            key = text_digest(document.text)
            if key in seen:
                why = DUPLICATE_OF + seen[key]
            else:
                seen[key] = document.id[:12]  # no word of it: it may be erased, and this document not
        yield document.model_copy(update={"dropped": why}) if why != document.dropped else document


def text_digest(text: str) -> bytes:
    """Return 16 bytes that are equal for texts that differ in white space, case or Unicode form only.

    >>> text_digest("One  Two\\n") == text_digest("one two"), text_digest("one") == text_digest("two")
    (True, False)
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(plain.encode("utf-8", "replace")).digest()[:16]
