"""A bias and alternatives to each token, by the official client, from the embedded engine with a real model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from bessemer.infer import OpenVinoConfig, open_engine
from bessemer.meter import MeterConfig, open_ledger, open_meter
from bessemer.serve import GatewayConfig, KeyStore, create_app
from bessemer.serve.server import GatewayServer

from .conftest import serve_in_thread

pytest.importorskip("openvino_genai")

ASK: dict[str, Any] = {
    "model": "small",
    "messages": [{"role": "user", "content": "Tell me of a river."}],
    "max_tokens": 6,
    "temperature": 0,
}
RAW: dict[str, Any] = {"model": "small", "prompt": "A river is a", "max_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("books")


@pytest.fixture(scope="module")
def engine(compiled_model: Path) -> Any:
    return open_engine(OpenVinoConfig(path=str(compiled_model), kv_cache_bytes=1 << 26))


@pytest.fixture(scope="module")
def client(engine: Any, books: Path) -> Iterator[OpenAI]:
    config = GatewayConfig(port=0, grace_seconds=0.0)
    with ExitStack() as stack:
        keys = KeyStore(books / "keys.sqlite")
        stack.callback(keys.close)
        meter = stack.enter_context(open_meter(MeterConfig(sensors="model"), books / "books"))
        server = GatewayServer(create_app(config, {"small": engine}, keys, meter), config)
        stack.enter_context(serve_in_thread(server))
        secret = keys.create("tests")[1]
        yield stack.enter_context(OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0, timeout=60))


@pytest.fixture(scope="module")
def numbers(compiled_model: Path) -> Any:
    """Give the number of a token by its text."""
    from bessemer.infer.runtime import genai

    vocabulary = genai.Tokenizer(compiled_model).get_vocab()
    return lambda text: vocabulary[text.encode()]


def first_of(client: OpenAI, **more: Any) -> str:
    answer = client.chat.completions.create(**ASK, logprobs=True, **more)
    assert answer.choices[0].logprobs and answer.choices[0].logprobs.content
    return answer.choices[0].logprobs.content[0].token


def test_a_bias_bans_and_forces_a_token(client, numbers) -> None:
    greedy = first_of(client)
    assert first_of(client, logit_bias={str(numbers(greedy)): 0}) == greedy
    assert first_of(client, logit_bias={str(numbers(greedy)): -100}) != greedy
    forced = client.chat.completions.create(**ASK, logit_bias={str(numbers(" town")): 100})
    assert forced.choices[0].message.content == " town" * 6
    text = client.completions.create(**RAW, logit_bias={str(numbers(" town")): 100})
    assert text.choices[0].text == " town" * 6


def test_a_chat_tells_three_alternatives_streamed_or_whole(client) -> None:
    whole = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=3)
    content = whole.choices[0].logprobs.content
    assert "".join(token.token for token in content) == whole.choices[0].message.content
    for token in content:
        values = [top.logprob for top in token.top_logprobs]
        assert len(values) == 3 and values == sorted(values, reverse=True)
        assert (token.top_logprobs[0].token, values[0]) == (token.token, token.logprob)
    chunks = list(client.chat.completions.create(**ASK, logprobs=True, top_logprobs=3, stream=True))
    told = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    assert [token for logprobs in told for token in logprobs.content] == content


def test_a_completion_tells_three_alternatives_streamed_or_whole(client) -> None:
    whole = client.completions.create(**RAW, logprobs=3).choices[0]
    assert whole.logprobs.tokens and "".join(whole.logprobs.tokens) == whole.text
    for token, value, tops in zip(
        whole.logprobs.tokens, whole.logprobs.token_logprobs, whole.logprobs.top_logprobs, strict=True
    ):
        assert len(tops) == 3 and list(tops.values()) == sorted(tops.values(), reverse=True)
        assert next(iter(tops.items())) == (token, value)
    chunks = list(client.completions.create(**RAW, logprobs=3, stream=True))
    told = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    assert [tops for logprobs in told for tops in logprobs.top_logprobs] == whole.logprobs.top_logprobs


def test_the_likeliest_tokens_of_a_prompt_are_told(client) -> None:
    """What lm-eval's `is_greedy` asks: whether each token is the likeliest."""
    asked = {"model": "small", "max_tokens": 0, "echo": True, "logprobs": 1}
    texts = ["One, two, three, four, five, six, seven, eight", "One, two, three, four, five, six, seven, bread"]
    last = []
    for choice in client.completions.create(prompt=texts, **asked).choices:
        assert choice.logprobs.top_logprobs[0] is None
        tops, token = choice.logprobs.top_logprobs[-1], choice.logprobs.tokens[-1]
        last.append((token, max(tops, key=tops.get)))
    assert last == [(" eight", " eight"), (" bread", " eight")]


def test_what_cannot_be_is_refused(client) -> None:
    with pytest.raises(openai.BadRequestError, match="no token"):
        client.chat.completions.create(**ASK, logit_bias={"999999": 1})
    with pytest.raises(openai.BadRequestError, match="neither JSON nor tools"):
        client.chat.completions.create(**ASK, logit_bias={"5": 1}, response_format={"type": "json_object"})


def test_the_books_say_what_the_engine_counted(client, engine, books) -> None:
    client.completions.create(**RAW, logprobs=2, n=2)
    with closing(open_ledger(books / "books")) as ledger:
        ledger.sync()
        entries = list(ledger.entries())
    booked = sum(entry.usage.total_tokens for entry in entries)
    counted = engine.counters
    assert booked == counted.total.total_tokens - counted.undelivered.total_tokens > 0
