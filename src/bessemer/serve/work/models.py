"""Fine-tuned models: of their project only, served from the moment they are there, opened when they are first asked.

A checkpoint is a model of its own, whose weights are made when it is first asked.

Owns which models there are and which of them are in memory. Knows no way to make or open one: that is handed in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from bessemer.core.errors import NotFound, Unsupported
from bessemer.core.model_names import tuned_model
from bessemer.core.nouns import ChatRequest, Completion, Delta
from bessemer.core.protocols import Engine, counting
from bessemer.serve.work.records import Record, Records, Wanted

ChatEngine = Engine[ChatRequest, Completion, Delta]
KIND = "model"
_STALE_SECONDS = 1.0
"""How long after another process deleted a model it may still answer here."""


class TunedModel(Record):
    """A model that came of a job.

    Attributes:
        id: what clients call it, ``ft:…``.
        base: the model that the job started from.
        path: of the folder that is served; empty of a checkpoint that is not made yet.
        source: of the folder that another job may start from; empty as `path` is.
        job: whose it is.
        created_at: Unix seconds.
        adapter: of a checkpoint, the folder of what was trained by then.
        onto: of a checkpoint, the folder of the model that the adapter belongs to.
    """

    base: str
    path: str
    source: str
    job: str
    created_at: int
    adapter: str = ""
    onto: str = ""


Make = Callable[[str, TunedModel], "Future[TunedModel]"]
"""Makes what is served of a project's checkpoint; gives it back with `path` and `source`."""


def _makes_none(project: str, model: TunedModel) -> Future[TunedModel]:
    raise Unsupported("this gateway makes no checkpoints", hint="Ask the fine-tuned model itself.")


class TunedModels:
    """The fine-tuned models of all projects.

    Args:
        records: where it is written down which there are.
        open_model: opens the engine of a folder; may take seconds.
        capabilities: of such engines.
        most: are in memory at the same time; one that nobody asks makes room.

    Attributes:
        closed: is told of every engine that was closed, by its model's name.
        make: makes checkpoints.
    """

    def __init__(
        self, records: Records, open_model: Callable[[str], ChatEngine], capabilities: frozenset[str], most: int
    ) -> None:
        self._records, self._open, self._most = records, open_model, most
        self.capabilities = capabilities
        self.closed: Callable[[str, ChatEngine], None] = lambda name, engine: None
        self.make: Make = _makes_none
        self._engines: dict[str, _Lazy] = {}
        self._seen: dict[tuple[str, str], float] = {}
        self._deletions = 0
        self._opening = asyncio.Lock()

    def list(self, project: str) -> tuple[TunedModel, ...]:
        """Return a project's models, the oldest first."""
        return self._records.page(KIND, project, TunedModel, Wanted(limit=10_000, newest_first=False)).items

    def get(self, project: str, name: str) -> TunedModel:
        """Return one model.

        Raises:
            NotFound: the project has none of that name.
        """
        return self._records.get(KIND, project, name, TunedModel)

    def delete(self, project: str, name: str) -> None:
        """Forget a model, with its checkpoints; requests under way end as ever.

        Raises:
            NotFound: the project has none of that name.
        """
        with self._records.writing() as execute:
            self._records.find(execute, KIND, project, name, TunedModel)
            self._records.drop(execute, name)
        self._deletions += 1
        for seen in list(self._seen):
            if name in (seen[1], tuned_model(seen[1])):
                self._seen.pop(seen, None)

    def made(self, project: str, model: TunedModel) -> None:
        """Note what was made of a checkpoint, unless it was deleted meanwhile."""
        with suppress(NotFound):
            self._records.change(KIND, project, model.id, TunedModel, lambda _: (model, ""))

    async def engine(self, project: str, name: str) -> ChatEngine | None:
        """Return the engine of a project's model, which opens when it is asked, or None if there is no such model."""
        if not name.startswith("ft:"):
            return None
        now = time.monotonic()
        if now - self._seen.get((project, name), float("-inf")) > _STALE_SECONDS:
            deletions = self._deletions
            try:
                model = await asyncio.to_thread(self.get, project, name)  # the database may keep it waiting
            except NotFound:
                return None
            if deletions == self._deletions:
                self._seen[project, name] = now
            self._engines.setdefault(name, _Lazy(self, project, model))
        return self._engines[name]

    @asynccontextmanager
    async def using(self, lazy: _Lazy) -> AsyncIterator[ChatEngine]:
        """Give an open engine, which stays open within the block."""
        lazy.users += 1
        try:
            if not lazy.made.path:  # whoever waits may go; the others, and the next, find it made
                lazy.made = await asyncio.shield(asyncio.wrap_future(self.make(lazy.project, lazy.made)))
            if lazy.engine is None:
                async with self._opening:
                    if lazy.engine is None:
                        await self._make_room()
                        lazy.engine = await asyncio.to_thread(self._open, lazy.made.path)
            yield lazy.engine
        finally:
            lazy.users -= 1
            lazy.asked_at = time.monotonic()

    async def close(self) -> None:
        """Close all engines."""
        for lazy in self._engines.values():
            await self._close(lazy)

    async def _make_room(self) -> None:
        open_ones = [lazy for lazy in self._engines.values() if lazy.engine is not None]
        idle = sorted((lazy for lazy in open_ones if not lazy.users), key=lambda lazy: lazy.asked_at)
        for lazy in idle[: max(0, len(open_ones) + 1 - self._most)]:
            await self._close(lazy)

    async def _close(self, lazy: _Lazy) -> None:
        engine, lazy.engine = lazy.engine, None
        if engine is not None:
            await engine.close()
            self.closed(lazy.made.id, engine)


class _Lazy:
    """The engine of a model, opened when it is asked."""

    name = "tuned"

    def __init__(self, models: TunedModels, project: str, model: TunedModel) -> None:
        self._models, self.project, self.made = models, project, model
        self.capabilities = models.capabilities
        self.engine: ChatEngine | None = None
        self.users, self.asked_at = 0, 0.0

    async def respond(self, request: Any, /) -> Any:
        """Return the whole answer."""
        async with self._models.using(self) as engine:
            return await engine.respond(request)

    async def stream(self, request: Any, /) -> AsyncIterator[Delta]:
        """Yield the answer in pieces."""
        async with self._models.using(self) as engine, aclosing(engine.stream(request)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async def count_tokens(self, request: ChatRequest, /) -> int:
        """Return how many tokens a request has."""
        async with self._models.using(self) as engine:
            return await counting(engine).count_tokens(request)

    async def close(self) -> None:
        """Do nothing: `TunedModels` closes what is open."""
