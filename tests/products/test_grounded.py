"""A grounded engine puts what it found before the question, and stays an engine."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bessemer.core.nouns import ChatRequest, Message, ScoreRequest
from bessemer.core.raw import PromptRequest
from bessemer.infer import EchoConfig, open_engine
from bessemer.products.llm.grounded import GroundedEngine

PAGES = {"json.dumps": "json.dumps(obj) serialises an object."}


def search(question: str) -> Sequence[str]:
    return [text for name, text in PAGES.items() if name in question]


def grounded(limit: int = 500) -> GroundedEngine:
    return GroundedEngine(open_engine(EchoConfig()), search, limit)


def asked(*said: tuple[str, str]) -> ChatRequest:
    return ChatRequest(messages=tuple(Message(role=role, content=text) for role, text in said))


async def test_the_passage_stands_before_the_question() -> None:
    answer = await grounded().respond(asked(("user", "What does json.dumps do?")))
    assert answer.text == "json.dumps(obj) serialises an object.\n\nQuestion: What does json.dumps do?"


async def test_a_streamed_answer_is_the_same() -> None:
    request = asked(("user", "What does json.dumps do?"))
    pieces = [piece async for piece in grounded().stream(request)]
    assert "".join(piece.text for piece in pieces) == (await grounded().respond(request)).text
    assert pieces[-1].finish_reason == "stop"
    assert pieces[-1].usage
    assert await grounded().count_tokens(request) == pieces[-1].usage.input_tokens, "what was found is counted too"


@pytest.mark.parametrize("said", [[("user", "What is love?")], [("user", "json.dumps?"), ("assistant", "Yes.")]])
async def test_nothing_found_or_nothing_asked_changes_nothing(said: list[tuple[str, str]]) -> None:
    request = asked(*said)
    plain = await open_engine(EchoConfig()).respond(request)
    assert (await grounded().respond(request)).text == plain.text


async def test_a_passage_is_cut_to_its_room() -> None:
    answer = await grounded(limit=12).respond(asked(("user", "What does json.dumps do?")))
    assert answer.text.partition("\n\nQuestion")[0] in PAGES["json.dumps"]
    assert len(answer.text.partition("\n\nQuestion")[0]) <= 12


async def test_what_is_raw_goes_to_the_engine_as_it_is() -> None:
    raw = PromptRequest(text="What does json.dumps do?")
    assert (await grounded().respond(raw)).text == raw.text
    assert "".join([piece.text async for piece in grounded().stream(raw)]) == raw.text
    scored = await grounded().respond(ScoreRequest(text="json.dumps is"))
    assert scored.scored_tokens == 1


class Seen:
    """Keeps what it is asked."""

    name = "seen"
    capabilities = frozenset({"chat"})

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []

    async def respond(self, request: ChatRequest) -> None:
        self.requests.append(request)


@pytest.mark.parametrize("question", ["What does json.dumps do?", "What is love?"])
async def test_the_client_s_system_message_reaches_the_model(question: str) -> None:
    seen = Seen()
    await GroundedEngine(seen, search, 500).respond(asked(("system", "Answer in French."), ("user", question)))
    told = [message for message in seen.requests[0].messages if message.role == "system"]
    assert len(told) == 1
    assert "Answer in French." in told[0].content
