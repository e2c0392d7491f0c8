"""Several gateways on one home: what one is told of events, the engines of the others hear within a second.

Owns when it is looked and what engines are told. The events themselves go by the store's database, which all share.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool

from bessemer.core.errors import BessemerError
from bessemer.serve.events import EventStore
from bessemer.serve.wire.events import forget_marked, learners, tell_again

_LOOK_SECONDS = 0.5


class Hearing:
    """Tells the engines that learn what was told before this process, and what others are told beside it.

    Args:
        store: of this process; it knows what came in here.
        engines: by name.
    """

    def __init__(self, store: EventStore, engines: Mapping[str, Any]) -> None:
        self._store, self._engines = store, engines

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Begin a block with what was told before, and listen within it."""
        self._store.follow()  # before: what comes while the past is told may be told twice, which counts once
        await run_in_threadpool(tell_again, self._store, self._engines)
        listening = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def hear(self) -> int:
        """Look once; return how many events others were told."""
        engines = learners(self._engines)
        with self._store.telling:
            news = self._store.news()
            for engine in engines:
                forget_marked(self._store, engine, news.forgotten)
            for project, events in news.events:
                for engine in engines:
                    engine.learn(project, events)
        return sum(len(events) for _, events in news.events)

    async def _listen(self) -> None:
        quiet = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await run_in_threadpool(self.hear)
                quiet = False
            except BessemerError as error:
                if not quiet:
                    logging.getLogger(__name__).error("events of other gateways are not heard: %s", error.message)
                quiet = True
