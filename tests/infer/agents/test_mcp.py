"""MCP servers as tools: a real server in a process, on standard streams and over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import BackendError, NotFound
from bessemer.infer.agents import AgentConfig, AgentEngine, Occasion
from bessemer.infer.agents.mcp_servers import McpServer, open_mcp_server

SERVER = str(Path(__file__).with_name("mcp_shop.py"))


@pytest.fixture(scope="module")
def stdio() -> Iterator[Any]:
    capabilities = open_mcp_server(McpServer(command=(sys.executable, SERVER), token="s3cret-token"))
    yield {each.tool.name: each for each in capabilities}
    import asyncio

    asyncio.run(capabilities[0].close())


async def test_its_tools_are_called(stdio: Any, scripted: Any, ask: Any) -> None:
    assert set(stdio) == {"price", "token", "delete"}
    assert stdio["price"].tool.parameters["properties"] == {"item": {"type": "string"}}
    agent = AgentEngine(scripted([("price", {"item": "lamp"})], "12."), [stdio["price"]], AgentConfig(guard="off"))
    answer = await agent.respond(ask("What does a lamp cost?"))
    assert answer.acts[1].output == "lamp costs 12" and not answer.acts[1].error


async def test_what_fails_there_is_a_sentence(stdio: Any) -> None:
    said = await stdio["price"].perform({"item": "ghost"}, Occasion())
    assert said.error == "backend_error" and "there is no ghost" in said.output


async def test_its_token_never_reaches_the_model(stdio: Any) -> None:
    said = await stdio["token"].perform({}, Occasion())
    assert said.output == "my token is [secret]"
    assert "s3cret" not in repr(McpServer(command=("x",), token="s3cret-token"))


async def test_its_tools_need_approval_after_words_from_outside(stdio: Any, scripted: Any, ask: Any) -> None:
    model = scripted([("price", {"item": "lamp"})], [("delete", {"item": "lamp"})], "Oh.")
    answer = await AgentEngine(model, list(stdio.values())).respond(ask("What does a lamp cost?"))
    assert answer.acts[3].error == "approval"


def test_only_named_tools_are_taken_and_failures_are_told() -> None:
    with pytest.raises(NotFound, match="refund"):
        open_mcp_server(McpServer(command=(sys.executable, SERVER), only=("refund",)))
    with pytest.raises(BackendError, match="could not be opened"):
        open_mcp_server(McpServer(command=("/nonexistent/server",)))


async def test_streamable_http() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, SERVER, str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            (price,) = open_mcp_server(McpServer(url=f"http://127.0.0.1:{port}/mcp", only=("price",)))
            assert (await price.perform({"item": "chair"}, Occasion())).output == "chair costs 12"
            await price.close()
        finally:
            process.terminate()
