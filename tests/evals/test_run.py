"""What a report says about answers that are known beforehand."""

from __future__ import annotations

import math

import pytest

from bessemer.core.errors import BackendError, Cancelled, ConfigError, NotFound, Unsupported
from bessemer.core.nouns import Completion, ScoreResult, Usage
from bessemer.core.protocols import Engine
from bessemer.evals import Report, Task, bits_per_byte, run_task


def make_task(sample, count=10, **fields):
    samples = tuple(
        sample(
            f"answer {i}", question=f"answer {i}", id=f"s{i}", group=f"g{i % 4}", rule="even" if i % 2 == 0 else "odd"
        )
        for i in range(count)
    )
    return Task(name="questions", samples=samples, **fields)


def test_the_fixture_is_an_engine(known_engine) -> None:
    assert isinstance(known_engine(), Engine)


async def test_an_engine_that_knows_everything(known_engine, sample) -> None:
    done = []
    engine = known_engine()
    found = await run_task(engine, make_task(sample), progress=lambda *at: done.append(at), concurrency=3)
    assert {metric.name: metric.value for metric in found.metrics} == {"exact_match": 1, "token_f1": 1}
    assert found.metric("token_f1").samples == 10
    assert found.metric("token_f1").groups == 4
    assert found.usage == Usage(input_tokens=30, output_tokens=20)
    assert found.failures == ()
    assert done == [(i, 10) for i in range(1, 11)]
    assert engine.most_in_flight == 3
    assert [score.sample_id for score in found.scores] == [f"s{i}" for i in range(10)]


async def test_decoding_is_greedy_and_cut_off(known_engine, sample) -> None:
    engine = known_engine()
    await run_task(engine, make_task(sample, max_output_tokens=7))
    assert {request.sampling.temperature for request in engine.seen} == {0.0}
    assert {request.sampling.max_output_tokens for request in engine.seen} == {7}


async def test_breakdown_and_json_round_trip(known_engine, sample) -> None:
    engine = known_engine(answer=lambda asked: asked if int(asked.split()[1]) % 2 else "no idea")
    found = await run_task(engine, make_task(sample, scorers=("exact_match",)))
    assert found.breakdown("rule") == {"even": {"exact_match": 0}, "odd": {"exact_match": 1}}
    by_group = {group: values["exact_match"] for group, values in found.breakdown("group").items()}
    assert by_group == {"g0": 0, "g1": 1, "g2": 0, "g3": 1}
    assert Report.model_validate_json(found.model_dump_json()) == found
    interval = found.metric("exact_match").interval
    assert interval.low <= interval.value == 0.5 <= interval.high
    with pytest.raises(NotFound):
        found.metric("blue")


async def test_a_failure_on_one_sample_is_scored_and_keeps_its_reason(known_engine, sample) -> None:
    def answer(asked: str) -> str:
        if asked == "answer 3":
            raise RuntimeError("out of pages")
        return asked

    found = await run_task(known_engine(answer=answer), make_task(sample))
    (failure,) = found.failures
    assert failure.sample_id == "s3"
    assert failure.error == "RuntimeError: out of pages"
    assert failure.values == {"exact_match": 0, "token_f1": 0}
    assert found.metric("exact_match").value == pytest.approx(0.9)


async def test_an_answer_that_ends_in_an_error_is_a_failure(known_engine, sample) -> None:
    engine = known_engine()
    good = engine.respond

    async def respond(request, /):
        completion = await good(request)
        if completion.text == "answer 2":
            return Completion(text="answ", finish_reason="error", usage=Usage())
        return completion

    engine.respond = respond
    found = await run_task(engine, make_task(sample))
    assert [failure.sample_id for failure in found.failures] == ["s2"]


@pytest.mark.parametrize(("samples", "failing", "stops"), [(20, 2, False), (20, 3, True), (1, 1, True), (2, 1, False)])
async def test_too_many_failures_say_more_about_the_engine(known_engine, sample, samples, failing, stops) -> None:
    def answer(asked: str) -> str:
        if int(asked.split()[1]) < failing:
            raise RuntimeError("device lost")
        return asked

    engine = known_engine(answer=answer)
    if not stops:
        assert len((await run_task(engine, make_task(sample, samples))).failures) == failing
        return
    with pytest.raises(BackendError, match=f"{failing} of {samples} samples.*device lost") as caught:
        await run_task(engine, make_task(sample, samples), concurrency=1)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(engine.seen) == failing, "the rest are not asked"


async def test_cancelled_is_no_failure(known_engine, sample) -> None:
    def answer(asked: str) -> str:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        await run_task(known_engine(answer=answer), make_task(sample))


async def test_an_unknown_scorer_is_named_before_anything_is_asked(known_engine, sample) -> None:
    engine = known_engine()
    with pytest.raises(NotFound, match="blue"):
        await run_task(engine, make_task(sample, scorers=("blue",)))
    assert engine.seen == []


def test_a_task_pairs_by_id(sample) -> None:
    with pytest.raises(ValueError, match="two samples with one id"):
        Task(name="t", samples=(sample("a"), sample("b")))


def uniform(text: str) -> ScoreResult:
    """Score like a model that gives each of 256 bytes the same chance: 8 bits for each byte after the first."""
    size = len(text.encode())
    return ScoreResult(logprob_sum=-(size - 1) * math.log(256), scored_tokens=size - 1, scored_bytes=size - 1)


async def test_a_uniform_model_needs_eight_bits_for_a_byte(known_engine) -> None:
    texts = [("one", "some text"), ("two", "größer als vorher: 5 €")]
    found = await bits_per_byte(known_engine(score=uniform), texts)
    metric = found.metric("bits_per_byte")
    assert metric.value == pytest.approx(8)
    assert metric.better == "lower"
    assert [score.weight for score in found.scores] == [8, len(texts[1][1].encode()) - 1]


async def test_the_corpus_value_is_the_ratio_of_sums(known_engine) -> None:
    bits = {"a" * 10: 10.0, "b" * 90: 270.0}

    def score(text: str) -> ScoreResult:
        return ScoreResult(logprob_sum=-bits[text] * math.log(2), scored_tokens=5)

    found = await bits_per_byte(known_engine(score=score), [(text[0], text) for text in bits])
    assert found.metric("bits_per_byte").value == pytest.approx(280 / 100)
    assert [score.values["bits_per_byte"] for score in found.scores] == pytest.approx([1, 3])


async def test_groups_of_texts_are_kept(known_engine) -> None:
    texts = [(str(i), "some text") for i in range(6)]
    found = await bits_per_byte(known_engine(score=uniform), texts, groups={"0": "os", "1": "os", "2": "re"})
    assert [score.group for score in found.scores] == ["os", "os", "re", "3", "4", "5"]
    assert found.metric("bits_per_byte").groups == 5


async def test_a_text_that_cannot_be_scored_counts_for_nothing_and_says_why(known_engine) -> None:
    def score(text: str) -> ScoreResult:
        if text == "bad":
            raise RuntimeError("out of pages")
        return uniform(text)

    texts = [("short", "x"), ("bad", "bad")] + [(str(i), "some text") for i in range(10)]
    found = await bits_per_byte(known_engine(score=score), texts)
    assert {failure.sample_id: failure.weight for failure in found.failures} == {"short": 0, "bad": 0}
    assert found.metric("bits_per_byte").samples == 10
    assert found.metric("bits_per_byte").value == pytest.approx(8)


async def test_what_bits_per_byte_refuses(known_engine) -> None:
    with pytest.raises(Unsupported, match="cannot score"):
        await bits_per_byte(known_engine(capabilities=frozenset({"chat"})), [("a", "text")])
    with pytest.raises(ConfigError, match="at least one"):
        await bits_per_byte(known_engine(score=uniform), [])
    with pytest.raises(ConfigError, match="every id once"):
        await bits_per_byte(known_engine(score=uniform), [("a", "text"), ("a", "more")])
    with pytest.raises(ConfigError, match="none of 1"):
        await bits_per_byte(known_engine(score=uniform), [("a", "x")])
