"""What the steps of a recommender hand on in folders: interactions, what is held out of them, and items.

Owns these files. Arrays are kept as `.npy`, which is read without unpickling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.models.ranking.base import Floats, Histories
from bessemer.train.recommend.interactions import Interactions

_ARRAYS = ("starts", "items", "weights", "times", "content")
GROUPS = ("few events", "some events", "many events")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is learnt from.

    Attributes:
        everything: all interactions.
        attributes: of each item.
        content: features of each item; shape (items, features), features perhaps 0.
    """

    everything: Interactions
    attributes: tuple[dict[str, Any], ...]
    content: Floats

    def save(self, folder: Path) -> None:
        """Write all of it."""
        history = self.everything.histories
        arrays: tuple[Any, ...] = (history.starts, history.items, history.weights, self.everything.times, self.content)
        for name, array in zip(_ARRAYS, arrays, strict=True):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        told = {"users": self.everything.users, "items": self.everything.items, "attributes": self.attributes}
        (folder / "names.json").write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """Read what `save` wrote."""
        starts, items, weights, times, content = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS
        )
        told = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        everything = Interactions(tuple(told["users"]), tuple(told["items"]), Histories(starts, items, weights), times)
        return cls(everything, tuple(told["attributes"]), content)

    def first_times(self) -> Interactions:
        """Return each user's first liked event with each item: what could have been recommended before it."""
        history = self.everything.histories
        users = history.users()
        liked = np.flatnonzero(history.weights > 0)
        keys = users[liked] * len(self.everything.items) + history.items[liked]
        first = liked[np.unique(keys, return_index=True)[1]]
        kept = np.zeros(len(users), bool)
        kept[first] = True
        return self.everything.only(kept)


def by_activity(interactions: Interactions) -> list[str]:
    """Return for each user whether they have few, some or many events, about a third each."""
    lengths = np.diff(interactions.histories.starts)
    low, high = np.quantile(lengths, [1 / 3, 2 / 3]) if len(lengths) else (0, 0)
    return [GROUPS[int(length > low) + int(length > high)] for length in lengths]


def category_numbers(attributes: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the number of each item's category; nothing if no item has one."""
    if not any(row.get("category") for row in attributes):
        return []
    names = [str(row.get("category", "")) for row in attributes]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return [numbers[name] for name in names]
