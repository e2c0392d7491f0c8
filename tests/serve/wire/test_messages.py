"""Anthropic's own client gets answers, tools, streams and errors from ``/v1/messages``."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from bessemer.core.units import Money
from bessemer.infer import EchoConfig, OpenVinoConfig, open_engine
from bessemer.serve import Gate, GatewayParts, Tariff, Worker, open_accounts
from tests.serve.conftest import PlayedEngine, start_in

anthropic = pytest.importorskip("anthropic")

HELLO = [{"role": "user", "content": "one two three"}]
TOOL = {
    "name": "look",
    "description": "Looks.",
    "input_schema": {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]},
}


@pytest.fixture
def claude(wire):
    with anthropic.Anthropic(base_url=wire.running.url, api_key=wire.secrets["shop"], max_retries=0) as client:
        yield client.messages


def test_a_whole_answer(claude, wire) -> None:
    answer = claude.create(model="played", max_tokens=50, messages=HELLO, system="be kind")
    assert (answer.type, answer.role, answer.content[0].text) == ("message", "assistant", "one two three")
    assert answer.id.startswith("msg_")
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 3)
    assert answer.usage.energy["joules"] == 1.5
    assert wire.booked() == [("shop", "ok", 5, 3)]
    assert claude.create(model="played", max_tokens=1, messages=HELLO).stop_reason == "max_tokens"


def test_a_streamed_answer(claude, wire) -> None:
    with claude.stream(model="played", max_tokens=50, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "one two three"
        final = stream.get_final_message()
    assert (final.content[0].text, final.stop_reason, final.usage.output_tokens) == ("one two three", "end_turn", 3)
    assert wire.booked() == [("shop", "ok", 3, 3)]
    kinds = [event.type for event in claude.create(model="played", max_tokens=9, messages=HELLO, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_answered(claude, stream) -> None:
    asked = {"model": "played", "max_tokens": 50, "tools": [TOOL]}
    ask = [{"role": "user", "content": "please look"}]
    if stream:
        with claude.stream(**asked, messages=ask) as events:
            answer = events.get_final_message()
    else:
        answer = claude.create(**asked, messages=ask)
    (call,) = answer.content
    assert (answer.stop_reason, call.type, call.name, call.input) == (
        "tool_use",
        "tool_use",
        "look",
        {"where": "please look"},
    )
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "nothing there"}]}
    turns = [*ask, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    assert claude.create(**asked, messages=turns).content[0].text == "nothing there"


def test_errors_are_told_in_its_form(wire, claude) -> None:
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        claude.create(model="gone", max_tokens=5, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.create(model="played", max_tokens=5000, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="top_k"):
        claude.create(model="played", max_tokens=5, messages=HELLO, extra_body={"top_k": 3})
    with (
        anthropic.Anthropic(base_url=wire.running.url, api_key="bk-wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        stranger.messages.create(model="played", max_tokens=5, messages=HELLO)
    assert caught.value.response.json()["error"]["type"] == "authentication_error"
    assert wire.booked() == []


def test_an_error_within_a_stream_reaches_the_client(start) -> None:
    running = start(PlayedEngine())
    running.engine.fail_at = 1
    with (
        anthropic.Anthropic(base_url=running.url, api_key=running.secret, max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError, match="failed"),
        client.messages.stream(model="played", max_tokens=5, messages=HELLO) as stream,
    ):
        list(stream)
    assert [entry.status for entry in running.meter.entries()] == ["broken"]


def test_stop_sequences_and_limits_reach_the_engine(start) -> None:
    running = start(PlayedEngine())
    body = {"model": "played", "max_tokens": 7, "messages": HELLO, "stop_sequences": ["END"], "temperature": 0.5}
    status, answer, _ = running.ask(json.dumps(body), "/v1/messages")
    assert (status, answer["content"][0]["text"]) == (200, "one two three")
    sampling = running.engine.requests[0].sampling
    assert (sampling.max_output_tokens, sampling.stop, sampling.temperature) == (7, ("END",), 0.5)


def test_an_answer_in_json_and_fields_that_change_nothing(claude) -> None:
    schema = {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]}
    form = {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    more = {"cache_control": {"type": "ephemeral"}, "speed": "standard"}
    answer = claude.create(model="played", max_tokens=50, messages=HELLO, output_config=form, **more)
    assert set(json.loads(answer.content[0].text)) == {"where"}
    with pytest.raises(anthropic.BadRequestError, match="speed"):
        claude.create(model="played", max_tokens=50, messages=HELLO, speed="fast")


TURNS = [
    *HELLO,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "look", "input": {"where": "up"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "a bird"}]},
]
SHAPES = {
    "plain": {"messages": HELLO},
    "system": {"messages": HELLO, "system": [{"type": "text", "text": "be kind"}]},
    "tools": {"messages": HELLO, "system": "be kind", "tools": [TOOL]},
    "turns": {"messages": TURNS, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
    "none": {"messages": HELLO, "tools": [TOOL], "tool_choice": {"type": "none"}},
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory, compiled_model):
    with ExitStack() as stack:
        engine = open_engine(OpenVinoConfig(path=str(compiled_model), kv_cache_bytes=1 << 28))
        engine.go_on = type("Never", (), {"set": lambda self: None})()
        running = start_in(tmp_path_factory.mktemp("compiled"), stack, engine)
        made = anthropic.Anthropic(base_url=running.url, api_key=running.secret, max_retries=0)
        yield running, stack.enter_context(made).messages


@pytest.mark.parametrize("shape", SHAPES)
def test_tokens_are_counted_as_an_answer_reports_them(compiled, shape) -> None:
    running, claude = compiled
    before = len(running.meter.entries())
    counted = claude.count_tokens(model="played", **SHAPES[shape])
    assert counted.to_dict() == {"input_tokens": counted.input_tokens}
    assert len(running.meter.entries()) == before, "nothing is booked"
    usage = claude.create(model="played", max_tokens=1, **SHAPES[shape]).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens > 3


def test_what_is_no_conversation_is_not_counted(claude, wire, start) -> None:
    assert claude.count_tokens(model="played", messages=HELLO, system="be kind").input_tokens == 5
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.count_tokens(model="played", messages=HELLO, extra_body={"max_tokens": 3})
    with pytest.raises(anthropic.NotFoundError):
        claude.count_tokens(model="gone", messages=HELLO)
    shut = wire.running.keys.create("shop", models=("other",))[1]
    for secret, error in (("bk-wrong", anthropic.AuthenticationError), (shut, anthropic.PermissionDeniedError)):
        with (
            anthropic.Anthropic(base_url=wire.running.url, api_key=secret, max_retries=0) as client,
            pytest.raises(error),
        ):
            client.messages.count_tokens(model="played", messages=HELLO)
    assert wire.booked() == []
    running = start(PlayedEngine())
    with (
        anthropic.Anthropic(base_url=running.url, api_key=running.secret, max_retries=0) as client,
        pytest.raises(anthropic.BadRequestError, match="counts no tokens ahead"),
    ):
        client.messages.count_tokens(model="played", messages=HELLO)


def test_counting_is_a_request_of_the_limits_and_spends_no_budget(tmp_path) -> None:
    def pricing(subject):
        return Tariff(10**6, 10**6, own_tokens=100)

    with ExitStack() as stack:
        accounts = open_accounts(tmp_path / "keys.sqlite")
        stack.callback(accounts.close)
        gate = Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda ids: {})
        stack.callback(gate.close)
        engine = open_engine(EchoConfig())
        engine.go_on = type("Never", (), {"set": lambda self: None})()
        running = start_in(tmp_path, stack, engine, GatewayParts(gate=gate))
        accounts.rates.set("project", "tests", requests=2)
        budget = accounts.budgets.set("project", "tests", "total", Money(micros=1))
        made = anthropic.Anthropic(base_url=running.url, api_key=running.secret, max_retries=0)
        claude = stack.enter_context(made).messages
        with pytest.raises(anthropic.RateLimitError, match="budget"):
            claude.create(model="played", max_tokens=3, messages=HELLO)
        for left in "10":
            told = claude.with_raw_response.count_tokens(model="played", messages=HELLO)
            assert told.headers["x-ratelimit-remaining-requests"] == left
        with pytest.raises(anthropic.RateLimitError, match="2 requests per minute"):
            claude.count_tokens(model="played", messages=HELLO)
        gate._holding.let_go()
        state = accounts.budgets.spending(budget)
        assert (state.spent_micros, state.reserved_micros, running.meter.entries()) == (0, 0, [])
