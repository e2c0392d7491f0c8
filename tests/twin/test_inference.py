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


@pytest.mark.parametrize("drafted", [1, 3, 8])
def test_drafted_tokens_save_no_more_apart_than_a_step_takes(drafted: int) -> None:
    apart = Serving(disaggregated=True, output_tokens=256)
    work = apart.model_copy(update={"speculative_tokens": drafted})
    for model in ("Qwen3-32B", "GPT-OSS-120B"):
        plain = inference.replica(shape(model), apart, H100, 8, LINKS, 4).time_per_output_token_seconds.mid
        with_drafts = inference.replica(shape(model), work, H100, 8, LINKS, 4).time_per_output_token_seconds.mid
        assert plain / inference.accepted_tokens(drafted) < with_drafts < plain


def test_an_expert_with_few_tokens_computes_a_whole_tile() -> None:
    k = replace(decode.fitted().constants, fp8=1.0, imbalance=0.0)
    loads = np.geomspace(1, 1e7, 15)
    p = points([Replica(shape("DeepSeek-V3"), H100, accelerators=16, sequences=load) for load in loads])
    per_token = decode.decode_parts(p, k, p.sequences).arithmetic / p.sequences
    assert np.all(np.diff(per_token) < 0)
    no_tiles = decode.decode_parts(p, replace(k, tile=0.0), p.sequences).arithmetic / p.sequences
    assert per_token[-1] == pytest.approx(no_tiles[-1], rel=1e-3)
    assert no_tiles == pytest.approx(np.full(len(loads), no_tiles[0]))
    dense = points([Replica(shape("Qwen3-32B"), H100, accelerators=4, sequences=load) for load in loads])
    one, other = (decode.decode_parts(dense, each, dense.sequences).arithmetic for each in (k, replace(k, tile=0.0)))
    assert one == pytest.approx(other)


def test_an_index_bounds_what_a_long_context_reads() -> None:
    k, network = decode.fitted().constants, shape("GLM-5")
    whole, indexed = (
        points([Replica(each, H100, accelerators=16, input_tokens=n) for n in (1000.0, 4000.0, 64000.0)])
        for each in (replace(network, attended_tokens=0), network)
    )
    reads = [decode.decode_parts(p, k, np.full(3, 64.0)).cache for p in (whole, indexed)]
    assert reads[1][0] > reads[0][0]  # the index is read beside all that is attended
    assert reads[1][2] < reads[0][2] / 3
    assert reads[1][2] > reads[1][1]  # though the index itself grows
    assert np.all(decode.capacity(indexed) < decode.capacity(whole))
    assert decode.prefill_seconds(indexed, k)[2] < decode.prefill_seconds(whole, k)[2]


def test_weights_of_four_bits_are_multiplied_in_sixteen_where_there_is_no_unit_for_them() -> None:
    names = ("bf16", "fp8", "fp4", "int4")
    cuts = [Replica(shape("Qwen3-32B"), accelerator(device), name) for device in ("H200", "B200") for name in names]
    p = points(cuts)
    peak = p.flop_per_second.reshape(2, 4) / p.flop_per_second.reshape(2, 4)[:, :1]
    assert peak == pytest.approx(np.array([[1, 2, 1, 1], [1, 2, 4, 1]]), rel=1e-2)
    native = points([Replica(shape("GPT-OSS-120B"), H100, name) for name in ("bf16", "fp8", "fp4")])
    assert len(set(native.expert_bytes)) == len(set(native.flop_per_second)) == 1


def test_narrow_products_reach_less_of_their_peak() -> None:
    k = decode.fitted().constants
    assert k.fp4 < 1 and k.fp8 < 1
    p = points(
        [Replica(shape("Qwen3-32B"), accelerator("B200"), name, sequences=64) for name in ("bf16", "fp8", "fp4")]
    )
    bf16, fp8, fp4 = decode.decode_parts(p, k, p.sequences).arithmetic
    peaks = p.flop_per_second / p.flop_per_second[0]
    assert bf16 / fp8 == pytest.approx(peaks[1] * k.fp8)
    assert bf16 / fp4 == pytest.approx(peaks[2] * k.fp4)


def test_apart_prefill_takes_accelerators_of_its_own() -> None:
    work = Serving(disaggregated=True, input_tokens=8192)
    answer = inference.replica(shape("Qwen3-32B"), work, H100, 4, LINKS, 32)
    assert answer.prefill_accelerators > 0
    longer = inference.replica(shape("Qwen3-32B"), work.model_copy(update={"input_tokens": 16384}), H100, 4, LINKS, 32)
    assert longer.prefill_accelerators > answer.prefill_accelerators


def test_little_traffic_is_given_little_that_prefills() -> None:
    full = Serving(disaggregated=True, input_tokens=2000, output_tokens=300)
    few = full.model_copy(update={"requests_per_second": 20.0})
    whole, part = (inference.best(shape("DeepSeek-V3"), work, H100, LINKS) for work in (full, few))
    assert part.tokens_per_second.mid >= 20 * 300
    assert part.accelerators + part.prefill_accelerators < (whole.accelerators + whole.prefill_accelerators) / 2


def test_joules_follow_watts() -> None:
    answer = inference.replica(shape("Qwen3-32B"), Serving(), H100, 8, LINKS, 64)
    joules = inference.joules_per_token(answer, Interval(6000, 5000, 7000))
    assert joules.mid == pytest.approx(6000 / answer.tokens_per_second.mid)
    assert joules.low < joules.mid < joules.high


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("deepseek-ai/DeepSeek-V3-0324", "DeepSeek-V3"),
        ("nvidia/DeepSeek-R1-0528-NVFP4-v2", "DeepSeek-V3"),
        ("deepseek-ai/DeepSeek-V3.2", "DeepSeek-V3.2"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "Mixtral-8x7B"),
        ("mixtral-8x22b", "Mixtral-8x22B"),
        ("llama2-70b-99.9", "Llama-2-70B"),
        ("deepseek-r1-interactive", "DeepSeek-V3"),
    ],
)
def test_what_publications_add_to_a_name_is_no_other_network(published: str, name: str) -> None:
    network, is_guessed = named(published)
    assert (network.name, is_guessed) == (name, False)


def test_networks_are_found_by_their_published_names_or_guessed_by_their_sizes() -> None:
    assert named("nvidia/Qwen3-32B-NVFP4")[0].name == "Qwen3-32B"
    network, is_guessed = named("Nobody/Thing-500B-A25B-FP8")
    assert is_guessed
    assert network.parameters == 500e9
    with pytest.raises(NotFound, match="catalogue"):
        guess("Mystery")
