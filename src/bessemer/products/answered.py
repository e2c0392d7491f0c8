"""Whose request an answer was: what the books say of the ids that clients got.

Owns the tie between an answer's id and its entry in the ledger.
"""

from __future__ import annotations

from pathlib import Path

from bessemer.core.errors import NotFound
from bessemer.meter import open_ledger


class Answered:
    """Looks answers up in the ledger; for several threads at once.

    Args:
        books: the folder of journal and ledger.
    """

    def __init__(self, books: Path) -> None:
        self._ledger = open_ledger(books)

    def project_of(self, answer: str) -> str | None:
        """Return the project whose request an answer is, such as ``chatcmpl-…``; None if it is nobody's."""
        _, mark, unique = answer.partition("-")
        if not mark:
            return None
        self._ledger.sync()
        try:
            return self._ledger.entry(f"request:req_{unique}").subject.project
        except NotFound:
            return None

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()
