"""Rankers that add up weights between items: popularity, neighbours of items, and EASE.

Source of EASE: Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", arXiv:1905.03375.
Source of neighbours: Deshpande & Karypis 2004, "Item-Based Top-N Recommendation Algorithms", ACM TOIS 22(1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bessemer.models.ranking.base import Floats, Histories, Numbers


@dataclass(frozen=True, slots=True)
class Popularity:
    """Ranks all users' items alike: by how many users had them; `counts` has shape (items,)."""

    counts: Floats
    kind: ClassVar[str] = "popularity"

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.counts)

    def scores(self, histories: Histories) -> Floats:
        """Return the counts, once for each history."""
        return np.tile(self.counts, (len(histories), 1))

    def support(self, items: Numbers, weights: Floats, item: int) -> Floats:
        """Return zeros: no history says anything here."""
        return np.zeros(len(items), np.float32)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the counts."""
        return {"counts": self.counts}

    def settings(self) -> Mapping[str, Any]:
        """Return nothing more."""
        return {}


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Adds up, over a history, the similarity of each of its items to its nearest neighbours.

    Attributes:
        starts: where the neighbours of each item begin in the flat arrays; shape (items + 1,).
        neighbours: numbers of items.
        similarities: of the item to them.
    """

    starts: NDArray[np.int64]
    neighbours: Numbers
    similarities: Floats
    kind: ClassVar[str] = "item_knn"

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.starts) - 1

    def scores(self, histories: Histories) -> Floats:
        """Return the sums of similarities; shape (users, items)."""
        counts = np.diff(self.starts)[histories.items]
        ends = np.cumsum(counts)
        flat = np.repeat(self.starts[histories.items] - (ends - counts), counts) + np.arange(
            ends[-1] if len(ends) else 0
        )
        cells = np.repeat(histories.users(), counts) * self.items + self.neighbours[flat]
        values = np.repeat(histories.weights > 0, counts) * self.similarities[flat]
        made = np.bincount(cells, values, len(histories) * self.items)
        return made.astype(np.float32).reshape(len(histories), self.items)

    def support(self, items: Numbers, weights: Floats, item: int) -> Floats:
        """Return the similarity of each of the history's items to one item."""
        found = np.zeros(len(items), np.float32)
        for place, number in enumerate(items):
            part = slice(self.starts[number], self.starts[number + 1])
            found[place] = self.similarities[part][self.neighbours[part] == item].sum()
        return found * (weights > 0)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the neighbours."""
        return {"starts": self.starts, "neighbours": self.neighbours, "similarities": self.similarities}

    def settings(self) -> Mapping[str, Any]:
        """Return nothing more."""
        return {}


@dataclass(frozen=True, slots=True)
class Ease:
    """Scores of a linear autoencoder without self-weights, kept as the inverse that its weights come from.

    The weight from item i to item j is ``-P[i, j] / P[j, j]``, P the inverse of (X'X + regularisation). Keeping P, not
    the weights, is what lets an event change them exactly and at once (`changed`).

    Attributes:
        inverse: P; shape (items, items), symmetric.
    """

    inverse: NDArray[np.float64] | Floats
    kind: ClassVar[str] = "ease"

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.inverse)

    def scores(self, histories: Histories) -> Floats:
        """Return what the histories' items add up to, but each from itself; shape (users, items)."""
        diagonal: NDArray[Any] = np.diagonal(self.inverse)
        if len(histories) == 1:
            mine = np.unique(histories.items[histories.weights > 0])
            sums = self.inverse[mine].sum(axis=0)[None]
            sums[0, mine] -= diagonal[mine]
        else:
            seen = histories.seen(self.items)
            sums = seen @ self.inverse - seen * diagonal
        return np.asarray(-sums / diagonal, np.float32)

    def support(self, items: Numbers, weights: Floats, item: int) -> Floats:
        """Return the weight from each of the history's items to one item."""
        found = -self.inverse[items, item] / self.inverse[item, item]
        return np.asarray(found * (weights > 0) * (items != item), np.float32)

    def changed(self, before: Floats, after: Floats) -> Ease:
        """Return the ranker that knows users' changed rows, exactly what fitting anew would give.

        Takes two products of (2 x users, items) with (items, items), instead of an inverse of the whole.

        Args:
            before: the rows that it was fitted on; shape (users, items); zeros for a new user.
            after: the rows that take their place.

        Source: Woodbury's identity; Hager 1989, "Updating the Inverse of a Matrix", SIAM Review 31(2).
        """
        # X'X changes by a'a - b'b: with U = [a; b] and C = diag(1, -1), P becomes P - PU'(C + UPU')^-1 UP.
        rows = np.concatenate([after, before]).astype(np.float64)
        signs = np.concatenate([np.ones(len(after)), -np.ones(len(before))])
        kept = rows.any(axis=1)
        rows, signs = rows[kept], signs[kept]
        if not len(rows):
            return self
        product = rows @ self.inverse
        middle = np.diag(signs) + product @ rows.T
        inverse = self.inverse - product.T @ np.linalg.solve(middle, product)
        return Ease((inverse + inverse.T) / 2)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the inverse."""
        return {"inverse": self.inverse}

    def settings(self) -> Mapping[str, Any]:
        """Return nothing more."""
        return {}
