"""From rows of events to histories: names become numbers, each user's events stand in the order of time.

Owns the reading of events and the matrix that the linear families are fitted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from bessemer.core.errors import ConfigError, MissingDependency
from bessemer.models.ranking.base import Floats, Histories


@dataclass(frozen=True, slots=True)
class Interactions:
    """Everything that users did, and what users and items are called.

    Attributes:
        users: names, sorted; the number of a user is the place here.
        items: names, sorted.
        histories: of all users, in their order.
        times: of each event, Unix seconds; shape (events,).
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    histories: Histories
    times: np.ndarray[Any, np.dtype[np.float64]]

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]], items: Sequence[str] = ()) -> Interactions:
        """Return the interactions in rows with ``user`` (or ``session``), ``item``, ``time`` and perhaps ``weight``.

        Args:
            rows: in any order; events at one time stay in the order given.
            items: names of items that are known besides, which perhaps nobody met.

        Raises:
            ConfigError: a row lacks one of these, or there are no rows.
        """
        told = [_told(number, row) for number, row in enumerate(rows)]
        if not told:
            raise ConfigError("there are no events", hint="Give a table with the columns user, item and time.")
        users = sorted({user for user, _, _, _ in told})
        names = sorted({item for _, item, _, _ in told} | set(items))
        by_user = {name: number for number, name in enumerate(users)}
        by_item = {name: number for number, name in enumerate(names)}
        owner = np.asarray([by_user[user] for user, _, _, _ in told])
        times = np.asarray([time for _, _, time, _ in told], np.float64)
        order = np.lexsort((times, owner))
        starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(users)))]).astype(np.int64)
        numbers = np.asarray([by_item[item] for _, item, _, _ in told], np.int32)[order]
        weights = np.asarray([weight for _, _, _, weight in told], np.float32)[order]
        return cls(tuple(users), tuple(names), Histories(starts, numbers, weights), times[order])

    def only(self, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> Interactions:
        """Return the same users and items with some of the events; `kept` has one flag for each."""
        counts = np.bincount(self.histories.users()[kept], minlength=len(self.users))
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        fewer = Histories(starts, self.histories.items[kept], self.histories.weights[kept])
        return Interactions(self.users, self.items, fewer, self.times[kept])

    def counts(self) -> Floats:
        """Return how many users had each item; shape (items,)."""
        return np.asarray(matrix(self.histories, len(self.items)).sum(axis=0), np.float32).ravel()


def matrix(histories: Histories, items: int, *, weighted: bool = False) -> Any:
    """Return a sparse matrix (scipy, CSR, 32 bit) of users and items.

    Args:
        histories: one row each.
        items: how many columns.
        weighted: the largest weight that an item has in a history; else 1. What has no positive weight is left out.
    """
    try:
        from scipy import sparse
    except ModuleNotFoundError as error:
        raise MissingDependency("scipy", extra="recommend") from error
    liked = histories.weights > 0
    users, numbers, weights = histories.users()[liked], histories.items[liked], histories.weights[liked]
    if not weighted:
        weights = np.ones_like(weights)
    order = np.lexsort((-weights, numbers, users))  # of the events of a user with an item the strongest is first
    users, numbers, weights = users[order], numbers[order], weights[order]
    first = np.ones(len(users), bool)
    first[1:] = (users[1:] != users[:-1]) | (numbers[1:] != numbers[:-1])
    shape = (len(histories), items)
    return sparse.csr_matrix((weights[first], (users[first], numbers[first])), shape=shape)


def _told(number: int, row: Mapping[str, Any]) -> tuple[str, str, float, float]:
    user, item = row.get("user") or row.get("session"), row.get("item")
    when = row.get("time")
    when = when.timestamp() if isinstance(when, datetime) else when
    try:
        time, weight = float(str(when)), float(1.0 if row.get("weight") is None else row["weight"])
    except (TypeError, ValueError):
        time, weight = float("nan"), 1.0
    if user in (None, "") or item in (None, "") or not (np.isfinite(time) and np.isfinite(weight)):
        raise ConfigError(
            f"row {number} is no event: {dict(row)!r:.200}",
            hint="Give each row a user (or session), an item and a time in seconds; weight is a number or left out.",
        )
    return str(user), str(item), time, weight
