"""Meters a request: begun once, booked once, however it ends.

The meter reads sensors and waits for the disk, so it is called in threads; a span that was begun is booked even when
the task that began it is cancelled meanwhile.

Owns the tie between a request's end and its entry. Knows no wire and no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from bessemer.core.nouns import Entry, EntryStatus, Subject, Usage
from bessemer.core.protocols import Following, Keeping, Meter
from bessemer.serve.observing import Watch, Watcher

P = ParamSpec("P")
T = TypeVar("T")


class Span:
    """What a request has used so far.

    Attributes:
        usage: as the engine last reported it; of a cancelled answer this is what is booked.
        watch: is told of pieces, and of how an answer ended.
    """

    def __init__(self, bookkeeper: Bookkeeper, handle: str, watch: Watch) -> None:
        self._bookkeeper = bookkeeper
        self._handle = handle
        self._booked = False
        self._keep: Callable[[Usage], None] | None = None
        self._broke = False
        self.usage = Usage()
        self.watch = watch

    def keep(self) -> None:
        """Keep what was used so far; called before each piece leaves, so that a kill leaves a bill for what has left.

        Only streams do: of an answer that leaves as a whole nothing has left before it is booked.
        """
        if self._keep is None:
            meter = self._bookkeeper.meter
            self._keep = meter.keep(self._handle) if isinstance(meter, Keeping) else _forgotten
        self._keep(self.usage)

    def broke(self) -> None:
        """Note that the engine failed: what has left of a stream is charged, of a whole answer nothing has.

        Of several answers beside each other, pieces of the others may still leave before that is heard.
        """
        self._broke = True

    async def book(self, status: EntryStatus) -> Entry:
        """Return the entry when it is on disk.

        Raises:
            BackendError: the disk refused; the meter still has the entry, and booking again writes it.
        """
        keeper, seen = self._bookkeeper, self.watch.seen
        seen.status, seen.usage = status, self.usage
        stopping = keeper.call(keeper.meter.stop, self._handle, self.usage, status)
        self._booked = True
        try:
            seen.entry = await _settled(stopping)
        finally:
            self._booked = not stopping.done() or stopping.exception() is None
        return seen.entry

    async def book_unless_booked(self, status: EntryStatus | None = None) -> None:
        """Book an answer that did not come to its end; without a status, as one that failed."""
        if not self._booked:
            await self.book(status or ("broken" if self._broke and self._keep else "error"))


def _forgotten(usage: Usage) -> None:
    """Keep nothing: the meter has no place for it."""


def _stopped() -> EntryStatus:
    return "cancelled"


class Bookkeeper:
    """Calls a meter off the event loop.

    Args:
        meter: books the entries.
        threads: as many calls as these wait for the disk together, which a journal can then serve with one write.
        watchers: are told of every request.
    """

    def __init__(self, meter: Meter, threads: Executor, watchers: Sequence[Watcher] = ()) -> None:
        self.meter = meter
        self._threads = threads
        self._watchers = watchers

    @asynccontextmanager
    async def span(self, subject: Subject, stopped: Callable[[], EntryStatus] = _stopped) -> AsyncIterator[Span]:
        """Meter a block. Unless it booked the span itself, it is booked as cancelled, broken or an error.

        Args:
            subject: whose request it is.
            stopped: says of a block whose task was cancelled how it ended: by the client's wish or by our own fault.
        """
        watch = Watch(self._watchers, subject)
        try:
            async with self._metered(subject, stopped, watch) as span:
                yield span
        finally:
            watch.end()

    @asynccontextmanager
    async def _metered(self, subject: Subject, stopped: Callable[[], EntryStatus], watch: Watch) -> AsyncIterator[Span]:
        begun = self.call(self.meter.start, subject)
        try:
            span = Span(self, await _settled(begun), watch)
        except asyncio.CancelledError:
            await Span(self, begun.result(), watch).book(stopped())
            raise
        if isinstance(self.meter, Following):
            self.meter.follow(begun.result(), lambda: span.usage)
        try:
            yield span
        except asyncio.CancelledError:
            await span.book_unless_booked(stopped())
            raise
        except BaseException:
            await span.book_unless_booked()
            raise
        await span.book_unless_booked()  # the block forgot: its answer cannot have left whole

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Return the future of a call in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args, **kwargs))


async def _settled(future: asyncio.Future[T]) -> T:
    """Return the result of a future. When cancelled meanwhile, wait for its end all the same, then be cancelled."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
