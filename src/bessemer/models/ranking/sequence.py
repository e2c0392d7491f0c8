"""SASRec: a small causal transformer over the items of a history; what comes next is its last state.

Owns the forward pass in numpy, which serving needs (a history of 50 items in well under a millisecond);
`sequence_network` is the same network for training. Positions are counted from the newest event, so a history needs no
padding and one that grows does not shift.

Source: Kang & McAuley 2018, "Self-Attentive Sequential Recommendation", arXiv:1808.09781; trained with the full
softmax as in Klenitskiy & Vasilev 2023, arXiv:2309.07602.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bessemer.models.ranking.base import Floats, Histories, Numbers

EPSILON = 1e-6
"""Of the layer norms."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """The fitted network.

    Attributes:
        weights: by the names of `sequence_network.SequenceNetwork`; ``items`` has shape (items, width), ``positions``
            (length, width).
        heads: of the attention.
    """

    weights: Mapping[str, Floats]
    heads: int
    kind: ClassVar[str] = "sasrec"

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.weights["items"])

    @property
    def vectors(self) -> Floats:
        """The items' embeddings; shape (items, width)."""
        return self.weights["items"]

    @property
    def length(self) -> int:
        """How many of a history's newest events are read."""
        return len(self.weights["positions"])

    def queries(self, histories: Histories) -> Floats:
        """Return the last state of each history; zeros for an empty one; shape (users, width)."""
        made = np.zeros((len(histories), self.vectors.shape[1]), np.float32)
        for user in range(len(histories)):
            items, weights = histories.of(user)
            items = items[weights > 0][-self.length :]
            if len(items):
                made[user] = self._last_state(items)
        return made

    def scores(self, histories: Histories) -> Floats:
        """Return the logits of the next item; shape (users, items)."""
        return self.queries(histories) @ self.vectors.T

    def support(self, items: Numbers, weights: Floats, item: int) -> Floats:
        """Return how alike each of the history's items and one item are: the cosine of their embeddings.

        A likeness, not a share: how much attention an event gets does not say what it changes.
        """
        return cosines(self.vectors, items, item) * (weights > 0)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return all weights."""
        return self.weights

    def settings(self) -> Mapping[str, Any]:
        """Return the number of heads."""
        return {"heads": self.heads}

    def _last_state(self, items: Numbers) -> Floats:
        """Return the state after the newest item; of the last layer only that position is computed."""
        w = self.weights
        x = w["items"][items] * np.float32(self.vectors.shape[1] ** 0.5) + w["positions"][len(items) - 1 :: -1]
        layers = sum(name.endswith("attend.weight") for name in w)
        for layer in range(layers):
            x = self._layer(x, f"layers.{layer}.", last=layer == layers - 1)
        return _normed(x[-1], w["norm.weight"], w["norm.bias"])

    def _layer(self, x: Floats, at: str, last: bool) -> Floats:
        w = self.weights
        length, width = x.shape
        normed = _normed(x, w[at + "before.weight"], w[at + "before.bias"])
        three = normed @ w[at + "attend.weight"].T + w[at + "attend.bias"]
        query, key, value = (part.reshape(length, self.heads, -1).swapaxes(0, 1) for part in np.split(three, 3, axis=1))
        if last:
            query, x = query[:, -1:], x[-1:]
        logits = query @ key.swapaxes(1, 2) / np.float32((width // self.heads) ** 0.5)
        if not last:
            logits = np.where(np.tri(length, dtype=bool), logits, -np.inf)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = (shares @ value).swapaxes(0, 1).reshape(len(x), width)
        x = x + mixed @ w[at + "mix.weight"].T + w[at + "mix.bias"]
        normed = _normed(x, w[at + "after.weight"], w[at + "after.bias"])
        inner = np.maximum(normed @ w[at + "widen.weight"].T + w[at + "widen.bias"], 0)
        out: Floats = x + inner @ w[at + "narrow.weight"].T + w[at + "narrow.bias"]
        return out


def cosines(vectors: Floats, items: Numbers, item: int) -> Floats:
    """Return the cosines between the vectors of some items and that of one."""
    some, one = vectors[items], vectors[item]
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(one)
    return np.asarray(some @ one / np.maximum(lengths, 1e-12), np.float32)


def _normed(x: Floats, weight: Floats, bias: Floats) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(EPSILON))
    return np.asarray(centred / spread * weight + bias, np.float32)
