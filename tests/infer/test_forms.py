"""Penalties, JSON by grammar and tools of the embedded engine: a model of random weights must keep to the form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import Unsupported
from bessemer.core.nouns import ChatRequest, JsonFormat, Message, Sampling, ScoreRequest, Tool, ToolCall
from bessemer.core.raw import PromptRequest
from bessemer.infer import OpenVinoConfig, calling, compile_model, open_engine

pytest.importorskip("openvino_genai")

SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}, "kind": {"enum": ["river", "lake"]}},
    "required": ["sure", "kind"],
    "additionalProperties": False,
}
TOOLS = (Tool(name="look", parameters=SCHEMA), Tool(name="wait"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, make_tiny: Any) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("forms")
    make_tiny(folder / "tiny", max_position_embeddings=1024)
    compile_model(folder / "tiny", folder / "compiled")
    opened = open_engine(OpenVinoConfig(path=str(folder / "compiled"), kv_cache_bytes=1 << 24, step_tokens=64))
    yield opened
    asyncio.run(opened.close())


def ask(text: str = "A river", **fields: Any) -> ChatRequest:
    sampling = Sampling(**fields.pop("sampling", {"max_output_tokens": 120}))
    return ChatRequest(messages=(Message(role="user", content=text),), sampling=sampling, **fields)


async def test_an_answer_follows_the_schema(engine) -> None:
    for seed in range(3):
        sampling = {"max_output_tokens": 120, "temperature": 1.0, "seed": seed}
        answer = await engine.respond(ask(sampling=sampling, json_format=JsonFormat(json_schema=SCHEMA)))
        found = json.loads(answer.text)
        assert found.keys() == {"sure", "kind"} and found["kind"] in ("river", "lake")


@pytest.mark.parametrize("choice", ["required", "auto"])
async def test_of_an_answer_that_is_cut_only_whole_calls_are_told(engine, choice) -> None:
    """And never a piece of the form in which the model writes them, wherever the cut is."""
    sampling = {"temperature": 1.0, "seed": 1}
    for tokens in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48):
        asked = ask(sampling={**sampling, "max_output_tokens": tokens}, tools=TOOLS, tool_choice=choice)
        pieces = [piece async for piece in engine.stream(asked)]
        text = "".join(piece.text for piece in pieces)
        assert "tool_calls" not in text and "answer" not in text and not text.startswith("{")
        calls = pieces[-1].tool_calls
        assert all(json.loads(call.arguments).keys() >= set() for call in calls)
        if choice == "required":
            assert text == ""


@pytest.mark.parametrize(
    "whole",
    [
        '{"answer": "So \\"\\ud83d\\ude00\\" \\n"}',
        '{ "tool_calls" :\n[{"name": "n", "arguments": {"a": [1]}}, {"name": "m", "arguments": {}}]}',
    ],
)
def test_wherever_an_answer_is_cut_what_is_told_begins_the_whole(whole) -> None:
    said = calling.parsed(whole)
    for end in range(len(whole)):
        cut = calling.parsed(whole[:end])
        assert said.text.startswith(cut.text) and cut.text.encode() is not None
        assert [c.arguments for c in cut.calls] == [c.arguments for c in said.calls[: len(cut.calls)]]
    assert calling.parsed('{"city": "Rome"}').text == '{"city": "Rome"}'


async def test_a_required_tool_is_called_with_arguments_that_fit(engine) -> None:
    sampling = {"max_output_tokens": 400, "temperature": 1.0, "seed": 1}
    asked = ask(sampling=sampling, tools=TOOLS, tool_choice="function:look", parallel_tool_calls=False)
    pieces = [piece async for piece in engine.stream(asked)]
    assert "".join(piece.text for piece in pieces) == ""
    assert pieces[-1].finish_reason == "tool_calls"
    (call,) = pieces[-1].tool_calls
    assert call.name == "look" and json.loads(call.arguments).keys() == {"sure", "kind"}


async def test_penalties_change_what_is_said(engine) -> None:
    plain = await engine.respond(ask(sampling={"max_output_tokens": 40}))
    varied = await engine.respond(
        ask(sampling={"max_output_tokens": 40, "frequency_penalty": 2.0, "presence_penalty": 2.0})
    )
    assert len(set(varied.text)) > len(set(plain.text)) or varied.text != plain.text


async def test_what_it_lacks_it_refuses(engine) -> None:
    with pytest.raises(Unsupported, match="logit_bias"):
        await engine.respond(ask(sampling={"logit_bias": ((1, 1.0),)}, tools=TOOLS))
    with pytest.raises(Unsupported, match="not both"):
        await engine.respond(ask(tools=TOOLS, json_format=JsonFormat()))
    with pytest.raises(Unsupported, match="no log-probabilities") as caught:  # they would tell our form's tokens
        await engine.respond(ask(sampling={"top_logprobs": 0}, tools=TOOLS))
    assert caught.value.about == "logprobs"
    said = await engine.respond(ask(sampling={"top_logprobs": 0}, tools=TOOLS, tool_choice="none"))
    assert bytes(byte for token in said.logprobs for byte in token.raw).decode("utf-8", "replace") == said.text


def test_calls_and_tools_are_written_out_for_the_model() -> None:
    called = Message(role="assistant", content="", tool_calls=(ToolCall(id="1", name="wait", arguments="{}"),))
    told = Message(role="tool", content="done", tool_call_id="1")
    request = ChatRequest(messages=(Message(role="user", content="go"), called, told), tools=TOOLS)
    system, _, said, answered = calling.spoken(request)
    assert system.role == "system" and '"look"' in system.content
    assert [call.name for call in calling.parsed(said.content).calls] == ["wait"]
    assert answered.content == "done"
    without = request.model_copy(update={"tool_choice": "none"})
    assert calling.spoken(without)[0].role == "user" and calling.schema_of(without) is None


def test_what_is_not_in_the_form_is_text() -> None:
    assert calling.parsed("hello").text == "hello"
    assert calling.parsed('{"tool_calls": 5}').text == '{"tool_calls": 5}'
    with pytest.raises(Unsupported, match="names nothing"):
        tool = Tool(name="x", parameters={"$ref": "#/$defs/y"})
        calling.schema_of(ChatRequest(messages=(Message(role="user", content=""),), tools=(tool,)))


async def test_a_score_says_each_token_and_tokens_score_like_their_text(engine) -> None:
    text = "A river is a large, flowing stream of water."
    one = await engine.respond(ScoreRequest(text=text))
    assert "".join(token.token for token in one.tokens) == text
    assert len(one.tokens) == one.scored_tokens + 1 == one.usage.input_tokens
    assert sum(token.logprob for token in one.tokens) == pytest.approx(one.logprob_sum)
    with pytest.raises(Unsupported, match="no token"):
        await engine.respond(ScoreRequest(tokens=(10**6,)))
    numbers = tuple(range(20, 30))
    again = await engine.respond(ScoreRequest(tokens=numbers))
    whole = await engine.respond(ScoreRequest(text="".join(token.token for token in again.tokens)))
    assert again.usage.input_tokens == 10
    if whole.usage == again.usage:  # the text is split as it was
        assert whole.logprob_sum == pytest.approx(again.logprob_sum, rel=0.02)


async def test_a_raw_text_is_continued_with_a_likelihood_for_each_token(engine) -> None:
    raw = PromptRequest(text="A river", sampling=Sampling(max_output_tokens=5, top_logprobs=0))
    answer = await engine.respond(raw)
    assert answer.usage.input_tokens < 7
    assert len(answer.logprobs) == answer.usage.output_tokens
    one = await engine.respond(PromptRequest(tokens=(20, 21), sampling=Sampling(max_output_tokens=1)))
    assert (one.usage.input_tokens, one.usage.output_tokens) == (2, 1)
