"""A bias and alternatives to each token: the decoding beside the pipeline, its choice of tokens, its turns."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bessemer.core.errors import BackendError, BudgetExceeded, Unsupported
from bessemer.core.nouns import ChatRequest, Delta, JsonFormat, Message, Sampling, ScoreRequest, Tool, Usage
from bessemer.core.raw import PromptRequest
from bessemer.infer import OpenVinoConfig, open_engine
from bessemer.infer.engines import add, minus

pytest.importorskip("openvino_genai")

from bessemer.infer.device import Device
from bessemer.infer.jobs import RawJob
from bessemer.infer.logits import (
    AT_ONCE,
    Answer,
    Chooser,
    Decoder,
    Scored,
    available_bytes,
    likeliest,
    load,
    log_softmax,
)
from bessemer.infer.runtime import genai

TEXT = "A river is a large, flowing stream of water."
LOGITS = np.array([1.0, 3.0, 2.0, -1.0], dtype=np.float32)
NO_EFFECT = ((5, 0.0),)
"""Goes beside the pipeline, and changes nothing."""


@pytest.fixture
def device(tiny: Path) -> Device:
    return warm(Device(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24, step_tokens=64)))


def warm(device: Device) -> Device:
    """Return a device that has loaded all that it needs."""
    job = device.begin(10**6, raw(max_output_tokens=1, logit_bias=NO_EFFECT))
    while not job.finished:
        device.step()
        job.advance()
    return device


def ask(text: str = "A river", **sampling: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=text),), sampling=Sampling(**sampling))


def raw(text: str = TEXT, **sampling: Any) -> PromptRequest:
    return PromptRequest(text=text, sampling=Sampling(**sampling))


# --- the choice of a token ------------------------------------------------------------------------------------------


def chosen(times: int = 1, logits: Any = LOGITS, seed: int = 0, **sampling: Any) -> list[int]:
    chooser = Chooser(Sampling(**sampling), seed)
    return [chooser.choose(logits) for _ in range(times)]


def test_a_bias_bans_and_forces_and_leaves_the_logits_alone() -> None:
    before = LOGITS.copy()
    assert chosen() == [1]
    assert chosen(logit_bias=((1, -100.0),)) == [2]
    assert chosen(logit_bias=((3, 100.0),)) == [3]
    assert chosen(logit_bias=((2, 0.6), (2, 0.6))) == [2], "both of them count"
    assert (before == LOGITS).all()


def test_a_bias_comes_before_temperature() -> None:
    """Twice as warm, a bias counts half: 2.0 makes the first as likely as the second."""
    made = chosen(4000, temperature=2.0, logit_bias=((0, 2.0), (2, -100.0), (3, -100.0)))
    assert set(made) == {0, 1}
    assert made.count(0) / 4000 == pytest.approx(0.5, abs=0.03)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    made = chosen(20_000, temperature=0.7)
    for token, share in enumerate(np.exp(log_softmax(LOGITS / 0.7))):
        assert made.count(token) / 20_000 == pytest.approx(share, abs=0.01)


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    """Likelihoods are 0.09, 0.66, 0.24 and 0.01."""
    assert set(chosen(500, temperature=1.0, top_p=0.5)) == {1}
    assert set(chosen(500, temperature=1.0, top_p=0.8)) == {1, 2}
    assert set(chosen(2000, temperature=1.0, top_p=0.95)) == {0, 1, 2}
    for coldest in (1e-9, 1e-46, 5e-324):
        assert set(chosen(50, temperature=coldest)) == {1}, "float32 has no such temperature"


def test_penalties_follow_the_formula_also_below_zero() -> None:
    """Each time a token was made costs `frequency`, that it was made at all costs `presence`."""
    two = np.array([1.0, 0.0], dtype=np.float32)
    assert chosen(5, two, frequency_penalty=0.6) == [0, 0, 1, 0, 1]
    assert chosen(3, two, presence_penalty=1.5) == [0, 1, 0]
    assert chosen(2, two - 10, presence_penalty=1.5) == [0, 1]
    assert chosen(2, two - 10, frequency_penalty=1.5) == [0, 1]


def test_chance_hangs_on_the_seed() -> None:
    assert chosen(40, temperature=2.0, seed=7) == chosen(40, temperature=2.0, seed=7)
    assert chosen(40, temperature=2.0, seed=7) != chosen(40, temperature=2.0, seed=8)


def test_the_likeliest_come_in_order_and_no_more_than_there_are() -> None:
    logprobs = log_softmax(LOGITS)
    assert np.exp(logprobs).sum() == pytest.approx(1.0)
    assert [token for token, _ in likeliest(logprobs, 3)] == [1, 2, 0]
    assert [token for token, _ in likeliest(logprobs, 20)] == [1, 2, 0, 3]
    assert likeliest(logprobs, 0) == ()


# --- the model and its turns ----------------------------------------------------------------------------------------


def test_a_prompt_read_in_parts_is_the_prompt_read_at_once(tiny: Path) -> None:
    model = load(tiny, "CPU", {"KV_CACHE_PRECISION": "f32"})

    def first(most: int) -> tuple[list[int], Any]:
        stream, steps = Answer(list(range(10, 60)), Sampling(top_logprobs=4), 1, set(), 0), []
        while stream.running():
            stream.advance(model, most)
            steps.append(len(steps))
        (output,) = stream.read().values()
        return steps, output.tops[0]

    (whole, one), (parts, other) = first(64), first(8)
    assert (len(whole), len(parts)) == (1, 7)
    assert [token for token, _ in one] == [token for token, _ in other]
    assert [value for _, value in one] == pytest.approx([value for _, value in other], abs=0.02)


def test_a_scored_text_is_read_in_small_parts_whatever_a_step_takes(tiny: Path) -> None:
    """Each of its tokens has the logits of a whole vocabulary."""
    model, tokens = load(tiny, "CPU", {}), [10 + n % 50 for n in range(200)]
    parts, rows = [], []
    for most in (65_536, 64):
        stream = Scored(tokens, 1)
        first = stream.read()[0].generated_log_probs
        made = []
        while stream.running():
            stream.advance(model, most)
            made.append(stream.read()[0].generated_log_probs)
        parts.append([len(each) for each in made])
        rows.append([*first, *(value for each in made for value in each)])
    assert parts == [[128, 71], [64, 64, 64, 7]]
    assert rows[0] == pytest.approx(rows[1], abs=0.05)


def test_a_number_that_no_token_has_is_no_text(device: Device) -> None:
    """Models have more logits than their tokenizers have tokens, and chance may choose any."""
    vocabulary, number = device._vocabulary, device._vocabulary.last + 1
    assert (vocabulary.raw(number), vocabulary.bytes(number), vocabulary.name(number)) == (b"", b"", "")
    answer = Answer([5], Sampling(top_logprobs=1), 3, set(), 0)
    job = RawJob(answer, 1, (), vocabulary, True)
    answer._put([number], [-0.5], [((number, -0.5),)], genai.GenerationFinishReason.LENGTH)
    last = job.advance()
    assert isinstance(last, Delta) and (last.text, last.finish_reason, last.logprobs) == ("", "length", ())


def test_both_kinds_advance_in_each_step(device: Device) -> None:
    plain = device.begin(0, raw(max_output_tokens=200))
    besides = [device.begin(n, raw(max_output_tokens=200, logit_bias=((2, -100.0), (0, -100.0)))) for n in (1, 2)]
    assert {job.usage for job in (plain, *besides)} == {plain.usage}
    made = []
    for _ in range(6):
        device.step()
        for job in (plain, *besides):
            job.advance()
        made.append([job.usage.output_tokens for job in (plain, *besides)])
    assert [each[1:] for each in made] == [[n, n] for n in range(1, 7)]
    firsts = [first for first, *_ in made[1:]]  # the pipeline may read its prompt for one step longer
    assert plain.finished or firsts == list(range(firsts[0], firsts[0] + 5))
    for job in (plain, *besides):
        job.cancel()
    while device.busy():
        device.step()


def test_more_than_there_is_place_for_wait_for_their_turn(device: Device) -> None:
    jobs = [device.begin(n, raw(max_output_tokens=100, logit_bias=((2, -100.0),))) for n in range(AT_ONCE + 2)]
    jobs[-2].cancel()

    def step() -> list[int]:
        device.step()
        for job in jobs:
            job.advance()
        return [job.usage.output_tokens for job in jobs]

    for _ in range(6):
        made = step()
    assert all(made[:AT_ONCE]) and not any(made[AT_ONCE:])
    jobs[0].cancel()
    for _ in range(6):
        made = step()
    assert made[-1] and not made[-2]
    for job in jobs:
        job.cancel()
    assert not device.busy()


def test_streams_take_no_more_room_than_there_is(tiny: Path) -> None:
    decoder = Decoder(lambda: load(tiny, "CPU", {}), at_once=4, step_tokens=64, room_tokens=60)
    streams = [Answer(list(range(10, 20)), Sampling(), limit, set(), 0) for limit in (3, 40, 30)]
    for stream in streams:
        decoder.begin(stream)
    decoder.step(60)
    assert [stream.can_read() for stream in streams] == [True, False, False], "13 of 60 are taken, and 50 do not fit"
    for _ in range(3):
        decoder.step(60)
    assert [stream.can_read() for stream in streams] == [True, True, False], "the first has ended"


def test_one_stream_at_a_time_if_that_is_declared(tiny: Path) -> None:
    device = warm(Device(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24, max_streams=1)))
    jobs = [device.begin(n, raw(max_output_tokens=3, logit_bias=((2, -100.0),))) for n in range(2)]
    for _ in range(3):
        device.step()
        for job in jobs:
            job.advance()
    assert [job.usage.output_tokens for job in jobs] == [3, 0]


def test_the_batch_goes_on_while_the_model_is_loaded_beside_it(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, go_on = Device(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24)), threading.Event()
    monkeypatch.setattr("bessemer.infer.device.load", lambda *way: go_on.wait(60) and load(*way))
    beside = device.begin(1, raw(max_output_tokens=3, top_logprobs=1))
    plain = device.begin(2, raw(max_output_tokens=10, temperature=2.0))
    for _ in range(40):
        device.step()
        beside.advance(), plain.advance()
    assert plain.finished and not beside.usage.output_tokens
    assert device.busy(), "it waits, and is not forgotten"
    go_on.set()
    while not beside.finished:
        device.step()
        beside.advance()
    assert beside.usage.output_tokens


def test_a_model_that_cannot_be_loaded_again_ends_only_what_needs_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*way: Any) -> Any:
        raise MemoryError("no memory for it")

    device = Device(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24))
    with monkeypatch.context() as patch:
        patch.setattr("bessemer.infer.device.load", broken)
        plain = device.begin(1, raw(max_output_tokens=200, temperature=2.0))
        besides = [device.begin(2, raw(logit_bias=NO_EFFECT)), device.begin(3, ScoreRequest(text=TEXT, top_logprobs=1))]
        replies: list[Any] = []
        while not all(job.finished for job in besides):
            device.step()
            replies += [reply for job in besides if not job.finished and (reply := job.advance())]
    assert [type(reply) for reply in replies] == [BackendError] * 2
    assert all("no memory for it" in reply.message for reply in replies)
    while not plain.finished:
        device.step()
        last = plain.advance()
    assert isinstance(last, Delta) and last.finish_reason in ("stop", "length")
    warm(device)


def test_the_memory_that_is_free_is_told_in_bytes() -> None:
    assert available_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_nothing_is_loaded_where_memory_is_short(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 2 * (tiny / "openvino_model.bin").stat().st_size
    for free, fits in ((room - 1, False), (room, True)):
        monkeypatch.setattr("bessemer.infer.logits.available_bytes", lambda free=free: free)
        with nullcontext() if fits else pytest.raises(BackendError, match="of memory are free"):
            load(tiny, "CPU", {})


# --- the engine -----------------------------------------------------------------------------------------------------


async def test_a_bias_changes_the_answer(engine: Any) -> None:
    forced = await engine.respond(ask(max_output_tokens=3, logit_bias=((20, 100.0),)))
    name = (await engine.respond(ScoreRequest(tokens=(20, 21)))).tokens[0].token
    assert forced.text == name * 3 and forced.finish_reason == "length"
    assert forced.logprobs == ()
    ended = await engine.respond(ask(max_output_tokens=9, logit_bias=((2, 100.0),), top_logprobs=0))
    assert (ended.text, ended.finish_reason, ended.logprobs) == ("", "stop", ()), "2 ends an answer"
    assert ended.usage.output_tokens == 1


async def test_log_probabilities_are_those_of_the_model_whatever_is_done_to_them(engine: Any, tiny: Path) -> None:
    plain = await engine.respond(raw(max_output_tokens=1, top_logprobs=0))
    told = await engine.respond(raw(max_output_tokens=1, top_logprobs=20, temperature=2.0, top_p=0.01, seed=1))
    assert told.logprobs[0].token == plain.logprobs[0].token
    assert told.logprobs[0].logprob == pytest.approx(plain.logprobs[0].logprob, abs=0.25)
    name, value = next((name, value) for name, value in told.logprobs[0].top[10:] if name.isascii())
    number = genai.Tokenizer(tiny).get_vocab()[name.encode()]
    biased = await engine.respond(raw(max_output_tokens=1, top_logprobs=2, logit_bias=((number, 100.0),)))
    assert (biased.logprobs[0].token, biased.logprobs[0].logprob) == (name, pytest.approx(value, abs=0.01))
    assert biased.logprobs[0].top == told.logprobs[0].top[:2]


async def test_alternatives_come_with_each_token_the_likeliest_first(engine: Any) -> None:
    for request in (ask(max_output_tokens=8, top_logprobs=3), raw(max_output_tokens=8, top_logprobs=3)):
        answer = await engine.respond(request)
        assert 0 < len(answer.logprobs) <= answer.usage.output_tokens
        for token in answer.logprobs:
            values = [value for _, value in token.top]
            assert len(values) == 3 and values == sorted(values, reverse=True)
            assert token.top[0] == (token.token, token.logprob)


async def test_a_score_has_alternatives(engine: Any) -> None:
    plain, told = [await engine.respond(ScoreRequest(text=TEXT * 5, top_logprobs=n)) for n in (0, 2)]
    assert [token.token for token in told.tokens] == [token.token for token in plain.tokens]
    assert (told.usage, told.scored_bytes, told.scored_tokens) == (plain.usage, plain.scored_bytes, plain.scored_tokens)
    assert told.logprob_sum == pytest.approx(plain.logprob_sum, rel=0.02)
    assert told.tokens[0].top == () and all(len(token.top) == 2 for token in told.tokens[1:])
    assert all(token.logprob <= token.top[0][1] for token in told.tokens[1:])
    likeliest = [token for token in told.tokens[1:] if token.token == token.top[0][0]]
    assert all(token.logprob == token.top[0][1] for token in likeliest)
    single = await engine.respond(ScoreRequest(tokens=(20,), top_logprobs=1))
    assert (single.scored_tokens, single.usage.input_tokens) == (0, 1)


async def test_the_seed_gives_the_same_answer_and_none_another(engine: Any) -> None:
    sampling = {"max_output_tokens": 12, "temperature": 2.0, "logit_bias": ((2, -100.0),)}
    one, two = [await engine.respond(ask(**sampling, seed=-3)) for _ in range(2)]
    assert one.text == two.text
    assert len({(await engine.respond(ask(**sampling))).text for _ in range(4)}) > 1


async def test_stop_sequences_and_the_limit_hold(engine: Any) -> None:
    free = await engine.respond(ask(max_output_tokens=12, logit_bias=((2, -100.0),)))
    assert (free.finish_reason, free.usage.output_tokens) == ("length", 12)
    mark = free.text[4:7]
    stopped = await engine.respond(ask(max_output_tokens=12, logit_bias=((2, -100.0),), stop=(mark,)))
    assert stopped.finish_reason == "stop" and stopped.text == free.text[: free.text.index(mark)]


async def test_the_context_ends_the_answer(engine: Any) -> None:
    said = await engine.respond(ask("river " * 60, max_output_tokens=4096, logit_bias=((2, -100.0), (0, -100.0))))
    assert (said.finish_reason, said.usage.total_tokens) == ("length", engine.context_tokens)
    with pytest.raises(BudgetExceeded, match="256"):
        await engine.respond(ask("river " * 300, logit_bias=NO_EFFECT))


async def test_what_cannot_be_is_refused(engine: Any) -> None:
    for token in (10**6, -1):
        with pytest.raises(Unsupported, match="no token") as caught:
            await engine.respond(ask(logit_bias=((token, 1.0),)))
        assert caught.value.hint
    for fields in ({"json_format": JsonFormat()}, {"tools": (Tool(name="look"),)}):
        for sampling in (Sampling(logit_bias=NO_EFFECT), Sampling(top_logprobs=1)):
            request = ask().model_copy(update={"sampling": sampling, **fields})
            told = "no log-probabilities" if request.tools and sampling.top_logprobs else "neither JSON nor tools"
            with pytest.raises(Unsupported, match=told) as caught:
                await engine.respond(request)
            assert caught.value.hint
    unused = ask(max_output_tokens=2, top_logprobs=1).model_copy(
        update={"tools": (Tool(name="look"),), "tool_choice": "none"}
    )
    assert len((await engine.respond(unused)).logprobs) == 2


async def test_what_is_made_is_counted_whoever_leaves(engine: Any) -> None:
    before, sampling = engine.counters, {"temperature": 2.0, "logit_bias": ((2, -100.0),)}

    async def leave(text: str) -> Usage:
        pieces = engine.stream(ask(text, max_output_tokens=150, **sampling))
        async for piece in pieces:
            if piece.text:
                break
        await pieces.aclose()
        return Usage.model_validate(piece.usage)

    async def stay(text: str, **more: Any) -> Usage:
        return Usage.model_validate((await engine.respond(ask(text, max_output_tokens=20, **more))).usage)

    taken = await asyncio.gather(
        *(leave(f"river {n}") for n in range(AT_ONCE + 1)),
        *(stay(f"bridge {n}", **sampling) for n in range(AT_ONCE + 1)),
        *(stay(f"water {n}") for n in range(3)),
    )
    await stay("the end")
    made = minus(engine.counters.total, before.total)
    undelivered = minus(engine.counters.undelivered, before.undelivered)
    told = Usage()
    for usage in taken:
        told = add(told, usage)
    last = await stay("the end")
    assert made == add(add(told, last), undelivered)
    assert engine.counters.requests - before.requests == len(taken) + 2


async def test_an_answer_closed_early_does_not_go_on(engine: Any) -> None:
    pieces = engine.stream(ask(max_output_tokens=200, logit_bias=((2, -100.0), (0, -100.0))))
    await anext(pieces)
    await pieces.aclose()
    await engine.respond(ask(max_output_tokens=1))  # the worker has read the cancel by then
    settled = engine.counters.total
    await asyncio.sleep(0.2)
    assert engine.counters.total == settled


async def test_without_effect_it_says_what_the_pipeline_says(compiled_model: Path) -> None:
    """Both round keys and values to 8 bits, each in its own way, so that only nearly tied tokens may fall otherwise."""
    engine = open_engine(OpenVinoConfig(path=str(compiled_model), kv_cache_bytes=1 << 26))
    try:
        for text in ("Tell me of a river.", "What is 2 + 2?", "Who are you?", "Name three colours."):
            plain = await engine.respond(ask(text, max_output_tokens=24, top_logprobs=0))
            beside = await engine.respond(ask(text, max_output_tokens=24, top_logprobs=2, logit_bias=NO_EFFECT))
            assert beside.usage.input_tokens == plain.usage.input_tokens
            pairs = list(zip(plain.logprobs, beside.logprobs, strict=False))
            fork = next((n for n, (one, two) in enumerate(pairs) if one.token != two.token), None)
            assert all(one.logprob == pytest.approx(two.logprob, abs=0.3) for one, two in pairs[:fork])
            if fork is None:
                assert (beside.text, beside.finish_reason, beside.usage) == (
                    plain.text,
                    plain.finish_reason,
                    plain.usage,
                )
            else:
                (_, first), (name, second) = beside.logprobs[fork].top
                assert name == plain.logprobs[fork].token and first - second < 0.3
    finally:
        await engine.close()
