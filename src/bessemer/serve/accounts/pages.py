"""Lists in pages: what stands on one, and whether more follows.

Owns the shape. Knows no table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from bessemer.core.errors import NotFound

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

    @classmethod
    def following(
        cls, found: Sequence[T], after: str, limit: int, id: Callable[[T], str], shown: Callable[[T], bool]
    ) -> Page[T]:
        """Return the page after an item, which may have ended since it was told: whoever pages is led on, never back.

        Args:
            found: all items in order, those too that are not shown any more.
            after: id of the last item of the page before; empty is the first page.
            limit: items on a page.
            id: of an item.
            shown: whether an item stands on a page.

        Raises:
            NotFound: no item has the id.

        >>> Page.following("abcde", "b", 2, str, lambda item: item != "b")
        Page(items=('c', 'd'), has_more=True)
        """
        begin = next((number for number, item in enumerate(found, 1) if id(item) == after), 0)
        if after and not begin:
            raise NotFound(f"nothing with the id '{after}' is in this list", hint="Begin with the first page.")
        return cls.of(tuple(islice((item for item in found[begin:] if shown(item)), limit + 1)), limit)
