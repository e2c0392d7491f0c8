"""Books requests before their last byte leaves: all that end in one turn of the event loop with one write.

Where booking waits for the disk it is done in a thread, and what ends meanwhile waits for the next write.

Owns the order: booked, then told. Knows no wire.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from bessemer.core.batching import BatchMeter
from bessemer.core.errors import BessemerError
from bessemer.core.forwarding import Spent

logger = logging.getLogger("bessemer.serve")

Told = Callable[[bool], None]
"""Is told whether the entry was booked; if not, it will be, as an error, and the answer must not leave whole."""


class Committer:
    """Books for one event loop.

    Args:
        meter: books the entries.
        loop: the running event loop.
        threads: where booking waits.
    """

    def __init__(self, meter: BatchMeter, loop: asyncio.AbstractEventLoop, threads: Executor) -> None:
        self._meter, self._loop, self._threads = meter, loop, threads
        self._ended: list[tuple[Spent, Told | None]] = []
        self._again: list[tuple[Spent, Told | None]] = []
        self._called = False
        self._busy: asyncio.Future[None] | None = None

    def add(self, spent: Spent, told: Told | None = None) -> None:
        """Book a request within this turn of the loop, or with the next write."""
        self._ended.append((spent, told))
        if not self._called:
            self._called = True
            self._loop.call_soon(self._flush)

    async def close(self) -> None:
        """Book what is left; return when it is done."""
        while self._ended or self._busy:
            if self._busy:
                await asyncio.wait([self._busy])
            await asyncio.sleep(0)
        self._flush()
        if self._busy:
            await asyncio.wait([self._busy])
        if self._again:
            logger.error("%d requests could not be booked: the disk refuses", len(self._again))

    def _flush(self) -> None:
        self._called = False
        if self._busy:  # when it is done, it flushes again
            return
        batch, self._ended, self._again = self._again + self._ended, [], []
        if not batch:
            return
        spent = [each for each, _ in batch]
        if self._meter.waits:
            self._busy = self._loop.run_in_executor(self._threads, self._meter.book, spent)
            self._busy.add_done_callback(lambda done: self._waited(batch, done))
            return
        try:
            self._meter.book(spent)
        except BessemerError as error:
            self._failed(batch, error)
        else:
            _tell(batch, True)

    def _waited(self, batch: list[tuple[Spent, Told | None]], done: asyncio.Future[None]) -> None:
        self._busy = None
        if error := done.exception():
            self._failed(batch, error)
        else:
            _tell(batch, True)
        if self._ended:
            self._flush()

    def _failed(self, batch: list[tuple[Spent, Told | None]], error: BaseException) -> None:
        """Keep what could not be booked for the next time."""
        logger.error("%d requests could not be booked yet: %s", len(batch), type(error).__name__)
        for spent, told in batch:
            if told:
                spent.status = "error"
        self._again += [(spent, None) for spent, _ in batch]
        _tell(batch, False)


def _tell(batch: Sequence[tuple[Spent, Told | None]], booked: bool) -> None:
    for _, told in batch:
        if told:
            told(booked)
