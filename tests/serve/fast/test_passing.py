"""What a server behind the gateway can do beyond words reaches the official client: likelihoods, raw texts, vectors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .conftest import Before

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
TALK: Any = [{"role": "user", "content": "hi"}]
TOP = [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}, {"token": "Yo", "logprob": -2.0, "bytes": None}]
LIKELY = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": TOP}], "refusal": None}
VECTORS = {"one": [3.0, 4.0], "two": [0.0, -2.0]}


class Server:
    """Answers as vLLM does; remembers what it was asked. `scores` says whether it knows how likely prompts are."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.scores = True

    async def answer(self, request: Request) -> Response:
        path, body = request.url.path.removeprefix("/v1/"), await request.json()
        self.asked.append((path, body))
        if path == "embeddings":
            vector = VECTORS[body["input"]]
            return JSONResponse({"data": [{"embedding": vector}], "usage": {"prompt_tokens": 4}})
        if body.get("echo"):
            return self._echoed(body)
        chat = path == "chat/completions"
        said = {"delta": {"content": "Hi"}, "logprobs": LIKELY} if chat else {"text": " fox", "logprobs": _fox()}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "logprobs": LIKELY}
            return JSONResponse(_told(path, body) | {"choices": [{**choice, "finish_reason": "stop"}], "usage": USAGE})
        last = {"delta": {}} if chat else {"text": ""}
        chunks = [[{"index": 0, **said, "finish_reason": None}], [{"index": 0, **last, "finish_reason": "stop"}], []]
        told = [_told(path, body) | {"choices": each} | ({} if each else {"usage": USAGE}) for each in chunks]
        events = (f"data: {json.dumps(each, separators=(',', ':'))}\n\n" for each in told)
        return StreamingResponse(iter([*events, "data: [DONE]\n\n"]), media_type="text/event-stream")

    def _echoed(self, body: Any) -> Response:
        words = body["prompt"].split(" ")
        tokens = [words[0], *(f" {word}" for word in words[1:])]
        values = [None, *(-float(number) for number in range(1, len(tokens)))]
        tops = [None, *({" else": -0.25, token: value} for token, value in zip(tokens[1:], values[1:], strict=True))]
        told = {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops} if self.scores else None
        choice = {"index": 0, "text": body["prompt"], "logprobs": told, "finish_reason": "length"}
        usage = {"prompt_tokens": len(tokens), "completion_tokens": 0}
        return JSONResponse(_told("completions", body) | {"choices": [choice], "usage": usage})


def _told(path: str, body: Any) -> dict[str, Any]:
    return {"id": "x", "object": path, "created": 1, "model": body["model"]}


def _fox() -> dict[str, Any]:
    return {
        "tokens": [" fox"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{" fox": -0.5, " dog": -2.0}],
        "text_offset": [3],
    }


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def gate(
    before: Callable[..., Before], server: Server, serve_app: Callable[[Any], AbstractContextManager[str]]
) -> Iterator[Before]:
    with serve_app(Starlette(routes=[Route("/v1/{path:path}", server.answer, methods=["POST"])])) as url:
        yield before(upstream={"base_url": f"{url}/v1"})


@pytest.mark.parametrize("way", [{}, {"service_tier": "priority"}], ids=["short", "long"])
@pytest.mark.parametrize("stream", [False, True])
def test_likelihoods_of_a_chat(gate: Before, server: Server, way: Any, stream: bool) -> None:
    said = gate.client().chat.completions.create(
        model="served", messages=TALK, logprobs=True, top_logprobs=2, stream=stream, **way
    )
    choices = [each.choices[0] for each in said if each.choices] if stream else said.choices
    likely = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    assert [(token.token, token.logprob) for token in likely] == [("Hi", -0.5)]
    assert [(top.token, top.logprob) for top in likely[0].top_logprobs] == [("Hi", -0.5), ("Yo", -2.0)]
    ((path, body),) = server.asked
    assert (path, body["logprobs"], body["top_logprobs"]) == ("chat/completions", True, 2)
    (entry,) = gate.entries()
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (3, 2)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["The quick", [5, 7]])
def test_a_text_is_continued(gate: Before, server: Server, prompt: Any, stream: bool) -> None:
    said: Any = gate.client().completions.create(
        model="served", prompt=prompt, logprobs=2, max_tokens=9, temperature=0.5, stop=["\n"], stream=stream
    )
    choices = [each.choices[0] for each in said if each.choices] if stream else said.choices
    assert "".join(choice.text for choice in choices) == " fox"
    (likely,) = [choice.logprobs for choice in choices if choice.logprobs and choice.logprobs.tokens]
    assert (likely.tokens, likely.token_logprobs) == ([" fox"], [-0.5])
    assert likely.top_logprobs == [{" fox": -0.5, " dog": -2.0}]
    ((path, body),) = server.asked
    wanted = {"model": "theirs", "prompt": prompt, "logprobs": 2, "max_tokens": 9, "temperature": 0.5, "stop": ["\n"]}
    assert (path, {name: body[name] for name in wanted}) == ("completions", wanted)
    (entry,) = gate.entries()
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (3, 2), "as the server counted"


def test_a_text_is_scored_as_lm_eval_asks(gate: Before, server: Server) -> None:
    said = gate.client().completions.create(
        model="served", prompt=["a b c", "d e"], echo=True, logprobs=1, max_tokens=0
    )
    assert [choice.text for choice in said.choices] == ["a b c", "d e"]
    first = said.choices[0].logprobs
    assert first is not None
    assert (first.tokens, first.token_logprobs, first.text_offset) == (["a", " b", " c"], [None, -1.0, -2.0], [0, 1, 3])
    assert first.top_logprobs is not None
    assert first.top_logprobs[1:] == [{" else": -0.25, " b": -1.0}, {" else": -0.25, " c": -2.0}]
    assert max(first.top_logprobs[1], key=first.top_logprobs[1].get) != " b", (
        "what lm-eval calls is_greedy is true no more"
    )
    assert {path for path, _ in server.asked} == {"completions"}
    (entry,) = gate.entries()
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (5, 0)


def test_a_text_is_scored_and_continued(gate: Before, server: Server) -> None:
    said = gate.client().completions.create(model="served", prompt="a b", echo=True, logprobs=1, max_tokens=1)
    assert said.choices[0].text == "a b fox"
    assert said.choices[0].logprobs is not None
    assert said.choices[0].logprobs.token_logprobs == [None, -1.0, -0.5]
    assert len(server.asked) == 2, "once to score it, once to go on"


def test_a_server_that_scores_nothing_is_not_believed(gate: Before, server: Server) -> None:
    server.scores = False
    with pytest.raises(openai.BadRequestError, match="how likely a prompt is"):
        gate.client().completions.create(model="served", prompt="a b", echo=True, logprobs=1, max_tokens=0)
    (entry,) = gate.entries()
    assert (entry.status, entry.charge.micros) == ("error", 0)


@pytest.mark.parametrize("form", ["float", "base64"])
def test_texts_become_vectors(gate: Before, server: Server, form: Any) -> None:
    given: Any = {} if form == "base64" else {"encoding_format": "float"}  # base64 is what the client asks by itself
    said = gate.client().embeddings.create(model="served", input=["one", "two"], dimensions=2, **given)
    assert [each.embedding for each in said.data] == [pytest.approx([0.6, 0.8]), pytest.approx([0.0, -1.0])]
    assert sorted(body["input"] for _, body in server.asked) == ["one", "two"]
    assert {(path, body["dimensions"]) for path, body in server.asked} == {("embeddings", 2)}
    (entry,) = gate.entries()
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (8, 0)
