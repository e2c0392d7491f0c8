"""Runs the application on a socket until it is told to stop, then lets running answers end.

Owns the process's side: signals, the order of stopping. Needs uvicorn; `bessemer.serve.gateway` is the door that says
so.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from bessemer.serve.config import GatewayConfig
from bessemer.serve.sockets import listen, url_of
from bessemer.serve.traffic import Traffic

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAST_BYTES_SECONDS = 2


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
        self._config = config
        self._socket = listen(config)
        self.url = url_of(config, self._socket)
        self._traffic: Traffic = app.state.traffic
        self._stop = threading.Event()
        self._stops: asyncio.Queue[None] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                http="h11",  # strict about what a request is; the C parsers are not asked for
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=config.keep_alive_seconds,
                timeout_graceful_shutdown=_LAST_BYTES_SECONDS,
            )
        )

    def run(self, ready: Callable[[str], None] | None = None) -> None:
        """Serve until `stop` is called or, in the main thread, SIGINT or SIGTERM comes; a second one cuts the grace.

        Args:
            ready: called once with the URL when requests are answered.
        """
        try:
            asyncio.run(self._run(ready))
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
        with self._signals():
            serving = asyncio.create_task(self._server.serve([self._socket]))
            started = asyncio.create_task(self._server.listening.wait())
            await asyncio.wait((serving, started), return_when=asyncio.FIRST_COMPLETED)
            try:
                if started.done() and ready:
                    ready(self.url)
                if started.done() and not self._stop.is_set():
                    stopped = asyncio.create_task(self._stops.get())
                    await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
                    stopped.cancel()
                await self._end_traffic()
            finally:
                started.cancel()
                self._server.should_exit = True
                await serving

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


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers, which would raise the signal again before our callers could clean up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()
