"""Requests under way: how many there may be, and what ends one before its answer does.

A visit can be ended by its client going away, by its time running out and by the gateway stopping. All three cancel
the task that works on it; what was open in it (the engine's stream, the meter's span) is closed on the way out.

Owns the count and the reasons. Knows no wire and no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from bessemer.core.nouns import EntryStatus
from bessemer.serve.refusals import CLIENT_GONE, STOPPING, TOO_MANY, TOO_SLOW, Refusal, Refused

_LAST_WORDS_SECONDS = 5.0
"""How long ended visits may take to book what they used and to say so."""


class Visit:
    """One request under way.

    Attributes:
        why: the work on it was cancelled, None if it was not.
    """

    why: Refusal | None = None

    def cancel(self) -> None:
        """End the work; called once."""
        raise NotImplementedError

    def interrupt(self, why: Refusal) -> None:
        """Cancel the work; the first reason counts."""
        if self.why is None:
            self.why = why
            self.cancel()


class TaskVisit(Visit):
    """A request that a task works on."""

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task

    def cancel(self) -> None:
        """Cancel the task."""
        self._task.cancel()

    def status(self, *, streamed: bool) -> EntryStatus:
        """Return how a visit that was cancelled ended: by its client or from outside, or by our own fault.

        Of a stream whose time ran out the client has the pieces, and may be who was slow.
        """
        by_client = self.why in (None, CLIENT_GONE) or (self.why is TOO_SLOW and streamed)
        return "cancelled" if by_client else "error"

    @contextmanager
    def watched(self, receive: Receive, seconds: float) -> Iterator[None]:
        """End the visit when its client goes away or its time runs out. The request's body must have been read."""
        watcher = asyncio.create_task(self._wait_until_gone(receive))
        timer = asyncio.get_running_loop().call_later(seconds, self.interrupt, TOO_SLOW)
        try:
            yield
        finally:
            timer.cancel()
            watcher.cancel()

    async def _wait_until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.interrupt(CLIENT_GONE)


class Traffic:
    """All visits.

    Attributes:
        stopping: no more visits are taken.
    """

    def __init__(self, max_concurrent_requests: int) -> None:
        self._limit = max_concurrent_requests
        self._visits: set[Visit] = set()
        self._none = asyncio.Event()
        self._none.set()
        self.stopping = False

    def __len__(self) -> int:
        return len(self._visits)

    @contextmanager
    def visit(self) -> Iterator[TaskVisit]:
        """Take in the request that the current task works on.

        Raises:
            Refused: there are too many, the gateway is stopping, or something ended this visit.
        """
        if self.stopping:
            raise Refused(STOPPING)
        task = asyncio.current_task()
        assert task is not None, "visits are made by tasks"
        visit = TaskVisit(task)
        if not self.enter(visit):
            raise Refused(TOO_MANY)
        try:
            yield visit
        except asyncio.CancelledError:
            if visit.why is None:
                raise  # somebody else cancelled the task
            task.uncancel()
            raise Refused(visit.why) from None
        finally:
            self.leave(visit)

    def enter(self, visit: Visit) -> bool:
        """Take in a request, or say False if it has to come again; `leave` ends the visit."""
        if self.stopping or len(self._visits) >= self._limit:
            return False
        if not self._visits:
            self._none.clear()
        self._visits.add(visit)
        return True

    def leave(self, visit: Visit) -> None:
        """Let go of a visit, which may be over already."""
        self._visits.discard(visit)
        if not self._visits:
            self._none.set()

    async def stop(self, grace_seconds: float) -> None:
        """Take no more visits; return when all are over. Those that take longer than the grace are ended."""
        self.stopping = True
        if await self._quiet_within(grace_seconds):
            return
        for visit in list(self._visits):
            visit.interrupt(STOPPING)
        await self._quiet_within(_LAST_WORDS_SECONDS)

    async def _quiet_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._none.wait(), seconds)
        except TimeoutError:
            return False
        return True
