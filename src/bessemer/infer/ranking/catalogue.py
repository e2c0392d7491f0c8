"""The items that are served: their names and attributes, who may be shown, and how alike two of them are.

Owns the look-up by attribute as flags over all items, which filters and rules are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import Unsupported
from bessemer.core.ranking import Filter
from bessemer.models.ranking.base import Floats, Numbers

Flags = NDArray[np.bool_]
_LIKE = 10
"""Known items that a cold one's score is taken from."""


class Catalogue:
    """Items by number.

    Args:
        names: of the items.
        attributes: of each, in the same order; may be empty.
        content: features of each, of length 1; shape (items, features), features perhaps 0.
        counts: users who had each; 0 are cold.
    """

    def __init__(
        self, names: Sequence[str], attributes: Sequence[Mapping[str, Any]], content: Floats, counts: Floats
    ) -> None:
        self.names, self.attributes, self.content, self.counts = names, attributes, content, counts
        self.numbers = {name: number for number, name in enumerate(names)}
        self._columns: dict[str, list[Any]] = {}
        self._flags: dict[tuple[str, str], Flags] = {}
        self._values: dict[str, Floats] = {}
        self.cold: Numbers = np.zeros(0, np.int32)
        self.like: tuple[Numbers, Floats] = np.zeros((0, 1), np.int32), np.zeros((0, 1), np.float32)
        if content.size and (counts == 0).any() and (counts > 0).any():
            self._place_cold()

    def __len__(self) -> int:
        return len(self.names)

    def column(self, field: str) -> list[Any]:
        """Return an attribute of every item, None where it has none.

        Raises:
            Unsupported: no item has it.
        """
        if field not in self._columns:
            if not any(field in row for row in self.attributes):
                known = sorted({name for row in self.attributes[:1_000] for name in row})
                raise Unsupported(
                    f"items have no attribute '{field[:64]}'", hint=f"Known: {', '.join(known) or 'none'}."
                )
            self._columns[field] = [row.get(field) for row in self.attributes]
        return self._columns[field]

    def has(self, field: str, value: str) -> Flags:
        """Return which items have a value; of an attribute that is a list, among others."""
        key = (field, value)
        if key not in self._flags:
            if len(self._flags) > 1_000:  # values come from clients
                self._flags.clear()
            self._flags[key] = np.asarray([_has(given, value) for given in self.column(field)])
        return self._flags[key]

    def number(self, field: str) -> Floats:
        """Return an attribute as numbers, NaN where it is none."""
        if field not in self._values:
            given = [value if isinstance(value, (int, float)) else np.nan for value in self.column(field)]
            self._values[field] = np.asarray(given, np.float32)
        return self._values[field]

    def allowed(self, filters: Sequence[Filter]) -> Flags | None:
        """Return which items meet all filters; None where there are none.

        Raises:
            Unsupported: no item has an attribute that a filter asks for.
        """
        meets: Flags | None = None
        for each in filters:
            mine = np.ones(len(self), bool)
            if each.any_of:
                mine &= np.logical_or.reduce([self.has(each.field, value) for value in each.any_of])
            for value in each.none_of:
                mine &= ~self.has(each.field, value)
            if each.at_least is not None:
                mine &= self.number(each.field) >= each.at_least
            if each.at_most is not None:
                mine &= self.number(each.field) <= each.at_most
            meets = mine if meets is None else meets & mine
        return meets

    def warmed(self, scores: Floats) -> Floats:
        """Return scores in which each cold item has the mean of the known ones that it is most like."""
        if len(self.cold):
            numbers, shares = self.like
            scores = scores.copy()
            scores[..., self.cold] = (scores[..., numbers] * shares).sum(axis=-1)
        return scores

    def warmed_vectors(self, vectors: Floats) -> Floats:
        """Return vectors in which each cold item has the mean of the known ones that it is most like."""
        return np.ascontiguousarray(self.warmed(vectors.T).T)

    def title(self, item: int) -> str:
        """Return what a person calls an item."""
        row = self.attributes[item] if self.attributes else {}
        return str(row.get("title") or self.names[item])

    def _place_cold(self) -> None:
        self.cold = np.flatnonzero(self.counts == 0).astype(np.int32)
        known = np.flatnonzero(self.counts > 0)
        most = min(_LIKE, len(known))
        numbers, shares = [], []
        for at in range(0, len(self.cold), 1_000):
            alike = np.maximum(self.content[self.cold[at : at + 1_000]] @ self.content[known].T, 0)
            best = np.argpartition(-alike, most - 1, axis=1)[:, :most]
            found = np.take_along_axis(alike, best, axis=1) ** 4  # the nearest count most
            numbers.append(known[best])
            # Less alike than entirely is less sure: the shares sum to the likeness of the nearest.
            nearest = found.max(axis=1, keepdims=True) ** 0.25
            shares.append(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-12) * nearest)
        self.like = np.concatenate(numbers).astype(np.int32), np.concatenate(shares).astype(np.float32)


def _has(given: Any, value: str) -> bool:
    if isinstance(given, (list, tuple)):
        return any(_has(part, value) for part in given)
    if isinstance(given, bool):
        return value == ("true" if given else "false")
    return given is not None and str(given) == value
