"""Lists in pages: what stands on one, and whether more follows.

Owns the shape. Knows no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list; `has_more` says whether another one follows its last item."""

    items: tuple[T, ...]
    has_more: bool

    @classmethod
    def of(cls, found: Sequence[T], limit: int) -> Page[T]:
        """Return the page of what was found when one more than the limit was asked for.

        >>> Page.of("abc", 2)
        Page(items=('a', 'b'), has_more=True)
        """
        return cls(tuple(found[:limit]), len(found) > limit)
