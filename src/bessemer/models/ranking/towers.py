"""Two towers: items from what they are and who met them, users from the items that they met.

Owns the forward pass in numpy; training is elsewhere. An item that nobody met has a vector by its content alone, so it
can be recommended from its first minute.

Source: Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys;
leaving out the part that knows the item (here: its own vector) in training, so that content must carry cold items:
Volkovs, Yu & Poutanen 2017, "DropoutNet", NeurIPS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bessemer.models.ranking.base import Floats, Histories, Numbers
from bessemer.models.ranking.sequence import cosines


@dataclass(frozen=True, slots=True)
class Towers:
    """The fitted towers.

    Attributes:
        vectors: of the known items, of length 1; shape (items, width).
        weights: ``widen.*`` and ``narrow.*`` turn content into a vector; ``user.*`` turns the mean of a history's
            vectors into a query.
        half_life: events after which an event counts half in that mean.
    """

    vectors: Floats
    weights: Mapping[str, Floats]
    half_life: float
    kind: ClassVar[str] = "two_tower"

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.vectors)

    def cold(self, content: Floats) -> Floats:
        """Return the vectors of items that nobody met, by their content; shape (items, features) to (items, width)."""
        w = self.weights
        inner = np.maximum(content @ w["widen.weight"].T + w["widen.bias"], 0)
        return unit(inner @ w["narrow.weight"].T + w["narrow.bias"])

    def with_items(self, vectors: Floats) -> Towers:
        """Return towers that know more items, numbered after the known ones."""
        return Towers(np.concatenate([self.vectors, vectors]), self.weights, self.half_life)

    def queries(self, histories: Histories) -> Floats:
        """Return users' vectors, of length 1; zeros without a history; shape (users, width)."""
        made = np.zeros((len(histories), self.vectors.shape[1]), np.float32)
        for user in range(len(histories)):
            items, weights = histories.of(user)
            if len(items := items[weights > 0]):
                age = np.arange(len(items) - 1, -1, -1, dtype=np.float32)
                shares = np.exp2(-age / np.float32(self.half_life))
                made[user] = shares @ self.vectors[items] / shares.sum()
        given = made.any(axis=1, keepdims=True)
        return unit(made + made @ self.weights["user.weight"].T + self.weights["user.bias"]) * given

    def scores(self, histories: Histories) -> Floats:
        """Return the cosines of users' and items' vectors; shape (users, items)."""
        return self.queries(histories) @ self.vectors.T

    def support(self, items: Numbers, weights: Floats, item: int) -> Floats:
        """Return how alike each of the history's items and one item are: the cosine of their vectors."""
        return cosines(self.vectors, items, item) * (weights > 0)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return vectors and weights."""
        return {"vectors": self.vectors, **self.weights}

    def settings(self) -> Mapping[str, Any]:
        """Return the half-life."""
        return {"half_life": self.half_life}


def unit(rows: Floats) -> Floats:
    """Return rows of length 1; rows of zeros stay."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)
