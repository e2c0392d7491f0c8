"""The least of OpenAI's completions over an engine: the server that the upstream engine is tested against."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bessemer.core.errors import BessemerError
from bessemer.core.nouns import ChatRequest, Delta, Message, Sampling, ScoreRequest


def wire_app(engine: Any) -> Starlette:
    async def completions(request: Request) -> Response:
        body = await request.json()
        assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
        asked = ChatRequest(
            messages=tuple(Message(**message) for message in body["messages"]),
            sampling=Sampling(
                max_output_tokens=body["max_tokens"],
                temperature=body["temperature"],
                top_p=body["top_p"],
                seed=body.get("seed"),
                stop=tuple(body.get("stop", ())),
            ),
        )
        pieces = engine.stream(asked)
        try:
            first = await anext(pieces)
        except BessemerError as error:
            code = "context_length_exceeded" if error.code == "budget_exceeded" else error.code
            return JSONResponse({"error": {"message": error.message, "code": code}}, 400)
        return StreamingResponse(_events(first, pieces), media_type="text/event-stream")

    async def scores(request: Request) -> Response:
        body = await request.json()
        assert body["echo"] is True and body["max_tokens"] == 0 and body["logprobs"] >= 1
        score = await engine.respond(ScoreRequest(text=body["prompt"]))
        values: list[Any] = [None, *(token.logprob for token in score.tokens[1:])]
        told = {"tokens": [token.token for token in score.tokens], "token_logprobs": values, "top_logprobs": None}
        usage = {"prompt_tokens": score.usage.input_tokens, "completion_tokens": 0}
        return JSONResponse({"choices": [{"text": body["prompt"], "logprobs": told}], "usage": usage})

    async def tokenize(request: Request) -> Response:  # as vLLM has it
        body = await request.json()
        messages = tuple(Message(**message) for message in body["messages"])
        return JSONResponse({"count": await engine.count_tokens(ChatRequest(messages=messages)), "max_model_len": 4096})

    paths = {"/v1/chat/completions": completions, "/v1/completions": scores, "/tokenize": tokenize}
    return Starlette(routes=[Route(path, answer, methods=["POST"]) for path, answer in paths.items()])


async def _events(first: Delta, pieces: Any) -> AsyncIterator[str]:
    piece: Delta | None = first
    try:
        while piece:
            choice = {"index": 0, "delta": {"content": piece.text}, "finish_reason": piece.finish_reason}
            yield _event({"choices": [choice], "usage": None})
            if piece.finish_reason and piece.usage:
                usage = {"prompt_tokens": piece.usage.input_tokens, "completion_tokens": piece.usage.output_tokens}
                yield _event({"choices": [], "usage": usage})
            piece = await anext(pieces, None)
        yield "data: [DONE]\n\n"
    finally:
        await pieces.aclose()


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"
