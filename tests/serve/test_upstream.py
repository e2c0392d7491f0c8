"""What a client of the gateway is told when the server behind it, or the engine in it, takes no more for now."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from email.utils import formatdate
from typing import Any

import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bessemer.core.errors import BackendError
from bessemer.infer import UpstreamConfig, open_engine

from .conftest import HELLO, Running

SERVER_SECRET = "org-pale-otter"
TOO_LONG = {
    "openai": {"message": "too long", "code": "context_length_exceeded"},
    "vllm": {"message": "This model's maximum context length is 8 tokens. However, you requested 9."},
    "sglang": {"message": "The input (9 tokens) is longer than the model's context length (8 tokens)."},
    "llama.cpp": {"message": "the request exceeds it", "type": "exceed_context_size_error"},
}


async def completions(request: Request) -> Response:
    """Answer as the model's name says: ``<status>``, ``<status> <retry-after>``, or the name of a kind of server."""
    status, _, after = (await request.json())["model"].partition(" ")
    if status in TOO_LONG:
        return JSONResponse({"error": TOO_LONG[status]}, 400)
    after = formatdate(time.time() + 60, usegmt=True) if after == "date" else after
    said = {"error": {"message": f"{SERVER_SECRET}: not now; maximum context", "type": "x", "code": None}}
    return JSONResponse(said, int(status), {"retry-after": after} if after else {})


@pytest.fixture(scope="module")
def upstream(serve_app: Callable[[Any], AbstractContextManager[str]]) -> Iterator[str]:
    with serve_app(Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])) as url:
        yield f"{url}/v1"


@pytest.fixture
def behind(start: Callable[..., Running], upstream: str) -> Callable[[str], Running]:
    """Start a gateway in front of the upstream, asking for one of its models."""

    def made(model: str) -> Running:
        engine = open_engine(UpstreamConfig(base_url=upstream, model=model))
        engine.go_on = type("Never", (), {"set": staticmethod(lambda: None)})  # type: ignore[attr-defined]
        return start(engine)

    return made


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "code", "after"),
    [
        ("429", 429, "rate_limit_exceeded", None),
        ("429 7", 429, "rate_limit_exceeded", "7"),
        ("429 0.2", 429, "rate_limit_exceeded", "1"),
        ("429 120", 429, "rate_limit_exceeded", "119"),
        ("503 1e999", 503, "overloaded", "119"),
        ("429 soon", 429, "rate_limit_exceeded", None),
        ("503 20", 503, "overloaded", "20"),
        ("503", 503, "overloaded", None),
    ],
)
def test_a_server_that_takes_no_more_is_said(behind, stream, model, status, code, after) -> None:
    running = behind(model)
    with pytest.raises(openai.APIStatusError) as caught:
        running.client().chat.completions.create(model="played", messages=HELLO, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.response.headers.get("retry-after") == after
    assert SERVER_SECRET not in caught.value.response.text
    assert [(entry.status, entry.usage.total_tokens) for entry in running.meter.entries()] == [("error", 0)]


def test_a_date_to_come_again_is_told_in_seconds(behind) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        behind("429 date").client().chat.completions.create(model="played", messages=HELLO)
    assert 50 < int(caught.value.response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("model", ["413", *TOO_LONG])
def test_only_a_prompt_that_is_too_long_is_the_clients_to_shorten(behind, model) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        behind(model).client().chat.completions.create(model="played", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_whose_cache_is_full_is_overloaded(running, stream) -> None:
    """Errors reach the gateway from the engine's process through a pipe."""
    error = BackendError("the KV cache is full", hint="Ask again.", retry_after_seconds=1.0)
    running.engine.fail_at, running.engine.error = 0, pickle.loads(pickle.dumps(error))
    status, answer, headers = running.ask(json.dumps({"model": "played", "messages": HELLO, "stream": stream}))
    assert (status, headers["retry-after"]) == (503, "1")
    assert (answer["error"]["code"], answer["error"]["type"]) == ("overloaded", "server_error")
    assert [entry.status for entry in running.meter.entries()] == ["error"]
