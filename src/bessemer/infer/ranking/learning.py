"""Changing the weights between items as events arrive, exactly, for one project at a time.

Owns a thread that folds users' new rows into a project's own copy of EASE's inverse. A project begins with the
trained one and never sees another's events. What is folded is a set: the order of events does not matter.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bessemer.models.ranking.base import Histories, Numbers
from bessemer.models.ranking.linear import Ease

_AT_ONCE = 64
"""Users whose rows are folded together."""

Liked = Callable[[str, str], Numbers]
"""Returns what a project's user likes now: numbers of items."""


@dataclass(slots=True)
class _Own:
    """A project's weights, and which row of each user is in them where that is not the trained one."""

    ease: Ease
    rows: dict[str, frozenset[int]] = field(default_factory=dict)


class EaseLearner:
    """Keeps projects' weights.

    Args:
        trained: everybody's weights at the beginning.
        before: what a user liked in training; empty for a new one.
        liked: see `Liked`.
        most: projects whose weights are kept; beyond, the least recently changed go back to the trained ones until
            their next event.
    """

    def __init__(self, trained: Ease, before: Callable[[str], Numbers], liked: Liked, most: int) -> None:
        self._trained, self._before, self._liked, self._most = trained, before, liked, most
        self._own: OrderedDict[str, _Own] = OrderedDict()
        self._changed: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._ready = threading.Condition()
        self._busy = self._closed = False
        self._thread = threading.Thread(target=self._work, name="learner", daemon=True)
        self._thread.start()

    def ranker(self, project: str) -> Ease:
        """Return a project's weights as they are now."""
        own = self._own.get(project)
        return own.ease if own else self._trained

    def told(self, project: str, users: Sequence[str]) -> None:
        """Note that users' rows changed; they are folded in soon."""
        with self._ready:
            self._changed.update(dict.fromkeys((project, user) for user in users))
            self._ready.notify_all()

    def settle(self, timeout_seconds: float = 60.0) -> bool:
        """Wait until all that was told is folded in; return whether it is."""
        with self._ready:
            return self._ready.wait_for(lambda: not self._changed and not self._busy, timeout_seconds)

    def close(self) -> None:
        """End; what is not folded in yet is left."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._ready:
                self._busy = False
                self._ready.notify_all()
                self._ready.wait_for(lambda: self._changed or self._closed)
                if self._closed:
                    return
                project = next(iter(self._changed))[0]
                users = [user for owner, user in self._changed if owner == project][:_AT_ONCE]
                for user in users:
                    del self._changed[project, user]
                self._busy = True
            self._fold(project, users)

    def _fold(self, project: str, users: Sequence[str]) -> None:
        own = self._own.get(project) or _Own(self._trained)
        before, after = [], []
        for user in users:
            known = own.rows.get(user)
            was = frozenset(self._before(user).tolist()) if known is None else known
            now = frozenset(self._liked(project, user).tolist())
            if was != now:
                before.append(sorted(was))
                after.append(sorted(now))
                own.rows[user] = now
        if before:
            items = own.ease.items
            rows = (Histories.of_lists(lists).seen(items) for lists in (before, after))
            own = _Own(own.ease.changed(*rows), own.rows)
        self._own[project] = own
        self._own.move_to_end(project)
        while len(self._own) > self._most:
            self._own.popitem(last=False)


def liked_items(items: Numbers, weights: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Numbers:
    """Return the items of positive weight, each once."""
    return np.unique(items[weights > 0]).astype(np.int32)
