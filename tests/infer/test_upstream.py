"""The upstream engine against servers that refuse, fail or leave something out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bessemer.core.errors import BackendError, BudgetExceeded, ConfigError, NotFound, Unsupported
from bessemer.core.nouns import ChatRequest, Message, Sampling
from bessemer.infer import UpstreamConfig, open_engine

HELLO = ChatRequest(messages=(Message(role="user", content="Hello"),), sampling=Sampling(seed=1, top_logprobs=2))

TEXT = 'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": [{"token": "Hi", \
"logprob": -0.5, "top_logprobs": [{"token": "Hi", "logprob": -0.5}, {"token": "Yo", "logprob": -2}]}]}}]}\n\n'
END = 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = 'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, \
"prompt_tokens_details": {"cached_tokens": 2}}}\n\ndata: [DONE]\n\n'

ANSWERS = {
    "whole": [": a comment\n\n", TEXT, END, USAGE],
    "no-usage": [TEXT, END, "data: [DONE]\n\n"],
    "cut": [TEXT],
    "broken": [TEXT, "data: {not json\n\n"],
    "failing": [TEXT, 'data: {"error": {"message": "out of memory", "type": "server_error"}}\n\n'],
}


async def completions(request: Request) -> Response:
    model = (await request.json())["model"]
    if model.isdigit():
        code = "context_length_exceeded" if request.headers.get("authorization") == "Bearer long" else None
        return JSONResponse({"error": {"message": "no, thank you", "code": code}}, int(model))
    if model == "silent":
        return StreamingResponse(_silence(), media_type="text/event-stream")
    return StreamingResponse(iter(ANSWERS[model]), media_type="text/event-stream")


async def _silence() -> AsyncIterator[str]:
    yield TEXT
    await asyncio.sleep(2)


@pytest.fixture(scope="module")
def url(serve_app: Callable[[Any], AbstractContextManager[str]]) -> Iterator[str]:
    with serve_app(Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])) as url:
        yield f"{url}/v1"


async def answer(url: str, model: str, key: str = "", **changes: Any) -> Any:
    engine = open_engine(UpstreamConfig(base_url=url, model=model, api_key=SecretStr(key), **changes))
    try:
        return await engine.respond(HELLO), engine.counters
    finally:
        await engine.close()


async def test_a_whole_answer(url: str) -> None:
    said, counters = await answer(url, "whole")
    assert (said.text, said.finish_reason) == ("Hi", "stop")
    assert (said.usage.input_tokens, said.usage.output_tokens, said.usage.cached_tokens) == (3, 1, 2)
    assert said.logprobs[0].top == (("Hi", -0.5), ("Yo", -2.0))
    assert (counters.requests, counters.total) == (1, said.usage)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Unsupported), (401, ConfigError), (404, NotFound), (413, BudgetExceeded), (429, BudgetExceeded),
     (500, BackendError), (503, BackendError)],
)  # fmt: skip
async def test_a_refusal_is_the_error_of_who_must_act(url: str, status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{status}: no, thank you") as caught:
        await answer(url, str(status))
    assert caught.value.hint  # type: ignore[attr-defined]


async def test_a_prompt_too_long_for_the_server(url: str) -> None:
    with pytest.raises(BudgetExceeded):
        await answer(url, "400", key="long")


@pytest.mark.parametrize(
    ("model", "word"),
    [("no-usage", "no usage"), ("cut", "in the middle"), ("broken", "no JSON"), ("failing", "out of memory")],
)
async def test_an_answer_that_cannot_be_trusted_is_an_error(url: str, model: str, word: str) -> None:
    with pytest.raises(BackendError, match=word):
        await answer(url, model)


async def test_only_a_server_that_counts_conversations_is_believed() -> None:
    def counted(told: dict[str, Any]) -> Any:
        return lambda request: JSONResponse(told)

    async def asked(app: Starlette) -> int:
        engine = open_engine(UpstreamConfig(base_url="http://user:secret@theirs/v1", model="m"))
        engine._client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))  # type: ignore[attr-defined]
        try:
            return int(await engine.count_tokens(HELLO))  # type: ignore[attr-defined]
        finally:
            await engine.close()

    def app(told: dict[str, Any]) -> Starlette:
        return Starlette(routes=[Route("/tokenize", counted(told), methods=["POST"])])

    assert await asked(app({"count": 7, "tokens": [1] * 7})) == 7
    for told in ({"tokens": []}, {"count": "7"}, {"count": -1}):  # llama.cpp's takes no conversations
        with pytest.raises(Unsupported, match="does not count"):
            await asked(app(told))
    with pytest.raises(Unsupported, match="has no tokenize"):
        await asked(Starlette())


async def test_silence_ends_at_the_timeout(url: str) -> None:
    with pytest.raises(BackendError, match="silent"):
        await answer(url, "silent", timeout_seconds=0.2)


async def test_no_server() -> None:
    with pytest.raises(BackendError, match="cannot be reached") as caught:
        await answer("http://127.0.0.1:9/v1", "whole")
    assert "base_url" in caught.value.hint


def test_the_key_is_shown_nowhere() -> None:
    config = UpstreamConfig(api_key=SecretStr("sk-very-secret"))
    assert "very-secret" not in repr(config) + config.model_dump_json() + config.digest()
