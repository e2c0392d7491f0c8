"""Answers the lines of batches while nobody waits for anything else, each in the order of things of any request.

No line begins while more requests are under way than `idle_requests`; those that have begun go on. Of several gateways
of a factory on one home one answers: who holds the lock, which the kernel takes from the dead.

Owns when a line is asked, and what becomes of it when its process dies or its engine fails. Knows no table.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import format_tb
from typing import Any, BinaryIO

from bessemer.core.errors import BackendError, BessemerError, Conflict, NotFound
from bessemer.core.nouns import Delta, Entry, EntryStatus, ScoreResult, Usage
from bessemer.core.raw import EmbedResult
from bessemer.serve.accounts.gate import let_in
from bessemer.serve.door import refusal_of
from bessemer.serve.envelope import explained
from bessemer.serve.keys import Key, KeyRefusal
from bessemer.serve.refusals import STOPPING, TOO_SLOW, WRONG_KEY, Refusal, Refused
from bessemer.serve.serving import Answer, Floor, Making, Order, Read
from bessemer.serve.webhooks import WebhookStore
from bessemer.serve.work.batch_input import LineError
from bessemer.serve.work.batches import Batch, BatchStore, Line
from bessemer.serve.work.troubles import Troubles

logger = logging.getLogger("bessemer.serve")

Booked = Callable[[str], Entry | None]
"""From a request's id to its entry in the books; None if it has none."""

_PIECES: dict[str, Any] = {"delta": Delta, "score": ScoreResult, "embed": EmbedResult}
_LOOK_SECONDS = 1.0
_BUSY_SECONDS = 0.05
_TRIES = 3
_AGAIN_SECONDS = 2.0
_MOST_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What lines are answered with.

    Attributes:
        floor: what any request is answered with.
        readers: of bodies, by endpoint.
        batches: whose lines.
        booked: says whether a request was booked.
        lock: file that one gateway holds.
        streams: lines under way at the same time.
        idle_requests: no line begins while more requests are under way.
        max_lines: of one batch.
        webhooks: are told how batches end.
        is_archived: says whether a project is: then nobody has a key any more to cancel its batches, and all are.
    """

    floor: Floor
    readers: Mapping[str, Read]
    batches: BatchStore
    booked: Booked
    lock: Path
    streams: int = 2
    idle_requests: int = 0
    max_lines: int = 50_000
    webhooks: WebhookStore | None = None
    is_archived: Callable[[str], bool] = lambda project: False


class BatchRunner:
    """Answers batches until it is stopped; lives in the gateway's event loop."""

    def __init__(self, tools: Tools) -> None:
        self._tools, self._batches = tools, tools.batches
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], tuple[str, int]] = {}
        self._later: dict[tuple[str, int], float] = {}
        self._tries: dict[tuple[str, int], int] = {}
        self._troubles, self._dropped_at = Troubles(), float("-inf")
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Look for something new to do at once; in the event loop."""
        self._wake.set()

    def start(self) -> None:
        """Begin; in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; lines under way are asked again under the next gateway, and nobody is charged for what they took."""
        tasks = [*self._running, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        lock: BinaryIO | None = None
        try:
            while True:
                self._wake.clear()
                try:
                    lock = lock or _locked(self._tools.lock)
                    seconds = await self._round() if lock else _LOOK_SECONDS
                    self._troubles.over("")
                except Exception as error:  # a mistake of ours must not end all batches for good
                    self._put_off("", "batches wait", error)
                    seconds = _LOOK_SECONDS
                until = self._now() + _LOOK_SECONDS
                await self._pause(seconds)
                while seconds == _BUSY_SECONDS and self._is_busy() and self._now() < until:
                    await self._pause(_BUSY_SECONDS)
        finally:
            if lock:
                lock.close()

    async def _pause(self, seconds: float) -> None:
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({waking, *self._running}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()

    async def _round(self) -> float:
        """Begin what may begin, end what is over; return after how many seconds to look again."""
        await self._tell()
        waits = False
        if self._now() - self._dropped_at >= _LOOK_SECONDS:
            self._dropped_at = self._now()
            await asyncio.to_thread(self._drop)
        open_now = await asyncio.to_thread(self._batches.open)
        for project, batch in sorted(open_now, key=lambda each: each[1].status != "validating"):
            if self._troubles.are_put_off(batch.id, self._now()):
                continue
            try:
                waits = await self._advance(project, batch) or waits
                self._troubles.over(batch.id)
            except Exception as error:  # of one batch must not hold up those of others
                await self._stumble(project, batch, error)
        return _BUSY_SECONDS if waits or self._running else _LOOK_SECONDS

    async def _advance(self, project: str, batch: Batch) -> bool:
        """Begin a batch or a line of it, or end the batch; return whether there is more to do soon."""
        if batch.status == "validating":
            await asyncio.to_thread(self._batches.begin, project, batch, self._tools.max_lines)
            return True
        mine = {number for id, number in self._running.values() if id == batch.id}
        if batch.status == "cancelling" or self._tools.floor.clock() >= batch.expires_at:
            if not mine:
                await self._end(project, batch)
            return True
        if not self._may_begin():
            return True
        put_off = {number for (id, number), until in self._later.items() if id == batch.id and until > self._now()}
        room = max(1, self._tools.streams // 2)  # so that two batches share the streams
        for line in await asyncio.to_thread(self._batches.waiting, batch.id, room, mine | put_off):
            if not self._may_begin():
                return True
            task = asyncio.get_running_loop().create_task(self._take(project, batch, line))
            self._running[task] = (batch.id, line.number)
            task.add_done_callback(self._running.pop)
            mine.add(line.number)
        if not mine and not put_off:
            await self._end(project, batch)
        return True

    async def _stumble(self, project: str, batch: Batch, error: Exception) -> None:
        """Fail a batch that can never go on, when none of its lines is under way; put any other one off."""
        flaw = await asyncio.to_thread(self._batches.flaw, batch)
        if flaw is None:
            self._put_off(batch.id, f"the batch {batch.id} waits", error)
        elif all(id != batch.id for id, _ in self._running.values()):
            try:
                await self._end(project, batch, flaw)
            except Exception as other:
                self._put_off(batch.id, f"the batch {batch.id} waits", other)
            else:
                logger.error("the batch %s failed: %s", batch.id, flaw.code)

    def _put_off(self, id: str, said: str, error: Exception) -> None:
        if self._troubles.put_off(id, error, self._now()):
            logger.error("%s: %s", said, _told(error))

    def _drop(self) -> None:
        """Cancel the batches of archived projects."""
        found = self._batches.open()
        with suppress(BackendError):  # the accounts are looked into the next time
            archived = set(filter(self._tools.is_archived, {project for project, _ in found}))
            for project, batch in found:
                if project in archived and batch.status != "cancelling":
                    with suppress(Conflict):  # it is over
                        self._batches.cancel(project, batch.id)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _is_busy(self) -> bool:
        """Whether there is nothing to do but wait for others."""
        return not self._may_begin() and not self._wake.is_set()

    def _may_begin(self) -> bool:
        traffic = self._tools.floor.traffic
        idle = len(traffic) <= self._tools.idle_requests and not traffic.stopping
        return idle and len(self._running) < self._tools.streams

    async def _end(self, project: str, batch: Batch, flaw: LineError | None = None) -> None:
        await asyncio.to_thread(self._batches.finish, project, batch.id, flaw)
        for kept in (self._later, self._tries):
            for each in [each for each in kept if each[0] == batch.id]:
                del kept[each]
        await self._tell()

    async def _tell(self) -> None:
        for project, batch in await asyncio.to_thread(self._batches.untold):
            if self._tools.webhooks:
                data = {"id": batch.id}
                await asyncio.to_thread(self._tools.webhooks.emit, project, f"batch.{batch.status}", data)
            await asyncio.to_thread(self._batches.told, batch)

    async def _take(self, project: str, batch: Batch, line: Line) -> None:
        """Bring a line to its end, or put it off."""
        place = (batch.id, line.number)
        try:
            response = await self._recovered(project, batch, line) if line.staged else None
            if response is None:
                line = await asyncio.to_thread(self._batches.attempt, line)
                response = await self._asked(project, batch, line)
            await asyncio.to_thread(self._batches.done, line, response)
        except Exception as error:
            refusal = TOO_SLOW if isinstance(error, TimeoutError) else explained(error, line.request)
            tries = self._tries[place] = self._tries.get(place, 0) + 1
            again = _again_after(refusal, tries)
            if again is not None:
                self._later[place] = self._now() + again
                return
            with suppress(BessemerError):  # else it is asked again
                await asyncio.to_thread(self._batches.done, line, _refused(line, refusal))

    async def _recovered(self, project: str, batch: Batch, line: Line) -> dict[str, Any] | None:
        """Return the response to a line whose answer was kept and booked before its process died, or None."""
        entry = await asyncio.to_thread(self._tools.booked, line.request)
        if entry is None:  # an earlier version may have booked it, before its gateway was upgraded
            line = replace(line, request=line.earlier)
            entry = await asyncio.to_thread(self._tools.booked, line.request)
        if entry is None or entry.status != "ok":
            return None
        order = await self._order(project, batch, line)
        return _answered(line, order.teller.whole(_loaded(line.staged), entry))

    async def _asked(self, project: str, batch: Batch, line: Line) -> dict[str, Any]:
        """Return the response to a line."""
        floor = self._tools.floor
        try:
            key = await asyncio.to_thread(self._key, batch)
            order = await self._order(project, batch, line, key)
            subject = order.subject(line.request, project, key.id, batch=True)
            held = let_in(floor.gate, key, subject, order.most)
        except Refused as refused:
            return _refused(line, refused.refusal)
        async with asyncio.timeout(floor.config.request_timeout_seconds):
            async with held, floor.bookkeeper.span(subject, _nobodys_wish) as span:
                held.seen = span.watch.seen
                making = Making(order, span)
                await making.collect()

                async def stage() -> None:
                    await asyncio.to_thread(self._batches.stage, line, _dumped(making.answers))

                entry = await making.book(floor.traffic.stopping, stage)
        return _answered(line, order.teller.whole(making.answers, entry))

    async def _order(self, project: str, batch: Batch, line: Line, key: Key | None = None) -> Order:
        whose = key or Key(id=batch.key_id, project=project, created_at=0)
        order: Order = await self._tools.readers[batch.endpoint](
            line.body, self._tools.floor.caller(whose, line.request)
        )
        return order

    def _key(self, batch: Batch) -> Key:
        try:
            found = self._tools.floor.keys.standing(batch.key_id)
        except NotFound:
            raise Refused(WRONG_KEY) from None
        if isinstance(found, KeyRefusal):
            raise Refused(refusal_of(found))
        return found


def _told(error: Exception) -> str:
    """Return what the log says of an error: its kind, and of a mistake of ours the places in the code."""
    if isinstance(error, BessemerError):
        return error.code
    return f"{type(error).__name__}\n{''.join(format_tb(error.__traceback__))}"


def _nobodys_wish() -> EntryStatus:
    """Return how a line ended that was broken off: by our own fault, so that only its answer is charged."""
    return "error"


def _again_after(refusal: Refusal, tries: int) -> float | None:
    """Return after how many seconds a line is asked again; None if what it was told is its end."""
    told = dict(refusal.headers)
    if refusal is STOPPING:
        return _LOOK_SECONDS
    if refusal.status == 429 and told.get("x-should-retry") != "false":
        return min(_MOST_AGAIN_SECONDS, float(told.get("retry-after") or _AGAIN_SECONDS))
    if refusal.status >= 500 and tries < _TRIES:
        return _AGAIN_SECONDS
    return None


def _answered(line: Line, body: bytes) -> dict[str, Any]:
    return {"status_code": 200, "request_id": line.request, "body": json.loads(body)}


def _refused(line: Line, refusal: Refusal) -> dict[str, Any]:
    return {"status_code": refusal.status, "request_id": line.request, "body": json.loads(refusal.body())}


def _dumped(answers: list[Answer]) -> str:
    names = {kind: name for name, kind in _PIECES.items()}
    told = [
        {
            "finish_reason": answer.finish_reason,
            "usage": answer.usage.model_dump(),
            "pieces": [[names[type(piece)], piece.model_dump(mode="json")] for piece in answer.pieces],
        }
        for answer in answers
    ]
    return json.dumps(told, separators=(",", ":"))


def _loaded(text: str) -> list[Answer]:
    return [
        Answer(
            [_PIECES[name].model_validate(piece) for name, piece in told["pieces"]],
            told["finish_reason"],
            Usage(**told["usage"]),
        )
        for told in json.loads(text)
    ]


def _locked(path: Path) -> BinaryIO | None:
    """Return a file that nobody else holds, or None; it is let go of when it is closed or the process dies."""
    file = path.open("ab")
    path.chmod(0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
