"""A served ranker that takes the place of its predecessor when a newer one is deployed, without a pause.

Owns the exchange: the newer one is loaded and told all events beside the one that answers, then takes over. Knows no
model. Looks at the deployment's file once in some seconds, when it is asked something.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bessemer.core.errors import BessemerError
from bessemer.core.ranking import Interaction, Ranking, RankRequest
from bessemer.infer.engines import Counters
from bessemer.infer.ranking.engine import RankerEngine
from bessemer.products.home import Deployment
from bessemer.products.recommender.trying import TryingRanker
from bessemer.serve import EventStore
from bessemer.serve.events import NOTHING, Extent
from bessemer.serve.wire.events import tell_again

AnyRanker = RankerEngine | TryingRanker
_LOOK_SECONDS = 5.0
_DRAIN_SECONDS = 60.0
"""How long what was replaced may go on with what it was asked before."""


class RenewingRanker:
    """An Engine of RankRequests that learns, over the newest deployed ranker.

    Args:
        deployment: what is deployed now.
        file: the deployment's, which a newer one replaces.
        opened: opens the ranker in a folder.
        events: the gateway's store; None keeps none.
    """

    def __init__(
        self, deployment: Deployment, file: Path, opened: Callable[[str], AnyRanker], events: Path | None
    ) -> None:
        self._key, self._file, self._opened, self._events = deployment.key, file, opened, events
        self._now = opened(deployment.path)
        self.name, self.capabilities = self._now.name, self._now.capabilities
        self._before = Counters()
        self._replaced: list[tuple[AnyRanker, float]] = []
        self._lock, self._renewing = threading.Lock(), threading.Lock()
        self._looked = time.monotonic()

    @property
    def told(self) -> dict[str, int]:
        """For each project, the number of the last stored event that the ranker was trained on."""
        return self._now.told

    @property
    def counters(self) -> Counters:
        """What this one and those before it ranked."""
        counted = self._before
        for engine in (self._now, *(engine for engine, _ in self._replaced)):
            counted = _sum(counted, engine.counters)
        return counted

    async def respond(self, request: Any, /) -> Any:
        """Return a ranking; see `RankerEngine.respond`."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            threading.Thread(target=self._renewed_quietly, name="renewing", daemon=True).start()
        return await self._now.respond(request)

    def stream(self, request: Any, /) -> AsyncIterator[Any]:
        """Raise Unsupported when it is iterated: a ranking comes whole."""
        return self._now.stream(request)

    def rank(self, request: RankRequest) -> Ranking:
        """Return a ranking at once."""
        return self._now.rank(request)

    def learn(self, project: str, events: Sequence[Interaction], /) -> int:
        """Take events; see `RankerEngine.learn`."""
        with self._lock:
            return self._now.learn(project, events)

    def forget(self, project: str, user: str, /) -> None:
        """Forget a user; see `RankerEngine.forget`."""
        with self._lock:
            self._now.forget(project, user)

    def users(self, project: str, /) -> list[str]:
        """Return the users of a project who have a history; see `RankerEngine.users`."""
        return self._now.users(project)

    def settle(self) -> bool:
        """Wait until the weights have all that was told."""
        return self._now.settle()

    async def close(self) -> None:
        """Take no more requests and events."""
        for engine in (self._now, *(engine for engine, _ in self._replaced)):
            await engine.close()

    def renew(self) -> bool:
        """Let a newer deployed ranker take over, if there is one; return whether it did.

        Raises:
            BessemerError: it cannot be opened; the one that answers stays.
        """
        with self._renewing:
            self._drain()
            found = Deployment.model_validate_json(self._file.read_text(encoding="utf-8"))
            if found.key == self._key:
                return False
            newer = self._opened(found.path)
            extent = self._tell(newer)
            with self._lock:  # what was told, and who was forgotten, meanwhile; what is told twice counts once
                self._tell(newer, extent)
                # Whoever is being answered by the older one is answered: it is closed when that is long over.
                self._replaced.append((self._now, time.monotonic()))
                self._now, self._key = newer, found.key
                self.capabilities = newer.capabilities  # an experiment may begin with it, or end
                return True

    def _drain(self) -> None:
        """Close what was replaced a while ago."""
        while self._replaced and time.monotonic() - self._replaced[0][1] > _DRAIN_SECONDS:
            older, _ = self._replaced[0]
            asyncio.run(older.close())
            self._before = _sum(self._before, older.counters)
            del self._replaced[0]

    def _tell(self, newer: AnyRanker, after: Extent = NOTHING) -> Extent:
        """Tell what the store has beyond an extent, and return how far the store went when that began."""
        if not (self._events and self._events.exists()):
            return after
        with closing(EventStore(self._events)) as store:
            extent = store.extent()
            tell_again(store, {self.name: newer}, after)
        return extent

    def _renewed_quietly(self) -> None:
        try:
            self.renew()
        except (BessemerError, OSError, ValueError):
            logging.getLogger(__name__).exception("the newer ranker cannot be opened; the earlier one goes on")


def _sum(one: Counters, other: Counters) -> Counters:
    return one.plus(other.requests, other.total, other.undelivered)
