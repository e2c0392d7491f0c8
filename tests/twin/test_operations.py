"""Failures, checkpoints and goodput in closed form, against published numbers and limits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import Unsupported
from bessemer.twin import hazards, operations
from bessemer.twin.site import Nodes, Operations, Site, Storage, load_site

FAST = Storage(tier="parallel", write_bytes_per_second=2e12, read_bytes_per_second=2e12)


def site(accelerators: int, **values: float) -> Site:
    nodes = Nodes(accelerator="H100-SXM-80GB", count=accelerators // 8, accelerators=8)
    return Site(name="test", nodes=(nodes,), storage=FAST, operations=Operations.model_validate(values))


@pytest.mark.parametrize(("accelerators", "hours"), [(8, 1144.8), (1024, 7.9), (16384, 1.80), (131072, 0.23)])
def test_mean_time_to_failure_is_that_of_a_measured_cluster(accelerators: int, hours: float) -> None:
    known = Operations(node_failures_per_day=6.5e-3)  # RSC-1, arXiv:2410.21680
    assert hazards.mttf_hours(known, accelerators / 8) == pytest.approx(hours, rel=0.05)


def test_interruptions_of_a_system_nobody_measured() -> None:
    rate = hazards.node_failures_per_day(leaving="Llama 3 405B").mid
    assert rate * 2048 * 54 == pytest.approx(419, rel=0.35)


def test_effective_training_time_is_near_what_was_published() -> None:
    for system, accelerators, published in (("Llama 3 405B", 16384, 0.90), ("", 9600, 0.97)):
        rate = hazards.node_failures_per_day(leaving=system).mid
        found = operations.goodput(site(accelerators, node_failures_per_day=rate), accelerators, 5.7e12, 5.0)
        assert found.effective_ratio.mid == pytest.approx(published, abs=0.03)
        assert published in found.effective_ratio


@pytest.mark.parametrize(("stall", "published"), [(600.0, 0.44), (180.0, 0.80)])
def test_a_hundred_thousand_accelerators_stand_still_as_long_as_was_published(stall: float, published: float) -> None:
    halves = {"detect_seconds": stall / 4, "restart_seconds": stall * 3 / 4}  # arXiv:2602.00277, abstract
    found = operations.goodput(site(100_000, node_failures_per_day=6.5e-3, **halves), 100_000, 28e12, 10.0)
    assert found.effective_ratio.mid == pytest.approx(published, abs=0.1)
    assert published in found.effective_ratio


@pytest.mark.parametrize(
    ("name", "accelerators", "least"),
    [("colossus", 16384, 0.9), ("campus-1gw", 65536, 0.8), ("oci-131072", 32768, 0.8)],
)
def test_the_largest_jobs_of_large_sites_train_as_long_as_such_jobs_do(
    name: str, accelerators: int, least: float
) -> None:
    # Llama 3 on 16,384: over 90 % (arXiv:2407.21783); O(100,000) with replicas as units: 80 % (arXiv:2602.00277).
    found = operations.goodput(load_site(name), accelerators, accelerators * 1e10)
    assert least <= found.effective_ratio.mid <= 0.97


def optimum(rate: float, stall: float) -> float:
    """Where the slope of `training_ratio` is zero: (1 - rate t) exp(rate (t + stall)) = 1."""
    low, high = 0.0, 1 / rate
    for _ in range(100):
        middle = (low + high) / 2
        is_before = math.log1p(-rate * middle) + rate * (middle + stall) > 0
        low, high = (middle, high) if is_before else (low, middle)
    return low


@given(
    rate=st.floats(1e-7, 1e-3),
    stall=st.floats(0.1, 600.0),
    recovery=st.floats(0.0, 3000.0),
)
def test_the_best_interval_is_the_known_optimum(rate: float, stall: float, recovery: float) -> None:
    def ratio(interval: float) -> float:
        return operations.training_ratio(rate, interval, stall, recovery)

    best = operations.best_interval(ratio, 1.0, 10 / rate)
    exact = optimum(rate, stall)
    assert ratio(best) == pytest.approx(ratio(exact), rel=1e-9)
    assert best == pytest.approx(exact, rel=1e-3) or exact < 1.0
    if rate * stall < 0.01:
        assert operations.daly_seconds(stall, 1 / rate) == pytest.approx(exact, rel=0.02)


@given(rate=st.floats(1e-9, 2e-6), interval=st.floats(60.0, 4000.0), stall=st.floats(0.0, 60.0))
def test_where_losses_are_small_metas_formula_is_right(rate: float, interval: float, stall: float) -> None:
    # Kokolis et al. 2025, arXiv:2410.21680: expected effective training time ratio with no queue.
    first_order = (1 - rate * (600.0 + interval / 2)) / (1 + stall / interval)
    assert operations.training_ratio(rate, interval, stall, 600.0) == pytest.approx(first_order, abs=2e-3)


def test_with_the_servers_failures_alone_it_is_what_meta_published() -> None:
    # arXiv:2410.21680: 6.5e-3 failures per server and day, hourly checkpoints of 5 minutes, 0.9 on 1,024 accelerators.
    place = site(1024, node_failures_per_day=6.5e-3, small_job_ratio=0.0, spare_ratio=0.5)
    habit = operations.Checkpoints(3600.0, 300.0, 0.0, 0.0)
    assert operations.goodput(place, 1024, 1e12, 5.0, habit).effective_ratio.mid == pytest.approx(0.9, abs=0.01)


def test_known_checkpoints_are_kept_to() -> None:
    habit = operations.Checkpoints(3600.0, 300.0, 0.0, 0.0)
    known, best = (operations.goodput(site(1024), 1024, 1e12, 5.0, each) for each in (habit, None))
    assert known.checkpoint_interval_seconds == 3600.0
    assert known.loss["checkpoints"] == pytest.approx(known.effective_ratio.mid * 300 / 3600)
    assert known.effective_ratio.mid < best.effective_ratio.mid


@given(
    count=st.integers(1, 16384),
    rate=st.floats(0.0, 0.05),
    size=st.floats(1e9, 1e13),
    step=st.sampled_from([0.0, 0.5, 7.0, 100.0]),
)
def test_useful_time_and_losses_are_all_the_time(count: int, rate: float, size: float, step: float) -> None:
    found = operations.goodput(site(8 * count, node_failures_per_day=rate), 8 * count, size, step)
    assert found.goodput_ratio + sum(found.loss.values()) == pytest.approx(1.0, abs=1e-9)
    assert all(share >= 0 for share in found.loss.values())
    assert found.effective_ratio.low <= found.effective_ratio.mid <= found.effective_ratio.high


def test_more_servers_more_failures_less_goodput() -> None:
    sizes = [8 * 4**power for power in range(8)]
    found = [operations.goodput(site(131072), size, size * 1e9, 5.0) for size in sizes]
    ratios = [each.effective_ratio.mid for each in found]
    assert ratios == sorted(ratios, reverse=True)


def test_without_failures_only_checkpoints_and_stragglers_cost() -> None:
    calm = {"node_failures_per_day": 0.0, "maintenance_ratio": 0.0, "straggler_ratio": 0.0}
    found = operations.goodput(site(1024, **calm), 1024, 1e12)
    assert found.effective_ratio.mid == pytest.approx(1.0, abs=1e-5)
    assert math.isinf(found.mttf_hours.mid)
    assert found.interruptions_per_day.mid == 0


def test_components_sum_to_the_whole() -> None:
    assert sum(hazard.share_ratio for hazard in hazards.hazards()) == pytest.approx(1.0)
    found = operations.goodput(site(16384), 16384, 5.7e12, 5.0)
    planned = hazards.planned_per_day(site(16384).operations, 2048)
    assert sum(found.failures_per_day.values()) == pytest.approx(found.interruptions_per_day.mid - planned)
    assert hazards.hazards()[0].part == "accelerator"
    assert hazards.hazards()[0].unit_mttf_hours > 20_000


def test_a_job_larger_than_the_site_is_refused() -> None:
    with pytest.raises(Unsupported, match="does not fit"):
        operations.goodput(site(64), 128, 1e12, 5.0)
    with pytest.raises(Unsupported, match="no accelerators"):
        operations.goodput(Site(name="laptop"), 1, 1e9, 1.0)
