"""Serving: physical limits, growth, search under limits, and what is said when they cannot be kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest

from bessemer.core.errors import NotFound, Unsupported
from bessemer.twin import decode, inference
from bessemer.twin.accelerators import accelerator
from bessemer.twin.interval import Interval
from bessemer.twin.replica import Replica, guess, named, points, split
from bessemer.twin.shape import shape
from bessemer.twin.workload import Serving


@dataclass(frozen=True)
class Links:
    scaleup_accelerators: int = 8
    scaleup_bytes_per_second: float = 450e9
    scaleout_bytes_per_second: float = 50e9


H100, LINKS = accelerator("H100"), Links()
MODELS = ("Llama-3.1-8B", "Qwen3-32B", "Qwen3-30B-A3B", "DeepSeek-V3", "GPT-OSS-120B")
DEVICES = ("H100", "H200", "B200", "GB200", "MI300X")


def grid(**changes: float) -> decode.Points:
    cuts = [
        Replica(shape(model), accelerator(device), accelerators=size)
        for model in MODELS
        for device in DEVICES
        for size in (1, 4, 8)
    ]
    return points([replace(cut, **changes) for cut in cuts])


@pytest.mark.parametrize("sequences", [1, 16, 256, 4096])
def test_no_step_beats_its_roofline(sequences: int) -> None:
    p, k = grid(sequences=sequences), decode.fitted().constants
    factors = np.array([k.trtllm, k.vllm, k.sglang])
    seconds = decode.decode_seconds(p, k, p.sequences) * factors.min()
    flop = p.sequences * p.token_flop / p.accelerators / p.flop_per_second
    used = p.expert_bytes * decode.touched(p.experts, p.experts_active, p.sequences)
    read = (p.dense_bytes + used) / p.accelerators / p.bytes_per_second
    assert np.all(seconds > flop)
    assert np.all(seconds > read)


def test_no_prefill_beats_its_roofline() -> None:
    p, k = grid(sequences=1, input_tokens=8192), decode.fitted().constants
    flop = p.input_tokens * p.token_flop / p.accelerators / p.flop_per_second
    assert np.all(decode.prefill_seconds(p, k) * decode.engine(p, k) > flop)
    assert np.all(decode.prefill_seconds(p, k) > flop)


def test_a_token_takes_longer_with_more_company_and_with_more_context() -> None:
    k = decode.fitted().constants
    times = [decode.decode_seconds(p, k, p.sequences) for p in (grid(sequences=n) for n in (1, 2, 8, 64, 512))]
    assert all(np.all(more > less) for less, more in pairwise(times))
    short, long = (grid(sequences=8, input_tokens=tokens) for tokens in (100, 10_000))
    assert np.all(decode.decode_seconds(long, k, long.sequences) > decode.decode_seconds(short, k, short.sequences))


def test_without_sequences_a_dense_step_reads_its_weights() -> None:
    p = points([Replica(shape("Llama-3.1-8B"), H100, "bf16")])
    free = {name: 0.0 for name in decode.Constants.__slots__ if name.endswith("_seconds")}
    k = replace(decode.fitted().constants, memory=1.0, **free)
    read = split(shape("Llama-3.1-8B"))[0] * 2 / H100.memory_bytes_per_second
    assert decode.decode_seconds(p, k, np.zeros(1))[0] == pytest.approx(read, rel=1e-9)


def test_one_token_touches_the_experts_it_passes_and_many_touch_all() -> None:
    experts, active = np.array(256.0), np.array(8.0)
    assert decode.touched(experts, active, np.array(1.0)) == pytest.approx(8 / 256)
    assert decode.touched(experts, active, np.array(1e5)) == pytest.approx(1.0)


def test_a_replica_answers_with_intervals_and_its_bottleneck() -> None:
    answer = inference.replica(shape("Qwen3-32B"), Serving(precision="fp8"), H100, 4, LINKS, 16)
    assert answer.time_per_output_token_seconds.mid in answer.time_per_output_token_seconds
    assert answer.tokens_per_second.low < answer.tokens_per_second.mid < answer.tokens_per_second.high
    assert 0 < answer.memory_bytes < H100.memory_bytes
    assert answer.bottleneck in ("memory", "arithmetic", "cache", "links", "engine", "prefill")


def test_more_requests_give_more_tokens_until_memory_is_full() -> None:
    rates = [
        inference.replica(shape("Qwen3-32B"), Serving(), H100, 4, LINKS, n).tokens_per_second.mid for n in (1, 8, 64)
    ]
    assert rates == sorted(rates)


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(Unsupported) as caught:
        inference.replica(shape("DeepSeek-V3"), Serving(precision="fp8"), H100, 4, LINKS, 1)
    assert "accelerators" in caught.value.hint


def test_the_best_replica_keeps_what_users_accept() -> None:
    work = Serving(time_to_first_token_seconds=1.0, time_per_output_token_seconds=0.02)
    found = inference.best(shape("Llama-3.1-8B"), work, H100, LINKS)
    assert found.time_per_output_token_seconds.mid <= 0.02
    assert found.time_to_first_token_seconds.mid <= 1.0
    loose = inference.best(shape("Llama-3.1-8B"), Serving(), H100, LINKS)
    assert loose.tokens_per_second_per_accelerator >= found.tokens_per_second_per_accelerator


def test_an_impossible_limit_is_named() -> None:
    with pytest.raises(Unsupported, match=r"time per output token: asked 1e-06 s, at best"):
        inference.best(shape("Qwen3-32B"), Serving(time_per_output_token_seconds=1e-6), H100, LINKS)


def test_drafted_tokens_help_a_small_batch() -> None:
    plain = inference.replica(shape("Qwen3-32B"), Serving(), H100, 4, LINKS, 1)
    drafted = inference.replica(shape("Qwen3-32B"), Serving(speculative_tokens=3), H100, 4, LINKS, 1)
    assert drafted.time_per_output_token_seconds.mid < plain.time_per_output_token_seconds.mid


def test_apart_prefill_takes_accelerators_of_its_own() -> None:
    work = Serving(disaggregated=True, input_tokens=8192)
    answer = inference.replica(shape("Qwen3-32B"), work, H100, 4, LINKS, 32)
    assert answer.prefill_accelerators > 0
    longer = inference.replica(shape("Qwen3-32B"), work.model_copy(update={"input_tokens": 16384}), H100, 4, LINKS, 32)
    assert longer.prefill_accelerators > answer.prefill_accelerators


def test_joules_follow_watts() -> None:
    answer = inference.replica(shape("Qwen3-32B"), Serving(), H100, 8, LINKS, 64)
    joules = inference.joules_per_token(answer, Interval(6000, 5000, 7000))
    assert joules.mid == pytest.approx(6000 / answer.tokens_per_second.mid)
    assert joules.low < joules.mid < joules.high


def test_networks_are_found_by_their_published_names_or_guessed_by_their_sizes() -> None:
    assert named("nvidia/Qwen3-32B-NVFP4")[0].name == "Qwen3-32B"
    network, is_guessed = named("Nobody/Thing-500B-A25B-FP8")
    assert is_guessed
    assert network.parameters == 500e9
    with pytest.raises(NotFound, match="catalogue"):
        guess("Mystery")
