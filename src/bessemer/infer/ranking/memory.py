"""What users and sessions did since the model was trained, and before, by project.

Owns histories in memory. Knows no model: items are numbers. Projects never see each other's.
"""

from __future__ import annotations

from bisect import bisect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bessemer.core.ranking import Interaction
from bessemer.models.ranking.base import Floats, Histories, Numbers

Who = tuple[str, str, str]
"""Project, ``user`` or ``session``, and the name."""


@dataclass(slots=True)
class Track:
    """One history, the oldest event first; of a user, also which sessions their events stand in besides."""

    times: list[float] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)

    def add(self, time: float, item: int, weight: float, most: int) -> None:
        """Put an event where its time belongs, once; the oldest beyond `most` goes."""
        place = bisect(self.times, time)
        first = place
        while first and self.times[first - 1] == time:
            first -= 1
            if self.items[first] == item:
                return
        self.times.insert(place, time)
        self.items.insert(place, item)
        self.weights.insert(place, weight)
        if len(self.items) > most:
            del self.times[0], self.items[0], self.weights[0]


class Memory:
    """Histories of users and sessions.

    Args:
        users: names of the users of `trained`; their histories are every project's to ask for.
        trained: what they did before the model was trained.
        most_users: tracks kept; the least recently told go.
        most_events: newest events of a track that are kept.
    """

    def __init__(self, users: Sequence[str], trained: Histories, most_users: int, most_events: int) -> None:
        self._numbers = {name: number for number, name in enumerate(users)}
        self._trained = trained
        self._tracks: OrderedDict[Who, Track] = OrderedDict()
        self._most_users, self._most_events = most_users, most_events
        self._forgotten: set[tuple[str, str]] = set()

    def add(self, project: str, event: Interaction, item: int) -> None:
        """Take one event."""
        for kind, name in (("user", event.user), ("session", event.session)):
            if name:
                track = self._track((project, kind, name))
                track.add(event.time, item, event.weight, self._most_events)
                if kind == "user" and event.session:
                    track.sessions.add(event.session)

    def history(self, project: str, user: str, session: str = "", *, whole: bool = False) -> tuple[Numbers, Floats]:
        """Return the items and weights of a user, and of a session besides, the oldest first.

        Args:
            project: whose user and session.
            user: empty is none.
            session: empty is none.
            whole: what was trained on is told to its beginning, not to the newest events that are kept.
        """
        before = self._before(project, user)
        tracks = [self._tracks.get((project, kind, name)) for kind, name in (("user", user), ("session", session))]
        told = [track for track in tracks if track]
        if len(told) == 2:  # an event of the user in this session stands in both
            mine = set(zip(told[0].times, told[0].items, strict=True))
            extra = [
                event
                for event in zip(told[1].times, told[1].items, told[1].weights, strict=True)
                if event[:2] not in mine
            ]
            merged = [*zip(told[0].times, told[0].items, told[0].weights, strict=True), *extra]
            merged.sort(key=lambda event: event[0])
            items, weights = [event[1] for event in merged], [event[2] for event in merged]
        else:
            items, weights = (told[0].items, told[0].weights) if told else ([], [])
        first = None if whole else -self._most_events
        return (
            np.concatenate([before[0], np.asarray(items, np.int32)])[first:],
            np.concatenate([before[1], np.asarray(weights, np.float32)])[first:],
        )

    def trained(self, user: str) -> tuple[Numbers, Floats]:
        """Return what a user did before the model was trained."""
        number = self._numbers.get(user)
        return (np.zeros(0, np.int32), np.zeros(0, np.float32)) if number is None else self._trained.of(number)

    def forget(self, project: str, user: str) -> None:
        """Forget what a user did, their sessions and, for this project, what was trained on, too."""
        track = self._tracks.pop((project, "user", user), None)
        for session in track.sessions if track else ():
            self._tracks.pop((project, "session", session), None)
        self._forgotten.add((project, user))

    def users(self, project: str) -> list[str]:
        """Return the users of a project who have a history, those that were trained on among them."""
        told = [name for owner, kind, name in self._tracks if owner == project and kind == "user"]
        return [*told, *(name for name in self._numbers if (project, name) not in self._forgotten)]

    def __len__(self) -> int:
        return len(self._tracks)

    def _before(self, project: str, user: str) -> tuple[Numbers, Floats]:
        return self.trained("" if (project, user) in self._forgotten else user)

    def _track(self, who: Who) -> Track:
        track = self._tracks.get(who)
        if track is None:
            track = self._tracks[who] = Track()
            if len(self._tracks) > self._most_users:
                self._tracks.popitem(last=False)
        else:
            self._tracks.move_to_end(who)
        return track
