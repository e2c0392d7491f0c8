"""Runs the application on a socket until it is told to stop, then lets running answers end.

Owns the process's side: the event loop (uvloop's where it is installed), signals, the order of stopping. Needs
httptools; `bessemer.serve.gateway` is the door that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from starlette.applications import Starlette

from bessemer.serve.config import GatewayConfig
from bessemer.serve.fast.bridge import Cycle, Lifespan
from bessemer.serve.fast.desk import Desk, Short
from bessemer.serve.fast.exchange import Answerer, Exchange
from bessemer.serve.fast.forward import answer, quick
from bessemer.serve.fast.http import HttpServer, Limits
from bessemer.serve.sockets import listen, most_connections, url_of
from bessemer.serve.traffic import Traffic

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAST_BYTES_SECONDS = 2
_COLLECT = (10_000, 20, 20)
"""Objects more than before, and rounds, after which the garbage collector looks; Python's own are 700, 10 and 10."""


class GatewayServer:
    """One run of the gateway.

    Args:
        app: from `create_app`.
        config: where to listen.

    Raises:
        Conflict: the port is in use.
        ConfigError: the address cannot be listened on.
    """

    def __init__(self, app: Starlette, config: GatewayConfig) -> None:
        self.app = app
        self._config = config
        self._socket = listen(config)
        self.url = url_of(config, self._socket)
        self._limits = Limits(
            config.body_timeout_seconds, config.keep_alive_seconds, config.request_timeout_seconds,
            most_connections(config.max_concurrent_requests),
        )  # fmt: skip
        self._traffic: Traffic = app.state.traffic
        self._stop = threading.Event()
        self._stops: asyncio.Queue[None] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, ready: Callable[[str], None] | None = None) -> None:
        """Serve until `stop` is called or, in the main thread, SIGINT or SIGTERM comes; a second one cuts the grace.

        Args:
            ready: called once with the URL when requests are answered.
        """
        try:
            with asyncio.Runner(loop_factory=_new_loop) as runner, _seldom_collected():
                runner.run(self._run(ready))
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Ask the gateway to stop; from any thread, returns at once. A second time cuts the grace."""
        self._stop.set()
        if self._loop and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it closed this very moment
                self._loop.call_soon_threadsafe(self._stops.put_nowait, None)

    async def _run(self, ready: Callable[[str], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        lifespan, tasks = Lifespan(self.app), set[asyncio.Task[None]]()
        address = self._socket.getsockname()[:2]

        def otherwise(exchange: Exchange) -> Answerer:
            return Cycle(self.app, exchange, address, lifespan.state, tasks)

        short: Short | None = self.app.state.short
        desk = Desk(short, otherwise, self._loop) if short else None
        if desk:
            server = HttpServer(partial(answer, desk), self._limits, self._loop, partial(quick, desk))
        else:
            server = HttpServer(otherwise, self._limits, self._loop)
        server.sweep_within(self._config.request_timeout_seconds)
        with self._signals():
            await lifespan.begin()
            try:
                await server.start(self._socket)
                if ready:
                    ready(self.url)
                if not self._stop.is_set():
                    await self._stops.get()
                await self._end_traffic()
            finally:
                await server.stop(_LAST_BYTES_SECONDS)
                if tasks:
                    await asyncio.wait(tasks, timeout=_LAST_BYTES_SECONDS)
                if desk:
                    await desk.close()
                await lifespan.end()

    async def _end_traffic(self) -> None:
        ending = asyncio.create_task(self._traffic.stop(self._config.grace_seconds))
        again = asyncio.create_task(self._stops.get())
        await asyncio.wait((ending, again), return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if not ending.done():
            ending.cancel()
            await self._traffic.stop(0)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Look for rings of garbage more seldom within a block, and not among what was there before it.

    Requests leave none, and looking through all that the gateway is made of would cost each some microseconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # somebody else's process
        return
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        uvloop: Any = import_module("uvloop")
    except ModuleNotFoundError:  # not made for every system; asyncio's own loop does the same, slower
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
