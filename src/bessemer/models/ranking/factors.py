"""Implicit matrix factorisation: a user's vector is solved from their history and the items' vectors.

Source: Hu, Koren & Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", ICDM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bessemer.models.ranking.base import Floats, Histories, Numbers


@dataclass(frozen=True, slots=True)
class Factors:
    """Items' vectors, and what is needed to solve for a user's.

    Attributes:
        vectors: shape (items, width).
        alpha: how much more an interaction counts than none: confidence is 1 + alpha x weight.
        regularisation: of a user's vector.
        by_count: whether the regularisation grows with the number of a user's items.
        gram: vectors' vectors; shape (width, width); made when left out.
    """

    vectors: Floats
    alpha: float
    regularisation: float
    by_count: bool = False
    gram: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    kind: ClassVar[str] = "als"

    def __post_init__(self) -> None:
        if not self.gram.size:
            object.__setattr__(self, "gram", self.vectors.T @ self.vectors)

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.vectors)

    def queries(self, histories: Histories) -> Floats:
        """Return users' vectors, solved one by one; shape (users, width)."""
        made = np.zeros((len(histories), self.vectors.shape[1]), np.float32)
        for user in range(len(histories)):
            items, weights = strongest(*histories.of(user))
            if len(items):
                made[user] = np.linalg.solve(*self._system(items, weights))
        return made

    def scores(self, histories: Histories) -> Floats:
        """Return the inner products of users' and items' vectors; shape (users, items)."""
        return self.queries(histories) @ self.vectors.T

    def support(self, items: Numbers, weights: Floats, item: int) -> Floats:
        """Return the part of an item's score that each event brings in; the parts sum to the score.

        Source: Hu, Koren & Volinsky 2008, section 5.
        """
        alone, most = strongest(items, weights)
        if not len(alone):
            return np.zeros(len(items), np.float32)
        left, _ = self._system(alone, most)
        toward = self.vectors[alone] @ np.linalg.solve(left, self.vectors[item])
        parts = dict(zip(alone.tolist(), ((1 + self.alpha * most) * toward).tolist(), strict=True))
        counts = {int(number): int((items[weights > 0] == number).sum()) for number in alone}
        told = [parts[int(i)] / counts[int(i)] if w > 0 else 0 for i, w in zip(items, weights, strict=True)]
        return np.asarray(told, np.float32)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the items' vectors."""
        return {"vectors": self.vectors}

    def settings(self) -> Mapping[str, Any]:
        """Return alpha and regularisation."""
        return {"alpha": self.alpha, "regularisation": self.regularisation, "by_count": self.by_count}

    def _system(self, items: Numbers, weights: Floats) -> tuple[Floats, Floats]:
        mine = self.vectors[items]
        ridge = self.regularisation * (len(items) if self.by_count else 1)
        left = self.gram + (mine.T * (self.alpha * weights)) @ mine + ridge * np.eye(mine.shape[1], dtype=np.float32)
        return left, mine.T @ (1 + self.alpha * weights)


def strongest(items: Numbers, weights: Floats) -> tuple[Numbers, Floats]:
    """Return each item of positive weight once, sorted, with the largest of its weights."""
    liked = weights > 0
    alone, places = np.unique(items[liked], return_inverse=True)
    most = np.zeros(len(alone), np.float32)
    np.maximum.at(most, places, weights[liked])
    return alone.astype(np.int32), most
