"""What all requests on the short way share: the ways to the models, who is admitted, who books.

Owns the averages by which is counted what nobody told. Knows no wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from bessemer.core.batching import BatchMeter
from bessemer.core.forwarding import Forward
from bessemer.serve.config import GatewayConfig
from bessemer.serve.fast.admission import Admission
from bessemer.serve.fast.committer import Committer
from bessemer.serve.fast.exchange import Answerer, Exchange, status_line
from bessemer.serve.fast.pool import Pool
from bessemer.serve.fast.reading import Asked
from bessemer.serve.fast.shapes import Shapes
from bessemer.serve.observing import Watcher
from bessemer.serve.traffic import Traffic

_MAX_HEADS = 64
_SOME = 0.05
"""Weight of the newest request in the averages."""


class Way:
    """The way to one model: its server's connections, and what its requests take on average.

    Attributes:
        tokens_per_byte: of input, by the size of the request.
        tokens_per_second: of output.
    """

    def __init__(self, name: str, pool: Pool) -> None:
        self.name, self.pool, self.forward = name, pool, pool.forward
        self.tokens_per_byte, self.tokens_per_second = 0.25, 20.0
        self.renames = name != pool.forward.model

    def learn(self, size: int, usage: tuple[int, int, int], seconds: float) -> None:
        """Take note of what a request took, as its server told it."""
        self.tokens_per_byte += _SOME * (usage[0] / size - self.tokens_per_byte)
        self.tokens_per_second += _SOME * (usage[1] / max(seconds, 1e-3) - self.tokens_per_second)

    def named(self, data: bytes) -> bytes:
        """Return a piece of an answer with the model's name as clients know it."""
        if self.renames:
            for form in (b'"model":"%s"', b'"model": "%s"'):
                data = data.replace(form % self.forward.model.encode(), form % self.name.encode())
        return data


@dataclass(frozen=True, slots=True)
class Short:
    """What the short way is made of, before there is an event loop.

    Attributes:
        forwards: where the models are, by the names that clients use.
        meter: books.
        threads: where booking waits for the disk.
        watchers: are told of every request.
    """

    config: GatewayConfig
    forwards: Mapping[str, Forward]
    admission: Admission
    meter: BatchMeter
    traffic: Traffic
    threads: Executor
    watchers: Sequence[Watcher] = ()


class Desk:
    """The short way, open.

    Args:
        short: what it is made of.
        otherwise: gives the application as who answers.
        loop: the running event loop.

    Attributes:
        heads: what `head` returned, for as long as it may be asked again: a second.
    """

    def __init__(
        self, short: Short, otherwise: Callable[[Exchange], Answerer], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.config, self.admission, self.traffic = short.config, short.admission, short.traffic
        self.watchers, self.otherwise, self.loop = short.watchers, otherwise, loop
        self.meter, self.committer = short.meter, Committer(short.meter, loop, short.threads)
        self.heads: dict[tuple[int, bytes, bytes], bytes] = {}
        self.shapes = Shapes(b"POST /v1/chat/completions HTTP/1.1\r\n", secret=True)
        pools: dict[Forward, Pool] = {}
        for forward in short.forwards.values():
            pools[forward] = pools.get(forward) or Pool(forward, loop)
        self.ways = {name: Way(name, pools[forward]) for name, forward in short.forwards.items()}

    def head(self, status: int, kind: bytes, date: bytes) -> bytes:
        """Return the first lines of an answer of that content type, and keep them; `date` is a whole line."""
        if len(self.heads) >= _MAX_HEADS:
            self.heads.clear()
        lines = b"%s%scontent-type: %s\r\nopenai-version: 2020-10-01\r\nx-content-type-options: nosniff\r\n"
        head = self.heads[status, kind, date] = lines % (status_line(status), date, kind)
        return head

    def likely(self, way: Way, asked: Asked, size: int) -> tuple[int, int]:
        """Return how many tokens a request of so many bytes has, and how many its answer may have at most."""
        most = (asked.output_tokens or self.config.default_output_tokens) * asked.choices
        return max(1, round(size * way.tokens_per_byte)), most

    async def close(self) -> None:
        """Book what is left and close the connections; all requests have ended."""
        await self.committer.close()
        for way in self.ways.values():
            way.pool.close()
