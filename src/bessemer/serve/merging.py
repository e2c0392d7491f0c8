"""Several asynchronous iterators beside each other, as one.

Owns the merge. Knows nothing of what they yield.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")

_LANES = 16
"""Iterators that are under way at the same time; the others wait for their turn."""


async def beside_each_other(sources: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """Yield what the sources yield, each in its own order; closing this closes all of them.

    At most one item of each lane waits to be taken. What a source raises is raised here, and ends the others.
    """
    if len(sources) == 1:  # the usual case needs no task
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield item
        return
    ready: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue(maxsize=1)
    waiting = iter(sources)

    async def lane() -> None:
        try:
            for source in waiting:
                async with aclosing(source) as items:
                    async for item in items:
                        await ready.put((item,))
        except Exception as error:
            await ready.put(error)
        else:
            await ready.put(None)

    lanes = [asyncio.create_task(lane()) for _ in sources[:_LANES]]
    running = len(lanes)
    try:
        while running:
            found = await ready.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                running -= 1
            else:
                yield found[0]
    finally:
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
