"""The pool of connections to an upstream: whoever waits for one is served, or told that there is none."""

from __future__ import annotations

import asyncio
import socket

import pytest

from bessemer.core.forwarding import Forward
from bessemer.serve.fast.pool import Pool


class Told:
    """Keeps how a request ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.over: asyncio.Future[str] = loop.create_future()

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        pass

    def data(self, data: bytes) -> None:
        pass

    def end(self) -> None:
        self.over.set_result("")

    def lost(self, why: str) -> None:
        self.over.set_result(why)


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid", "a" * 70 + ".example"])
def test_whoever_waits_for_a_connection_that_fails_is_told_too(host: str) -> None:
    async def ask() -> list[str]:
        with socket.socket() as taken:  # bound, but nobody listens
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            forward = Forward(f"http://{host}:{port}/v1", "m", max_streams=1, connect_timeout_seconds=2.0)
            loop = asyncio.get_running_loop()
            pool, asked = Pool(forward, loop), [Told(loop) for _ in range(3)]
            for one in asked:
                pool.ask(b"{}", one)
            try:
                async with asyncio.timeout(30):
                    return [await one.over for one in asked]
            finally:
                pool.close()

    assert asyncio.run(ask()) == ["it cannot be reached"] * 3
