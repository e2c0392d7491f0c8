"""What bounds an order: every answer reads all of its words, stored ones too."""

from __future__ import annotations

from typing import Any

from bessemer.core.nouns import ChatRequest, Message, Sampling, ScoreRequest
from bessemer.serve.serving import Order


def order(*wanted: Any) -> Order:
    return Order("m", None, wanted, None, False)  # type: ignore[arg-type]


def test_each_answer_may_read_every_byte_and_make_every_token() -> None:
    words = "grüße " * 50
    said = (Message(role="user", content=words), Message(role="assistant", content=words))
    request = ChatRequest(messages=said, sampling=Sampling(max_output_tokens=7))
    one, three = order(request), order(request, request, request)
    assert one.most.input_tokens >= 2 * len(words.encode())
    assert three.most.input_tokens == 3 * one.most.input_tokens
    assert (one.most.output_tokens, three.most.output_tokens) == (7, 21)
    scored = order(ScoreRequest(text=words))
    assert scored.most.input_tokens >= len(words.encode()) and scored.most.output_tokens == 0
