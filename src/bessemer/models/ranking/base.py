"""Histories, and what every ranker offers: scores for all items, and what speaks for one of them.

Owns the shapes. Knows no family.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Numbers = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Histories:
    """What several users did, one after another in flat arrays, each user's oldest event first.

    Attributes:
        starts: where each user's events begin, and where the last one's end; shape (users + 1,).
        items: the number of each event's item; shape (events,).
        weights: how much each event says; shape (events,).
    """

    starts: NDArray[np.int64]
    items: Numbers
    weights: Floats

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, user: int) -> tuple[Numbers, Floats]:
        """Return one user's items and weights, the oldest first."""
        part = slice(self.starts[user], self.starts[user + 1])
        return self.items[part], self.weights[part]

    def take(self, users: Sequence[int] | NDArray[Any]) -> Histories:
        """Return the histories of some users, in the order that they are named in."""
        chosen = np.asarray(users, np.int64)
        lengths = (self.starts[1:] - self.starts[:-1])[chosen]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        flat = np.repeat(self.starts[chosen] - starts[:-1], lengths) + np.arange(starts[-1])
        return Histories(starts, self.items[flat], self.weights[flat])

    def users(self) -> NDArray[np.int64]:
        """Return the number of each event's user; shape (events,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def seen(self, items: int) -> Floats:
        """Return 1 where a user has an event of positive weight with an item, else 0; shape (users, items)."""
        dense = np.zeros((len(self), items), np.float32)
        liked = self.weights > 0
        dense[self.users()[liked], self.items[liked]] = 1
        return dense

    @classmethod
    def of_lists(
        cls, items: Iterable[Sequence[int] | Numbers], weights: Iterable[Sequence[float]] | None = None
    ) -> Histories:
        """Return histories of lists of item numbers; without weights each event has 1."""
        lists = [np.asarray(each, np.int32) for each in items]
        starts = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        flat = np.concatenate([np.zeros(0, np.int32), *lists])
        if weights is None:
            return cls(starts, flat, np.ones(len(flat), np.float32))
        return cls(
            starts, flat, np.concatenate([np.zeros(0, np.float32), *(np.asarray(w, np.float32) for w in weights)])
        )


@runtime_checkable
class Scorer(Protocol):
    """A fitted ranker.

    Attributes:
        kind: name of the family.
        items: how many items it knows; their numbers are 0 to items - 1.
    """

    kind: ClassVar[str]

    @property
    def items(self) -> int:
        """How many items it knows."""
        ...

    def scores(self, histories: Histories) -> Floats:
        """Return the score of each item for each history, higher is better; shape (users, items)."""
        ...

    def support(self, items: Numbers, weights: Floats, item: int) -> Floats:
        """Return how much each event of one history speaks for an item; shape (events,)."""
        ...

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return all that must be kept to have this ranker again."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """Return the numbers and words that must be kept besides; JSON values."""
        ...


@runtime_checkable
class VectorScorer(Scorer, Protocol):
    """A ranker whose scores are inner products, so that the best items can be found without scoring all.

    `vectors` has shape (items, width).
    """

    @property
    def vectors(self) -> Floats:
        """A vector for each item."""
        ...

    def queries(self, histories: Histories) -> Floats:
        """Return the vector of each history; its inner product with an item's is the item's score."""
        ...
