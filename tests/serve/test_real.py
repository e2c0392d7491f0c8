"""The gateway with the room's real neighbours: the reference engine and the meter with its journal on disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from bessemer.core.nouns import Entry
from bessemer.infer import EchoConfig, open_engine
from bessemer.infer.engines import minus
from bessemer.meter import MeterConfig, open_ledger, open_meter
from bessemer.serve import GatewayConfig, KeyStore, create_app
from bessemer.serve.server import GatewayServer

from .conftest import WAIT_SECONDS, serve_in_thread, until


@dataclass
class Works:
    """A gateway over an echo that takes its time, and its books."""

    url: str
    secret: str
    engine: Any
    books: Path

    def entries(self) -> list[Entry]:
        """Read what is on disk, as another process would."""
        with ExitStack() as stack:
            ledger = open_ledger(self.books)
            stack.callback(ledger.close)
            ledger.sync()
            return list(ledger.entries())


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    config = GatewayConfig(port=0, grace_seconds=0.0)
    with ExitStack() as stack:
        keys = KeyStore(tmp_path / "keys.sqlite")
        stack.callback(keys.close)
        meter = stack.enter_context(open_meter(MeterConfig(sensors="model"), tmp_path / "books"))
        engine = open_engine(EchoConfig(token_seconds=0.02))
        server = GatewayServer(create_app(config, {"echo": engine}, keys, meter), config)
        stack.enter_context(serve_in_thread(server))
        yield Works(server.url, keys.create("tests")[1], engine, tmp_path / "books")


@pytest.fixture
def create(works: Works) -> Iterator[Any]:
    with OpenAI(
        base_url=f"{works.url}/v1",
        api_key=works.secret,
        max_retries=0,
        timeout=WAIT_SECONDS,
        _strict_response_validation=True,
    ) as client:
        yield client.chat.completions.create


def say(text: str) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}]}


def test_what_the_client_is_told_is_what_the_books_say(works, create) -> None:
    whole = create(**say("ein Gruß 世界 👩‍👩‍👧"))
    entries = {entry.id: entry for entry in works.entries()}
    *pieces, last = create(**say("ein Gruß 世界 👩‍👩‍👧"), stream=True, stream_options={"include_usage": True})
    (streamed,) = [entry for entry in works.entries() if entry.id not in entries]
    assert whole.choices[0].message.content == "ein Gruß 世界 👩‍👩‍👧"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "ein Gruß 世界 👩‍👩‍👧"
    for entry, told in ((*entries.values(), whole.usage), (streamed, last.usage)):
        assert (told.prompt_tokens, told.completion_tokens) == (entry.usage.input_tokens, entry.usage.output_tokens)
        assert told.energy["joules"] == entry.measurement.joules > 0
        assert told.energy["class"] == entry.measurement.energy_class
        assert (entry.status, entry.subject.project) == ("ok", "tests")


@pytest.mark.parametrize("stop", ["three", ["nine", "three"]])
def test_a_stop_sequence_ends_the_answer(create, stop) -> None:
    answer = create(**say("one two three four"), stop=stop)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("one two ", "stop")


def test_the_echo_has_no_log_probabilities(works, create) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        create(**say("x"), logprobs=True)
    assert (caught.value.param, caught.value.code) == ("logprobs", "unsupported_parameter")
    assert works.entries() == []


def test_a_prompt_that_does_not_fit_is_booked_as_an_error(works, create) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        create(**say("x " * 100_000))
    assert caught.value.code == "context_length_exceeded"
    assert [entry.status for entry in works.entries()] == ["error"]


async def test_the_engines_count_is_the_sum_of_the_books_however_clients_leave(works) -> None:
    """Some read to the end, some leave a stream, some lose patience with a whole answer: one entry each."""
    words = " ".join(str(number) for number in range(20))

    async def visit(client: AsyncOpenAI, number: int) -> None:
        if number % 3 == 0:
            with pytest.raises(openai.APITimeoutError):
                await client.with_options(timeout=0.15).chat.completions.create(**say(words))
            return
        stream = await client.chat.completions.create(**say(words), stream=True)
        async for chunk in stream:
            if number % 3 == 1 and chunk.choices[0].delta.content == "3 ":
                await stream.close()
                break

    async with AsyncOpenAI(
        base_url=f"{works.url}/v1", api_key=works.secret, max_retries=0, _strict_response_validation=True
    ) as client:
        await asyncio.gather(*(visit(client, number) for number in range(12)))
    await asyncio.to_thread(until, lambda: len(works.entries()) >= works.engine.counters.requests)
    entries, counted = works.entries(), works.engine.counters
    delivered = minus(counted.total, counted.undelivered)
    assert len(entries) == len({entry.id for entry in entries}) == counted.requests <= 12
    assert sum(entry.usage.output_tokens for entry in entries) == delivered.output_tokens
    cancelled = [entry.usage.output_tokens for entry in entries if entry.status == "cancelled"]
    assert len(cancelled) == counted.requests - 4, "those who read to the end are the other four"
    assert max(cancelled) < 20
    assert len([tokens for tokens in cancelled if tokens >= 4]) >= 4, "those who left after the word 3 pay for it"


def test_an_answer_that_ends_as_an_error_is_booked_and_not_charged(works, create, monkeypatch) -> None:
    """Same question, same tokens: the answer that ended well is charged, the one that failed is not."""
    words = " ".join(["word"] * 20)
    create(**say(words))
    monkeypatch.setattr(works.engine, "_reason", lambda word, full: "error" if word is None else None)
    with pytest.raises(openai.InternalServerError):
        create(**say(words))
    failed, good = works.entries()
    assert (failed.status, good.status) == ("error", "ok")
    assert failed.usage == good.usage
    assert failed.measurement.joules > 0
    assert failed.charge.micros == 0 < good.charge.micros


def test_a_gateway_that_ended_has_closed_its_engines_in_their_own_loop(tmp_path) -> None:
    """Connections to an upstream belong to the event loop that opened them."""
    closed, config, engine = [], GatewayConfig(port=0), open_engine(EchoConfig())

    async def close() -> None:
        closed.append(threading.current_thread())

    engine.close = close  # type: ignore[method-assign]
    keys = KeyStore(tmp_path / "keys.sqlite")
    with open_meter(MeterConfig(sensors="model"), tmp_path / "books") as meter:
        server = GatewayServer(create_app(config, {"echo": engine}, keys, meter), config)
        with serve_in_thread(server) as serving:
            assert closed == []
    keys.close()
    assert closed == [serving]


def test_a_gateway_that_ended_leaves_no_thread(tmp_path) -> None:
    before, config = set(threading.enumerate()), GatewayConfig(port=0)
    with open_meter(MeterConfig(sensors="model"), tmp_path / "books") as meter:
        keys = KeyStore(tmp_path / "keys.sqlite")
        server = GatewayServer(create_app(config, {"echo": open_engine(EchoConfig())}, keys, meter), config)
        with serve_in_thread(server):
            secret = keys.create("tests")[1]
            with OpenAI(
                base_url=f"{server.url}/v1", api_key=secret, max_retries=0, _strict_response_validation=True
            ) as client:
                client.chat.completions.create(**say("x"))
            assert len(set(threading.enumerate()) - before) > 1
        keys.close()
    assert set(threading.enumerate()) <= before
