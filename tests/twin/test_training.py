"""The step-time model keeps to physics: rooflines, limits, and what must grow grows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import Unsupported
from bessemer.twin import layout, steptime, training
from bessemer.twin.accelerators import Accelerator, accelerator, accelerators
from bessemer.twin.memory import state_bytes
from bessemer.twin.shape import Shape, shape, shapes
from bessemer.twin.training_rows import UsualLinks, usual_links
from bessemer.twin.workload import Layout, Training

H100 = accelerator("H100")
LINKS = usual_links(H100)
LLAMA = shape("Llama-3.1-70B")
JOB = Training(model=LLAMA.name, sequence_tokens=4096, batch_sequences=512)
CUT = Layout(tensor=8, pipeline=4, data=16, virtual=4, micro_batch=1)
ENDLESS = UsualLinks(2**20, 1e18, 1e18, 0.0, 0.0)


def seconds(
    network: Shape = LLAMA,
    job: Training = JOB,
    cut: Layout = CUT,
    device: Accelerator = H100,
    links: training.LinkRates = LINKS,
) -> float:
    return training.step(network, job, cut, device, links).seconds


@pytest.mark.parametrize("name", sorted(accelerators()))
@pytest.mark.parametrize("precision", ["bf16", "fp8", "fp4"])
@pytest.mark.parametrize("network", ["Llama-3.1-8B", "Llama-3.1-405B", "DeepSeek-V3"])
def test_nothing_beats_its_roofline(name: str, precision: str, network: str) -> None:
    device, model = accelerator(name), shape(network)
    job = Training(model=network, batch_sequences=512, precision=precision)  # type: ignore[arg-type]
    cut = Layout(data=16, micro_batch=4)
    for stack in training.fitted().stacks:
        step = training.step(model, job, cut, device, ENDLESS, stack)
        assert step.flop / step.seconds <= device.flop_per_second(precision) * cut.accelerators


@pytest.mark.parametrize("rate", ["memory_bytes_per_second", "bf16_flop_per_second"])
def test_a_faster_accelerator_takes_less_time(rate: str) -> None:
    assert seconds(device=replace(H100, **{rate: getattr(H100, rate) * 2})) < seconds()


@pytest.mark.parametrize("rate", ["scaleup_bytes_per_second", "scaleout_bytes_per_second"])
def test_faster_links_take_less_time(rate: str) -> None:
    assert seconds(links=replace(LINKS, **{rate: getattr(LINKS, rate) * 2})) < seconds()


def test_software_from_before_fused_kernels_hides_no_exchange_of_tensor_ways() -> None:
    slow = replace(LINKS, scaleup_bytes_per_second=LINKS.scaleup_bytes_per_second / 2)
    job = Training(model=LLAMA.name, sequence_tokens=4096, batch_sequences=64)
    cut = Layout(tensor=8, data=1, micro_batch=1)
    whole = 80 * 64 * 2 * 2 * 2 * (7 / 8) * 4096 * 8192 * 2 / LINKS.scaleup_bytes_per_second  # forward and backward
    share = training.fitted().constants.up
    for stack, least in (("megatron-a100", 0.99), ("megatron-core", 0.0)):
        fast, late = (training.step(LLAMA, job, cut, H100, links, stack).seconds for links in (LINKS, slow))
        assert (late - fast) * share > least * whole
    assert (late - fast) * share < whole


def test_an_endless_network_leaves_computing_bubble_and_launches() -> None:
    step = training.step(LLAMA, JOB, CUT, H100, ENDLESS)
    assert step.communication_seconds < 1e-6 * step.seconds
    micro_batches = JOB.batch_sequences / CUT.data / CUT.micro_batch
    per_micro_batch = step.bubble_seconds / ((CUT.pipeline - 1) / CUT.virtual)
    assert per_micro_batch * micro_batches <= (step.compute_seconds + step.other_seconds) * 1.0001
    alone = training.step(LLAMA, JOB, Layout(tensor=8, data=64), H100, ENDLESS)
    assert alone.bubble_seconds == 0


def test_time_is_the_sum_of_its_parts() -> None:
    step = training.step(LLAMA, JOB, CUT, H100, LINKS)
    parts = (step.compute_seconds, step.communication_seconds, step.bubble_seconds, step.other_seconds)
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(step.seconds)
    assert step.interval.low < step.seconds < step.interval.high


def test_twice_the_batch_takes_nearly_twice_as_long() -> None:
    double = seconds(job=JOB.model_copy(update={"batch_sequences": 1024}))
    assert 1.7 * seconds() < double < 2 * seconds()


def test_recomputing_takes_time_and_gives_memory() -> None:
    once = training.step(LLAMA, JOB, CUT, H100, LINKS)
    again = training.step(LLAMA, JOB, CUT.model_copy(update={"recompute": "full"}), H100, LINKS)
    assert again.seconds > once.seconds
    assert again.memory_bytes < once.memory_bytes


def test_an_adapter_takes_less_time_and_memory_than_all_weights() -> None:
    whole = training.step(LLAMA, JOB, CUT, H100, LINKS)
    adapter = training.step(LLAMA, JOB.model_copy(update={"method": "lora"}), CUT, H100, LINKS)
    assert adapter.seconds < whole.seconds
    assert adapter.memory_bytes < whole.memory_bytes


def test_learning_from_its_own_answers_takes_longer_and_an_embedding_needs_no_vocabulary() -> None:
    def of(method: str) -> float:
        return seconds(job=JOB.model_copy(update={"method": method}))

    assert of("rl") > of("pretrain") == of("finetune")
    assert of("embed") < of("pretrain")


def test_learning_from_its_own_answers_is_as_unsure_as_what_was_published() -> None:
    plain, rl = (
        training.step(LLAMA, JOB.model_copy(update={"method": each}), CUT, H100, LINKS) for each in ("pretrain", "rl")
    )
    assert rl.interval.low < 2 * plain.seconds and rl.interval.high > 10 * plain.seconds
    assert plain.interval == training.spread(plain.seconds, plain.relative_error)


def test_experts_cost_less_time_than_a_dense_network_of_all_weights_and_need_traffic() -> None:
    model, cut = shape("Qwen3-30B-A3B"), Layout(data=64, expert=8)
    job = Training(model=model.name, batch_sequences=512)
    mixture = training.step(model, job, cut, H100, LINKS)
    active = replace(model, experts=0, experts_active=0, parameters=3.3e9, ffn=768 * 8)
    dense = training.step(active, job, cut.model_copy(update={"expert": 1}), H100, LINKS)
    assert mixture.seconds > dense.seconds
    assert mixture.communication_seconds > dense.communication_seconds
    whole = replace(active, parameters=30.5e9, active_parameters=30.5e9, ffn=768 * 128)
    assert mixture.seconds < training.step(whole, job, cut, H100, LINKS).seconds


def test_memory_grows_with_the_micro_batch_and_falls_with_sharding() -> None:
    def needed(**change: object) -> float:
        return training.step(LLAMA, JOB, CUT.model_copy(update=change), H100, LINKS).memory_bytes

    assert needed(micro_batch=1) < needed(micro_batch=2) < needed(micro_batch=4)
    assert needed(sharded="optimizer") < needed(sharded="none")


def test_unsharded_states_take_eighteen_bytes_a_parameter() -> None:
    tiny = shape("SmolLM2-135M")
    cut = training.cut(Training(), Layout(sharded="none"))
    net = steptime.net(tiny)
    dense, _ = steptime.held(net, cut)
    assert float(memory(net, cut)) == pytest.approx(18 * float(dense))


def memory(net: steptime.Net, cut: steptime.Cut) -> steptime.Numbers:
    return state_bytes(net, cut)


@pytest.mark.parametrize("name", sorted(shapes()))
def test_a_network_in_parts_has_the_weights_that_its_catalogue_says(name: str) -> None:
    network = shape(name)
    net = steptime.net(network)
    tables = network.vocabulary * network.hidden
    total = float(net.dense + net.expert)
    assert 0.75 * network.parameters < total + tables < 1.3 * network.parameters


def test_many_layouts_are_timed_as_one_by_one() -> None:
    cuts = layout.candidates(LLAMA, JOB, 512, LINKS)
    assert cuts is not None
    together = training.steps(LLAMA, JOB, cuts, H100, LINKS)
    best = layout.search(LLAMA, JOB, H100, 512, LINKS)[0]
    alone = training.step(LLAMA, JOB, best.layout, H100, LINKS)
    assert alone.seconds == pytest.approx(best.step.seconds)
    assert alone.memory_bytes == pytest.approx(best.step.memory_bytes)
    fits = np.asarray(together.memory_bytes) <= H100.memory_bytes
    assert np.min(np.asarray(together.parts.seconds)[fits]) == pytest.approx(best.step.seconds)


def test_the_best_layouts_come_first_fit_and_use_all() -> None:
    found = layout.search(LLAMA, JOB, H100, 512, LINKS)
    times = [each.step.seconds for each in found]
    assert times == sorted(times)
    assert all(each.layout.accelerators == 512 for each in found)
    assert all(each.step.memory_bytes <= H100.memory_bytes for each in found)


@pytest.mark.parametrize("name", ["Llama-3.1-70B", "Llama-3.1-405B", "DeepSeek-V3", "Llama-3.1-8B"])
def test_what_cannot_fit_says_the_least_change(name: str) -> None:
    network, job = shape(name), JOB.model_copy(update={"model": name})
    with pytest.raises(Unsupported) as refused:
        layout.search(network, job, H100, 1, LINKS)
    hint = refused.value.hint.split("change: ")[1]
    more, gigabytes = int(hint.split(" ")[0].replace(",", "")), float(hint.split(" or ")[1].split(" ")[0])
    assert layout.search(network, job, H100, more, LINKS)
    for fewer in range(max(1, more - 16), more):
        with pytest.raises(Unsupported):
            layout.search(network, job, H100, fewer, LINKS)
    larger = replace(H100, memory_bytes=gigabytes * 1e9)
    assert layout.search(network, job, larger, 1, LINKS)


def test_the_fastest_number_of_accelerators_is_no_slower_than_any() -> None:
    job = JOB.model_copy(update={"batch_sequences": 96})
    best = layout.fastest(LLAMA, job, H100, 130, LINKS)
    times = [each.step.seconds for each in best]
    assert times == sorted(times)
    assert len({each.layout.accelerators for each in best}) == len(best)
    for count in range(64, 131):
        try:
            one = layout.search(LLAMA, job, H100, count, LINKS)[0]
        except Unsupported:
            continue
        assert times[0] <= one.step.seconds


def test_a_batch_smaller_than_the_machine_is_refused() -> None:
    with pytest.raises(Unsupported, match="batch of 1 "):
        layout.search(LLAMA, JOB.model_copy(update={"batch_sequences": 1}), H100, 7 * 8192, LINKS)


def test_an_anchored_run_keeps_its_own_error_out_of_the_larger_one() -> None:
    here = training.step(LLAMA, JOB, CUT, H100, LINKS)
    double = CUT.model_copy(update={"data": 32})
    there = training.step(LLAMA, JOB, double, H100, LINKS)
    predicted = training.anchored(2 * here.seconds, here, there)
    assert predicted.mid == pytest.approx(2 * there.seconds)
    assert predicted.high / predicted.mid < there.interval.high / there.interval.mid


@given(
    over=st.lists(st.sampled_from([1.0, 1.5, 2.0, 3.0, 7.0]), min_size=2, max_size=2),
    cut=st.sampled_from([CUT, Layout(data=512, sharded="weights"), Layout(tensor=4, context=2, data=32)]),
    pod=st.sampled_from([8.0, 64.0, 256.0]),
)
def test_more_oversubscription_is_never_faster(over: list[float], cut: Layout, pod: float) -> None:
    few, many = (
        seconds(cut=cut, links=replace(LINKS, oversubscription=each, pod_accelerators=pod)) for each in sorted(over)
    )
    assert few <= many


def test_only_what_crosses_the_tier_gets_less_of_it() -> None:
    plain, ring = seconds(), Layout(data=512, sharded="weights")
    assert seconds(links=replace(LINKS, oversubscription=1.0, pod_accelerators=8.0)) == plain
    assert seconds(links=replace(LINKS, oversubscription=4.0, pod_accelerators=512.0)) == plain
    assert seconds(links=replace(LINKS, oversubscription=4.0, pod_accelerators=64.0)) > plain
    whole, narrow = (
        seconds(cut=ring),
        seconds(cut=ring, links=replace(LINKS, oversubscription=4.0, pod_accelerators=64.0)),
    )
    assert whole < narrow <= 4 * whole
    mixture, experts = shape("DeepSeek-V3"), Layout(pipeline=16, data=32, expert=32)
    job = Training(model=mixture.name, batch_sequences=512)
    tiers = [replace(LINKS, oversubscription=4.0, pod_accelerators=pod) for pod in (512.0, 16.0)]
    below, across = (training.step(mixture, job, experts, H100, links).communication_seconds for links in tiers)
    assert below < across
