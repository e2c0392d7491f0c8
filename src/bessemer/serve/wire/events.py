"""``/v1/events``: what users did with items, our own, as OpenAI's wire has none.

Owns the endpoints. An acknowledged event is on disk, and counts in the next ranking of its project.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.errors import NotFound
from bessemer.core.ranking import Interaction, Learning
from bessemer.serve.asking import Wire
from bessemer.serve.door import authenticate, read_body
from bessemer.serve.events import NOTHING, EventStore, Extent
from bessemer.serve.rankings import RankingStore
from bessemer.serve.refusals import Refusal, Refused, invalid, of_validation
from bessemer.serve.serving import Floor

MOST_EVENTS = 10_000
_MOST_LISTED = 1_000
_MOST_TOLD = 10_000
_AHEAD_SECONDS = 3_600.0
"""Clocks of clients may be so far ahead; later events would stay the newest for good."""


class AskedEvent(Interaction):
    """An event as it is told; without `time` it is of this moment."""

    time: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class AskedEvents(Wire):
    """The body of ``POST /v1/events``."""

    events: Annotated[list[AskedEvent], Field(min_length=1, max_length=MOST_EVENTS)]


class EventDesk:
    """The endpoints of events; each sees the key's own project only.

    Args:
        floor: what all endpoints share.
        store: keeps the events.
        rankings: keeps what users were shown, which is forgotten with them.
    """

    def __init__(self, floor: Floor, store: EventStore, rankings: RankingStore | None = None) -> None:
        self._floor, self._store, self._rankings = floor, store, rankings

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("/v1/events", self.create, methods=["POST"]),
            Route("/v1/events", self.page, methods=["GET"]),
            Route("/v1/events/{user:path}", self.forget, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """Keep events, and tell them to the engines that learn."""
        floor, config = self._floor, self._floor.config
        key = authenticate(floor.keys, request.scope)
        with floor.traffic.visit():
            body = await read_body(request.scope, request.receive, config.max_body_bytes, config.body_timeout_seconds)
            events = read_events(body, floor.clock())
            told = await run_in_threadpool(self._take, key.project, events)
        return Response(json.dumps(told), media_type="application/json")

    async def page(self, request: Request) -> Response:
        """Return a page, the last told first."""
        key, given = authenticate(self._floor.keys, request.scope), request.query_params
        limit = given.get("limit", "20")
        if not limit.isdecimal() or len(limit) > 4 or not 1 <= int(limit) <= _MOST_LISTED:
            raise Refused(invalid("limit", f"'limit' is a number from 1 to {_MOST_LISTED}."))
        try:
            found, more = await run_in_threadpool(
                self._store.page, key.project, given.get("user", ""), given.get("after", ""), int(limit)
            )
        except NotFound as error:
            raise Refused(Refusal(404, "There is no such event.", "event_not_found", "after")) from error
        ends = (found[0].id, found[-1].id) if found else (None, None)
        data = [event.model_dump() for event in found]
        page = {"object": "list", "data": data, "first_id": ends[0], "last_id": ends[1], "has_more": more}
        return Response(json.dumps(page), media_type="application/json")

    async def forget(self, request: Request) -> Response:
        """Forget a user: their events, what they were shown, and what engines learnt from them for this project."""
        key, user = authenticate(self._floor.keys, request.scope), request.path_params["user"]
        gone, known = await run_in_threadpool(self._forget, key.project, user)
        if not known:
            raise Refused(Refusal(404, "There is no event of this user.", "user_not_found", "user"))
        told = {"id": user, "object": "events.deleted", "deleted": True, "events": gone}
        return Response(json.dumps(told), media_type="application/json")

    def _take(self, project: str, events: list[Interaction]) -> Mapping[str, Any]:
        with self._store.telling:
            new = self._store.add(project, events)
            known = max((engine.learn(project, new) for engine in learners(self._floor.engines)), default=0)
        return {"object": "events", "accepted": len(new), "duplicates": len(events) - len(new), "known_items": known}

    def _forget(self, project: str, user: str) -> tuple[int, bool]:
        """Return how many events there were, and whether anything was known of the user."""
        shown, engines = 0, learners(self._floor.engines)
        if self._rankings:
            shown = self._rankings.forget(project, user, self._store.sessions(project, user))
        with self._store.telling:
            gone = self._store.forget(project, user)
            learnt = any(user in engine.users(project) for engine in engines)  # trained on, perhaps, and never told
            for engine in engines:
                engine.forget(project, user)
        return gone, bool(gone or shown or learnt)


def learners(engines: Mapping[str, Any]) -> list[Learning]:
    """Return the engines that learn from events."""
    return [engine for engine in engines.values() if "learn" in engine.capabilities]


def tell_again(store: EventStore, engines: Mapping[str, Any], after: Extent = NOTHING) -> int:
    """Tell the engines that learn all events that are kept, the first told first, and return how many there were.

    Their memory ended with the process that had it: so did whom they were told to forget since they were trained, which
    they are told first.

    Args:
        store: of the events.
        engines: by name.
        after: how far they were told before.
    """
    count = 0
    for engine in learners(engines):
        new = store.erasures() - after.erasures
        marks = [(project, mark) for project, mark, upto in new if upto >= engine.told.get(project, 0)]
        forget_marked(store, engine, marks)
        for project, told in store.all(known=engine.told, after=after.event):
            count += len(told)
            engine.learn(project, told)
    return count


def forget_marked(store: EventStore, engine: Learning, marks: Iterable[tuple[str, str]]) -> None:
    """Let an engine forget the users of (project, mark), except for what they did after they were forgotten."""
    by_project: dict[str, set[str]] = {}
    for project, mark in marks:
        by_project.setdefault(project, set()).add(mark)
    for project, wanted in by_project.items():
        for user in [name for name in engine.users(project) if store.mark(project, name) in wanted]:
            engine.forget(project, user)
            told, _ = store.page(project, user, limit=_MOST_TOLD)  # by now the user may have come back
            if told:
                engine.learn(project, told[::-1])


def read_events(body: bytes, now: float) -> list[Interaction]:
    """Return the events in a body, the oldest first.

    Args:
        body: JSON.
        now: Unix seconds; the time of events that have none.

    Raises:
        Refused: a field is wrong; the refusal names it.
    """
    try:
        asked = AskedEvents.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise Refused(of_validation(error, AskedEvents)) from None
    events: list[Interaction] = []
    for number, event in enumerate(asked.events):
        if event.time > now + _AHEAD_SECONDS:
            where = f"events[{number}].time"
            raise Refused(invalid(where, f"'{where}' is in the future; it is in seconds since 1970."))
        events.append(event if "time" in event.model_fields_set else event.model_copy(update={"time": now}))
    events.sort(key=lambda event: event.time)
    return events
