"""Texts reach the completions of the server behind an upstream engine; their likelihoods come back, or are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from bessemer.core.errors import BackendError, BessemerError, NotFound, Unsupported
from bessemer.core.nouns import Sampling, ScoreRequest, Usage
from bessemer.core.raw import EmbedRequest, PromptRequest
from bessemer.infer import UpstreamConfig, open_engine
from bessemer.infer.upstream_texts import usage_of

Serve = Callable[[Any], AbstractContextManager[str]]
CHUNKS = [
    {"choices": [{"index": 0, "text": " fox", "logprobs": {
        "tokens": [" fox"], "token_logprobs": [-0.5], "top_logprobs": [{" fox": -0.5, " dog": -2}], "text_offset": [9],
    }}]},
    {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
    {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}},
]  # fmt: skip


async def asked_of(serve_app: Serve, request: Any, answer: Callable[[], Response]) -> tuple[Any, Any, Usage]:
    """Return what an engine made of an answer, or the error; what the server was asked; what was counted."""
    taken: list[Any] = []

    async def take(request: Request) -> Response:
        taken.append((request.url.path, await request.json()))
        return answer()

    with serve_app(Starlette(routes=[Route("/v1/{path:path}", take, methods=["POST"])])) as url:
        engine = open_engine(UpstreamConfig(base_url=f"{url}/v1", model="m", limit_field="max_completion_tokens"))
        try:
            found = await engine.respond(request)
        except BessemerError as error:
            found = error
        await engine.close()
    return found, taken, engine.counters.total


@pytest.mark.parametrize(
    "told",
    [
        *({name: count} for name in ("prompt_tokens", "completion_tokens") for count in (2**31, 2**63, -1, 1.5, "7")),
        {"prompt_tokens": None},
        {"prompt_tokens_details": {"cached_tokens": 6}},
        {"prompt_tokens_details": {"cached_tokens": -1}},
    ],
)
async def test_a_usage_that_cannot_be_is_none(serve_app: Serve, told: dict[str, Any]) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    assert usage_of(usage) == Usage(input_tokens=5, output_tokens=1)
    chunks = [*CHUNKS[:2], {"choices": [], "usage": usage | told}]

    def answer() -> Response:
        return StreamingResponse(iter(f"data: {json.dumps(c)}\n\n" for c in chunks), media_type="text/event-stream")

    said, _, counted = await asked_of(serve_app, PromptRequest(text="The quick", sampling=Sampling()), answer)
    assert isinstance(said, BackendError) and "no usage" in str(said)
    assert counted == Usage()


@pytest.mark.parametrize(("given", "sent"), [({"text": "The quick"}, "The quick"), ({"tokens": (5, 7)}, [5, 7])])
async def test_a_text_is_continued(serve_app: Serve, given: Any, sent: Any) -> None:
    sampling = Sampling(max_output_tokens=1, top_logprobs=2, stop=("x",), seed=4, logit_bias=((3, 1.0),))

    def answer() -> Response:
        return StreamingResponse(iter(f"data: {json.dumps(c)}\n\n" for c in CHUNKS), media_type="text/event-stream")

    said, taken, counted = await asked_of(serve_app, PromptRequest(**given, sampling=sampling), answer)
    assert (said.text, said.finish_reason, said.usage) == (" fox", "length", Usage(input_tokens=2, output_tokens=1))
    (token,) = said.logprobs
    assert (token.token, token.logprob, dict(token.top)) == (" fox", -0.5, {" fox": -0.5, " dog": -2})
    ((path, body),) = taken
    assert path == "/v1/completions"
    wanted = {"prompt": sent, "max_tokens": 1, "logprobs": 2, "stop": ["x"], "seed": 4, "logit_bias": {"3": 1.0}}
    assert {name: body[name] for name in wanted} == wanted
    assert not {"messages", "max_completion_tokens", "top_logprobs"} & set(body)
    assert counted == said.usage


def scored(tokens: list[str], values: list[Any], read: int, written: int = 0) -> Callable[[], Response]:
    told = {"tokens": tokens, "token_logprobs": values, "top_logprobs": [None, *({t: -0.1} for t in tokens[1:])]}
    usage = {"prompt_tokens": read, "completion_tokens": written}
    return lambda: JSONResponse({"choices": [{"text": "", "logprobs": told}], "usage": usage})


@pytest.mark.parametrize(
    ("tokens", "values", "read", "written", "size"),
    [
        (["The", " naïve", " fox"], [None, -1.5, -2.0], 3, 0, 11),
        (["<s>", "The", " naïve fox"], [None, -1.5, -2.0], 3, 0, 14),
        (["The", " naïve", " fox", "!"], [None, -1.5, -2.0, -9.0], 3, 1, 11),
        (["The", " na\N{REPLACEMENT CHARACTER}", "ve fox"], [None, -1.5, -2.0], 3, 0, None),
    ],
)
async def test_a_text_is_scored(serve_app: Serve, tokens, values, read, written, size) -> None:
    request = ScoreRequest(text="The naïve fox", top_logprobs=3)
    found, taken, counted = await asked_of(serve_app, request, scored(tokens, values, read, written))
    body = {"model": "m", "prompt": "The naïve fox", "echo": True, "logprobs": 3, "max_tokens": 0}
    assert taken == [("/v1/completions", body)]
    assert (found.logprob_sum, found.scored_tokens, found.scored_bytes) == (-3.5, 2, size)
    assert [token.token for token in found.tokens] == tokens[:3], "what was written all the same is no part of it"
    assert found.tokens[1].top == ((tokens[1], -0.1),)
    assert counted == found.usage == Usage(input_tokens=read, output_tokens=written)


WITHOUT = {"choices": [{"text": "hello", "logprobs": None}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
NO_COUNT = {"choices": [{"text": "", "logprobs": {"tokens": ["a"], "token_logprobs": [None]}}]}
CHATTY = {"content": [{"token": "x", "logprob": -0.3}]}


@pytest.mark.parametrize(
    ("answer", "error", "word"),
    [
        (lambda: JSONResponse(WITHOUT), Unsupported, "how likely a prompt is"),
        (lambda: JSONResponse(WITHOUT | {"choices": [{"logprobs": CHATTY}]}), Unsupported, "how likely a prompt is"),
        (scored(["fox"], [-0.3], 3, 1), Unsupported, "how likely a prompt is"),
        (scored(["a", "b", "c"], [None, -1.0, None], 3), BackendError, "no score"),
        (lambda: JSONResponse(NO_COUNT), BackendError, "no score"),
        (lambda: PlainTextResponse("hello"), BackendError, "no score"),
        (lambda: PlainTextResponse("404 page not found", 404), Unsupported, "has no completions"),
        (lambda: JSONResponse({"error": {"message": "no model m"}}, 404), NotFound, "no model m"),
        (lambda: JSONResponse({"error": {"message": "echo is not taken"}}, 400), Unsupported, "echo is not taken"),
    ],
)  # fmt: skip
async def test_what_is_no_score_is_not_taken_for_one(serve_app: Serve, answer, error, word) -> None:
    found, _, counted = await asked_of(serve_app, ScoreRequest(text="a b c"), answer)
    assert type(found) is error
    assert word in found.message
    assert counted == Usage()


async def test_a_server_without_vectors_says_so(serve_app: Serve) -> None:
    found, _, _ = await asked_of(serve_app, EmbedRequest(text="x"), lambda: JSONResponse({"detail": "Not Found"}, 404))
    assert isinstance(found, Unsupported)
    assert "has no embeddings" in found.message
