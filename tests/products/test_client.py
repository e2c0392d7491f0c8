"""A gateway is found here or elsewhere; where there is none, one error says what to do, and nothing is made."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from bessemer.core.errors import BackendError, BessemerError, ConfigError, NotFound
from bessemer.core.nouns import ChatRequest, Message
from bessemer.products.client import open_gateway
from bessemer.products.home import Home
from tests.serve.conftest import start_in

HELLO = ChatRequest(messages=(Message(role="user", content="one two"),))


def ask(home: Path, secret: str, url: str | None, model: str | None = None) -> str:
    async def said() -> str:
        async with open_gateway(Home(home, make=False), secret, url, model) as engine:
            return (await engine.respond(HELLO)).text

    return asyncio.run(said())


def refused(home: Path, secret: str, url: str | None) -> BessemerError:
    with pytest.raises(BessemerError) as caught:
        ask(home, secret, url)
    assert not home.exists()
    return caught.value


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_gateway_elsewhere_is_asked_with_its_key_for_its_first_model(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = start_in(tmp_path, stack)
        for url in (running.url, f"{running.url}/", f"{running.url}/v1"):
            assert ask(tmp_path / "none", running.secret, url) == "one two"
        assert not (tmp_path / "none").exists()
        needs = refused(tmp_path / "none", "", running.url)
        wrong = refused(tmp_path / "none", "bk-wrong", running.url)
    assert (type(needs), type(wrong)) == (ConfigError, ConfigError)
    assert "needs a key" in needs.message
    assert "refuses the key" in wrong.message
    assert "BESSEMER_API_KEY" in needs.hint


@pytest.mark.parametrize("secret", ["", "bk-x"])
def test_nothing_answers(tmp_path: Path, secret: str) -> None:
    url = closed_port()
    error = refused(tmp_path / "none", secret, url)
    assert isinstance(error, BackendError)
    assert error.message == f"no gateway answers at {url}"
    assert "bessemer up" in error.hint
    assert "--url" in error.hint


def test_something_else_answers(tmp_path: Path, serve_app: Callable[[Any], AbstractContextManager[str]]) -> None:
    others = {"/page/v1/models": JSONResponse("hello"), "/list/v1/models": JSONResponse({"data": [1]})}
    routes = [Route(path, lambda request, told=told: told) for path, told in others.items()]
    with serve_app(Starlette(routes=routes)) as url:
        for path in ("", "/page", "/list"):
            assert "is no gateway" in refused(tmp_path / "none", "bk-x", url + path).message
    for wrong in ("nonsense", "http://", "ftp://example.com"):
        assert "is no URL" in refused(tmp_path / "none", "bk-x", wrong).message


def test_a_gateway_without_a_model(tmp_path: Path, serve_app: Callable[[Any], AbstractContextManager[str]]) -> None:
    with serve_app(Starlette(routes=[Route("/v1/models", lambda request: JSONResponse({"data": []}))])) as url:
        assert isinstance(refused(tmp_path / "none", "bk-x", url), NotFound)
