"""Tools of MCP servers: started here and spoken to on their standard streams, or reached over streamable HTTP.

A server has a thread with an event loop of its own, so that it can be opened before the gateway's loop runs and used
from any. What a server says of its tools is for the model to read, and nothing that it says widens what is allowed:
effects, approvals and the list of tools are the operator's. Its answers count as written by somebody outside.

Owns the sessions. Needs the package ``mcp``. Source: Model Context Protocol, https://modelcontextprotocol.io/specification.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bessemer.core.acting import Effects
from bessemer.core.errors import BackendError, BessemerError, ConfigError, MissingDependency, NotFound
from bessemer.core.nouns import Tool
from bessemer.infer.agents.callables import written_out
from bessemer.infer.agents.capability import Capability, Occasion

OPEN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class McpServer:
    """Where a server is, and what its tools may do.

    Attributes:
        command: program and arguments; it gets no more of the environment than the protocol's client passes on.
        url: of a server that speaks streamable HTTP; one of the two.
        token: sent as a bearer token, or to a command as ``MCP_TOKEN``; never shown to the model.
        only: the only tools that are taken; all if none is named.
        effects: of its tools.
        approval: whether each call must be approved.
        seconds: of a call.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    token: str = ""
    only: tuple[str, ...] = ()
    effects: Effects = "once"
    approval: bool = False
    seconds: float = 30.0

    def __repr__(self) -> str:
        """Return what may be shown: not the token."""
        return f"McpServer({self.url or ' '.join(self.command)!r})"


def open_mcp_server(server: McpServer) -> list[Capability]:
    """Return the tools that a server offers; closing any of them closes the session.

    Raises:
        MissingDependency: the package mcp is not installed.
        NotFound: it does not have a tool that is named.
        ConfigError: a tool's schema refers to itself, or its name is none that a model can be told.
        BackendError: the server did not start or answer.
    """
    try:
        import mcp  # noqa: F401 (whether it is there)
    except ModuleNotFoundError as error:
        raise MissingDependency("mcp", extra="agent") from error
    session = _Session(server)
    try:
        offered = {tool.name: tool for tool in session.tools}
        if missing := [name for name in server.only if name not in offered]:
            raise NotFound(f"{server!r} has no tool '{missing[0]}'", hint=f"It has: {', '.join(offered)}")
        return [session.capability(offered[name]) for name in (server.only or offered)]
    except BessemerError:
        session.stop()
        raise


class _Session:
    """A session in a thread of its own."""

    def __init__(self, server: McpServer) -> None:
        self._server, self.tools = server, list[Any]()
        self._opened, self._failed = threading.Event(), ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: Any = None
        self._over: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="mcp", daemon=True)
        self._thread.start()
        if not self._opened.wait(OPEN_SECONDS) or self._failed:
            told = self._failed or f"no answer in {OPEN_SECONDS:g} s"
            self.stop()
            raise BackendError(f"{server!r} could not be opened: {told}", hint="Start it by hand to see what it says.")

    def capability(self, tool: Any) -> Capability:
        """Return a tool of the server's as ours."""
        try:
            told = Tool(name=tool.name, description=tool.description or "", parameters=written_out(tool.inputSchema))
        except ValueError as error:
            raise ConfigError(f"a tool of {self._server!r} cannot be told to a model: {error}") from error

        async def call(arguments: Mapping[str, Any], occasion: Occasion) -> str:
            return await self._call(tool.name, dict(arguments), occasion)

        server = self._server
        return Capability(
            tool=told,
            call=call,
            effects=server.effects,
            approval=server.approval,
            timeout_seconds=server.seconds,
            secrets=(server.token,) if server.token else (),
            close=self.close,
        )

    async def close(self) -> None:
        """End the session; again does nothing."""
        await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        """End the session and wait for it."""
        if self._loop and self._over and not self._loop.is_closed():
            with suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10.0)

    async def _call(self, name: str, arguments: dict[str, Any], occasion: Occasion) -> str:
        if self._loop is None or not self._thread.is_alive():
            raise BackendError("the MCP server's session has ended", hint="Restart the gateway.")
        meta = {"idempotency_key": occasion.idempotency_key} if occasion.idempotency_key else None
        asked = self._session.call_tool(name, arguments, timedelta(seconds=self._server.seconds), meta=meta)
        found = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, self._loop))
        text = "\n".join(_text(part) for part in found.content)
        if found.isError:
            raise BackendError(text or f"'{name}' failed")
        return text

    async def _live(self) -> None:
        """Hold the session until it is stopped; all of it in one task, as the client's library wants."""
        from mcp import ClientSession

        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with _streams(self._server) as (read, write), ClientSession(read, write) as session:
                await session.initialize()
                self.tools, self._session = list((await session.list_tools()).tools), session
                self._opened.set()
                await self._over.wait()
        except BaseException as error:  # whatever ends the session, who waits for it is told
            self._failed = _told(error)
        finally:
            self._opened.set()


@asynccontextmanager
async def _streams(server: McpServer) -> AsyncIterator[tuple[Any, Any]]:
    if server.command:
        from mcp.client.stdio import StdioServerParameters, stdio_client

        program, *arguments = server.command
        env = {"MCP_TOKEN": server.token} if server.token else None
        with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
            asked = StdioServerParameters(command=program, args=arguments, env=env)
            async with stdio_client(asked, errlog=nowhere) as (read, write):
                yield read, write
        return
    import httpx
    from mcp.client.streamable_http import streamable_http_client

    headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    # no proxy or certificate of the environment, and no redirect that would take the token elsewhere
    async with (
        httpx.AsyncClient(headers=headers, timeout=server.seconds, trust_env=False) as client,
        streamable_http_client(server.url, http_client=client) as (read, write, _),
    ):
        yield read, write


def _text(part: Any) -> str:
    return str(part.text) if getattr(part, "type", "") == "text" else f"[{getattr(part, 'type', 'content')}]"


def _told(error: BaseException) -> str:
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())
    return _told(inner[0]) if inner else f"{type(error).__name__}: {error}"[:300]
