"""What every engine does: one suite over all backends; a test asks for the capabilities that it needs."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import BudgetExceeded, Unsupported
from bessemer.core.nouns import ChatRequest, Message, Sampling, ScoreRequest
from bessemer.core.protocols import Counting, Engine, counting
from bessemer.infer import EchoConfig, EngineConfig, OpenVinoConfig, UpstreamConfig, open_engine
from bessemer.infer.agents import AgentBudget, AgentConfig, AgentEngine, AgentParts

Opener = Callable[[], Any]

_spec = importlib.util.spec_from_file_location("openai_wire", Path(__file__).with_name("openai_wire.py"))
assert _spec and _spec.loader
wire = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(wire)

WORD_SECONDS = 0.01
AGENT = AgentConfig(budget=AgentBudget(tokens=1_000_000, step_tokens=4096))


def _config(kind: str, request: pytest.FixtureRequest) -> EngineConfig:
    if kind == "echo":
        return EchoConfig(token_seconds=WORD_SECONDS)
    if kind == "upstream":
        return UpstreamConfig(base_url=request.getfixturevalue("upstream_url") + "/v1")
    return OpenVinoConfig(path=str(request.getfixturevalue("compiled_model")), kv_cache_bytes=1 << 28)


@pytest.fixture(scope="module")
def upstream_url(serve_app: Callable[[Any], AbstractContextManager[str]]) -> Any:
    with serve_app(wire.wire_app(open_engine(EchoConfig(token_seconds=WORD_SECONDS)))) as url:
        yield url


@pytest.fixture(scope="module")
def openvino_engine(request: pytest.FixtureRequest) -> Any:
    engine = open_engine(_config("openvino", request))
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(params=["echo", "openvino", "upstream", "agent"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_one(kind: str, request: pytest.FixtureRequest) -> Opener:
    if kind == "agent":
        return lambda: AgentEngine(open_engine(EchoConfig()), [], AGENT, AgentParts(owns=True))
    return lambda: open_engine(_config(kind, request))


@pytest.fixture
async def engine(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if kind == "agent":
        yield AgentEngine(open_engine(EchoConfig(token_seconds=WORD_SECONDS)), [], AGENT, AgentParts(owns=True))
        return
    if kind == "openvino":  # loading takes seconds: one for all tests that do not close it
        yield request.getfixturevalue("openvino_engine")
        return
    opened = open_engine(_config(kind, request))
    yield opened
    await opened.close()


def ask(text: str, **sampling: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=text),), sampling=Sampling(**sampling))


def needs(engine: Any, *capabilities: str) -> None:
    if missing := set(capabilities) - engine.capabilities:
        pytest.skip(f"{engine.name} declares no {', '.join(sorted(missing))}")


STORY = "Tell me a long story about a river, a bridge, and the people of the town who crossed it every day."


async def test_it_is_an_engine(engine: Any) -> None:
    assert isinstance(engine, Engine)
    assert {"chat", "stream"} <= engine.capabilities


async def test_the_pieces_make_the_answer(engine: Any) -> None:
    request = ask(STORY, max_output_tokens=12)
    whole = await engine.respond(request)
    pieces = [piece async for piece in engine.stream(request)]
    assert all(piece.finish_reason is None for piece in pieces[:-1])
    assert pieces[-1].finish_reason == whole.finish_reason
    assert whole.text and "".join(piece.text for piece in pieces)
    assert len(pieces) > 1
    assert 0 < whole.time_to_first_token_seconds <= whole.seconds


async def test_output_ends_at_the_limit_and_usage_says_so(engine: Any) -> None:
    whole = await engine.respond(ask(STORY, max_output_tokens=5))
    assert whole.finish_reason == "length"
    assert whole.usage.output_tokens == 5
    assert whole.usage.input_tokens >= len(STORY.split())


async def test_usage_counts_each_message_of_the_prompt(engine: Any) -> None:
    short = await engine.respond(ask("one two three", max_output_tokens=1))
    longer = ChatRequest(
        messages=(
            Message(role="user", content="four five six"),
            Message(role="assistant", content="seven eight nine"),
            Message(role="user", content="one two three"),
        ),
        sampling=Sampling(max_output_tokens=1),
    )
    assert (await engine.respond(longer)).usage.input_tokens >= short.usage.input_tokens + 6


async def test_tokens_are_counted_ahead_as_an_answer_reads_them_or_not_at_all(engine: Any) -> None:
    if not isinstance(engine, Counting):
        with pytest.raises(Unsupported):
            counting(engine)
        return
    told = [Message(role="system", content="Be kind."), Message(role="user", content="four five six")]
    turns = (*told, Message(role="assistant", content="seven"), Message(role="user", content=STORY))
    for messages in (turns[1:2], turns[:2], turns):
        request = ChatRequest(messages=messages, sampling=Sampling(max_output_tokens=1))
        before = engine.counters  # type: ignore[attr-defined]
        count = await engine.count_tokens(request)
        assert engine.counters == before, "nothing was answered"  # type: ignore[attr-defined]
        assert count == (await engine.respond(request)).usage.input_tokens > 0  # type: ignore[attr-defined]


async def test_text_ends_before_a_stop_sequence(engine: Any) -> None:
    needs(engine, "stop")
    request = ask(STORY, max_output_tokens=30)
    free = (await engine.respond(request)).text
    mark = free[len(free) // 2 :][:3]
    stopped = ask(STORY, max_output_tokens=30, stop=(mark,))
    whole = await engine.respond(stopped)
    assert whole.finish_reason == "stop"
    assert mark not in whole.text
    assert whole.usage.output_tokens < 30
    seen = [piece.text async for piece in engine.stream(stopped)]
    assert mark not in "".join(seen)


async def test_a_stop_sequence_that_never_comes_changes_nothing(engine: Any) -> None:
    needs(engine, "stop")
    free = await engine.respond(ask(STORY, max_output_tokens=8))
    held = await engine.respond(ask(STORY, max_output_tokens=8, stop=("\x00never", free.text + "?")))
    assert held.finish_reason == "length"
    assert held.usage == free.usage
    assert len(held.text) > len(free.text) // 2


async def test_a_seed_gives_the_same_answer_again(engine: Any) -> None:
    needs(engine, "seed")
    request = ask(STORY, max_output_tokens=8, temperature=1.0, seed=11)
    texts = [(await engine.respond(request)).text for _ in range(2)]
    assert texts[0] == texts[1]


async def refused(engine: Any, capability: str, request: ChatRequest) -> bool:
    """Return whether an engine lacks what a request needs, and says so; skip what the server behind one lacks."""
    if capability not in engine.capabilities:
        with pytest.raises(Unsupported):
            await engine.respond(request)
        return True
    if engine.name == "upstream":
        pytest.skip("the echo server behind it has none")
    return False


async def test_log_probabilities_belong_to_the_text(engine: Any) -> None:
    if await refused(engine, "logprobs", ask(STORY, top_logprobs=0)):
        return
    whole = await engine.respond(ask(STORY, max_output_tokens=6, top_logprobs=0))
    assert "".join(entry.token for entry in whole.logprobs) == whole.text
    assert all(entry.logprob <= 0 for entry in whole.logprobs)


async def test_a_bias_is_heeded_or_refused(engine: Any) -> None:
    request = ask(STORY, max_output_tokens=4, logit_bias=((5, 100.0),))
    if await refused(engine, "logit_bias", request):
        return
    forced = await engine.respond(request)
    said = forced.text[: len(forced.text) // 4]
    assert forced.text == said * 4 and forced.usage.output_tokens == 4
    assert forced.text != (await engine.respond(ask(STORY, max_output_tokens=4))).text


async def test_alternatives_are_the_likeliest_in_order(engine: Any) -> None:
    request = ask(STORY, max_output_tokens=6, top_logprobs=3)
    if await refused(engine, "top_logprobs", request):
        return
    for token in (await engine.respond(request)).logprobs:
        values = [value for _, value in token.top]
        assert len(values) == 3 and values == sorted(values, reverse=True)
        assert token.top[0] == (token.token, token.logprob), "a greedy answer takes the likeliest"


async def test_a_score_is_a_sum_over_all_tokens_but_the_first(engine: Any) -> None:
    text = "The cat sat on the mat, and the dog lay by the door."
    if "score" not in engine.capabilities:
        with pytest.raises(Unsupported):
            await engine.respond(ScoreRequest(text=text))
        return
    one = await engine.respond(ScoreRequest(text=text))
    again, odd = await asyncio.gather(
        engine.respond(ScoreRequest(text=text)),
        engine.respond(ScoreRequest(text="Mat dog the on. door lay, sat The by cat the and the the")),
    )
    assert one.scored_tokens == one.usage.input_tokens - 1
    assert 0 < one.scored_bytes < len(text)
    assert again.logprob_sum == pytest.approx(one.logprob_sum, rel=0.02)
    assert sum(token.logprob for token in one.tokens) == pytest.approx(one.logprob_sum) or not one.tokens
    if engine.name == "openvino":  # to the others, which echo, all bytes are equally likely
        assert odd.logprob_sum / odd.scored_tokens < one.logprob_sum / one.scored_tokens < 0


async def test_streams_hold_whole_characters_only(engine: Any) -> None:
    request = ask(
        "Repeat exactly: 你好, 世界! 🙂🚀🌍 naïve café. And again, please: 你好, 世界! 🙂🚀🌍", max_output_tokens=40
    )
    pieces = [piece.text async for piece in engine.stream(request)]
    # The last piece may hold a character that the limit cut through; no other may.
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces[:-1])


async def test_closing_a_stream_cancels_it(engine: Any) -> None:
    before = engine.counters
    async with aclosing(engine.stream(ask(STORY * 4, max_output_tokens=400))) as pieces:
        async for piece in pieces:
            if piece.text:
                break
    await asyncio.sleep(0.3)
    settled = engine.counters
    await asyncio.sleep(0.5)
    assert engine.counters == settled, "the engine went on for a caller that had left"
    assert settled.total.output_tokens - before.total.output_tokens < 60


async def test_what_is_taken_is_what_is_counted(engine: Any) -> None:
    before = engine.counters
    answers = await asyncio.gather(*(engine.respond(ask(f"{STORY} {n}", max_output_tokens=6 + n)) for n in range(4)))
    after = engine.counters
    assert after.requests - before.requests == 4
    assert after.undelivered == before.undelivered
    for name in ("input_tokens", "output_tokens"):
        counted = getattr(after.total, name) - getattr(before.total, name)
        assert counted == sum(getattr(answer.usage, name) for answer in answers)


async def test_overlapping_answers_are_those_given_alone(engine: Any) -> None:
    needs(engine, "batch")
    requests = [ask(f"Write one sentence about the number {n}.", max_output_tokens=10) for n in range(4)]
    alone = [await engine.respond(request) for request in requests]
    together = await asyncio.gather(*(engine.respond(request) for request in requests))
    # A batch may round otherwise and so take another of two near-tied tokens: texts must agree in the main only.
    for one, other in zip(alone, together, strict=True):
        assert one.usage.input_tokens == other.usage.input_tokens
    assert sum(one.text[:12] == other.text[:12] for one, other in zip(alone, together, strict=True)) >= 3


async def test_a_prompt_beyond_the_context_is_refused(engine: Any) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        await engine.respond(ask("word " * 12_000, max_output_tokens=4))
    assert caught.value.hint
    assert (await engine.respond(ask("Hello there, friend", max_output_tokens=2))).text


async def test_ten_megabytes_are_refused_at_once(engine: Any) -> None:
    started = time.perf_counter()
    with pytest.raises(BudgetExceeded):
        await engine.respond(ask("ab " * 3_500_000, max_output_tokens=4))
    assert time.perf_counter() - started < 2


async def test_a_closed_engine_refuses_and_ends_what_runs(open_one: Opener) -> None:
    engine = open_one()
    pieces = engine.stream(ask(STORY * 8, max_output_tokens=400))
    await anext(pieces)
    await asyncio.wait_for(engine.close(), 10)
    rest = [piece async for piece in pieces]
    assert rest[-1].finish_reason == "cancelled"
    with pytest.raises(Unsupported, match="closed"):
        await engine.respond(ask("Hello"))
    await engine.close()
