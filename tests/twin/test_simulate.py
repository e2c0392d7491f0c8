"""Months of operation: what must balance, what must not change, and where theory knows the answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError, Unsupported
from bessemer.twin import hazards, operations
from bessemer.twin.interval import Interval
from bessemer.twin.scenario import Scenario
from bessemer.twin.scheduling import Floor, Policy, block_nodes
from bessemer.twin.shape import shape
from bessemer.twin.simulate import Simulation, across, as_csv, simulate
from bessemer.twin.site import Nodes, Operations, Site, Storage, load_site
from bessemer.twin.traffic import Job, Service, arrivals, training_job, usual, usual_service
from bessemer.twin.workload import Training

FAST = Storage(tier="parallel", write_bytes_per_second=2e11, read_bytes_per_second=2e11)
CALM = {
    "node_failures_per_day": 0.0,
    "maintenance_ratio": 0.0,
    "straggler_ratio": 0.0,
    "spare_ratio": 0.0,
    "restart_seconds": 0.0,
}
POLICIES = (
    Policy(),
    Policy(order="fair", preempt=True),
    Policy(backfill=False, packing="spread"),
    Policy(preempt=True, block_nodes=7),
)


def site(accelerators: int, **values: object) -> Site:
    nodes = Nodes(accelerator="H100-SXM-80GB", count=accelerators // 8, accelerators=8)
    return Site(name="test", nodes=(nodes,), storage=FAST, operations=Operations.model_validate(values))


def closes(result: Simulation, accelerators: int) -> None:
    sums = sum(result.hours.states.values())
    assert np.allclose(np.asarray(sums), accelerators, rtol=1e-9, atol=1e-6)
    assert all((line > -1e-6).all() for line in result.hours.states.values())
    useful = result.totals.useful_ratio * result.totals.accelerator_hours
    assert useful + sum(result.loss.values()) == pytest.approx(result.totals.accelerator_hours, rel=1e-9)
    assert float(result.hours.facility_watts.sum()) * 3600 == pytest.approx(result.totals.facility_joules)
    assert (result.hours.facility_watts >= result.hours.it_watts).all()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_all_accelerator_hours_are_accounted_for(policy: Policy, seed: int) -> None:
    place = site(1024, node_failures_per_day=0.2, spare_ratio=0.01)  # often, and spares run out
    service = Service("chat", 4, 10.0, 300.0)
    big = Service("large", 32, 10.0, 60.0)
    result = simulate(place, [*usual(place, 10, seed, 1.2), service, big], 10, seed, scenario=Scenario(policy=policy))
    closes(result, 1024)
    assert result.totals.interruptions > 100
    assert result.loss["repair"] > 0


def test_one_server_goes_through_all_of_it() -> None:
    place = site(8, node_failures_per_day=1.0, repair_seconds=3600.0)
    jobs = [Job("train", 0.0, 8, 5 * 86400.0, 1e10), Job("small", 10.0, 1, 3600.0)]
    result = simulate(place, jobs, 10, 3)
    closes(result, 8)
    assert result.jobs[0].failures > 1
    assert result.loss["repair"] > 0


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    place = site(512)
    first, again, other = (simulate(place, usual(place, 5, 1), 5, seed) for seed in (7, 7, 8))
    for state, line in first.hours.states.items():
        assert (line == again.hours.states[state]).all()
    assert first.totals == again.totals
    assert first.jobs == again.jobs
    assert first.totals != other.totals


def test_without_failures_all_that_is_asked_is_done() -> None:
    place = site(512, **CALM)
    jobs = [Job(f"job-{number}", 3600.0 * number, 256, 86400.0) for number in range(10)]
    result = simulate(place, jobs, 30, 1, scenario=Scenario(policy=Policy(crossing_ratio=0.0)))
    assert result.totals.finished == 10
    assert result.totals.useful_ratio * result.totals.accelerator_hours == pytest.approx(10 * 256 * 24, rel=1e-9)
    assert {cause for cause, hours in result.loss.items() if hours > 1e-6} == {"idle"}
    assert result.totals.interruptions == 0


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("rate", [6.5e-3, 5e-2])
def test_what_is_played_agrees_with_the_closed_form(background: bool, rate: float) -> None:
    place = site(
        4096,
        node_failures_per_day=rate,
        maintenance_ratio=0.0,
        spare_ratio=0.5,  # enough
        background_checkpoints=background,
    )
    accelerators, size = 2048, 2048 * 1e9
    result = simulate(place, [Job("train", 0.0, accelerators, 1e9, size)], 400, 5)
    expected = operations.goodput(place, accelerators, size)
    record = result.jobs[0]
    error = 4 / np.sqrt(record.failures) * (1 - expected.effective_ratio.mid)
    assert result.totals.goodput_ratio == pytest.approx(expected.goodput_ratio, abs=error + 1e-3)
    assert record.failures == pytest.approx(400 * expected.interruptions_per_day.mid, rel=4 / np.sqrt(record.failures))
    assert sum(result.causes.values()) == record.failures


def test_fifty_four_days_of_a_published_run() -> None:
    """Llama 3 405B, arXiv:2407.21783: 419 unexpected and 47 planned interruptions; over 90 % of the time trains."""
    rate = hazards.node_failures_per_day(leaving="Llama 3 405B").mid  # not its own
    place = site(24_000, node_failures_per_day=rate)
    result = simulate(place, [Job("Llama 3", 0.0, 16_384, 1e9, 5.7e12)], 54, 1)
    record = result.jobs[0]
    assert record.failures == pytest.approx(419, rel=0.35)
    assert record.planned == pytest.approx(47, rel=0.35)
    straggling = 1 - place.operations.straggler_ratio
    assert result.totals.goodput_ratio / straggling == pytest.approx(0.9, abs=0.03)


def test_spares_run_out_as_often_as_theory_says() -> None:
    values = {"node_failures_per_day": 0.02, "spare_ratio": 0.04, "maintenance_ratio": 0.0, "small_job_ratio": 0.0}
    place = site(4096, **values)
    accelerators = 4096 - 8 * round(0.04 * 512)
    result = simulate(place, [Job("train", 0.0, accelerators, 1e9, 1e12)], 400, 1)
    expected = operations.goodput(place, accelerators, 1e12)
    waited = result.loss["idle"] / (accelerators * 400 * 24)
    assert 0.02 < expected.loss["no spare"] < 0.05
    assert waited == pytest.approx(expected.loss["no spare"], rel=0.4)
    working = result.totals.useful_ratio * 4096 / accelerators
    assert working == pytest.approx(expected.goodput_ratio, abs=0.02)


def test_short_jobs_pass_one_that_waits_and_do_not_delay_it() -> None:
    place = site(64, **CALM)
    jobs = [
        Job("first", 0.0, 48, 36000.0),
        Job("large", 60.0, 64, 3600.0),
        Job("short", 120.0, 16, 3600.0),
        Job("long", 180.0, 16, 90000.0),
    ]
    exact = {"estimate_ratio": 1.0, "crossing_ratio": 0.0}
    filled = simulate(place, jobs, 3, 1, scenario=Scenario(policy=Policy(**exact)))
    plain = simulate(place, jobs, 3, 1, scenario=Scenario(policy=Policy(backfill=False, **exact)))
    assert filled.jobs[2].started < 1000 < plain.jobs[2].started
    assert filled.jobs[1].started <= plain.jobs[1].started + 120
    assert filled.jobs[3].started > filled.jobs[1].started


def test_an_urgent_job_stops_others_where_that_is_allowed() -> None:
    place = site(64, **CALM)
    jobs = [Job("first", 0.0, 64, 36000.0, 1e12), Job("urgent", 7200.0, 32, 3600.0, priority=5)]
    allowed = simulate(place, jobs, 2, 1, scenario=Scenario(policy=Policy(preempt=True)))
    assert allowed.jobs[1].waited < 120
    assert allowed.jobs[0].preemptions == 1
    assert allowed.totals.finished == 2
    assert simulate(place, jobs, 2, 1).jobs[1].waited > 20000


def test_who_used_little_goes_first_under_fair_shares() -> None:
    place = site(64, **CALM)
    jobs = [Job(f"a-{n}", 1.0 * n, 64, 7200.0, owner="greedy") for n in range(10)]
    jobs.append(Job("b", 100.0, 64, 7200.0, owner="modest"))
    fair = simulate(place, jobs, 3, 1, scenario=Scenario(policy=Policy(order="fair")))
    fifo = simulate(place, jobs, 3, 1)
    found = {
        name: next(r for r in each.jobs if r.job.name == "b").started for name, each in (("fair", fair), ("fifo", fifo))
    }
    assert found["fair"] < 5 * 3600 < found["fifo"]


def test_packing_crosses_fewer_blocks() -> None:
    for packed, parts in ((True, 1), (False, 8)):
        floor = Floor(256, 32, packed)
        place = floor.take(8)
        assert place is not None
        assert len(place) == parts
        assert floor.crosses(place) is not packed
        floor.give(place)
        assert floor.free == 256
        assert floor.take(257) is None


def test_blocks_are_those_of_the_site() -> None:
    rack = Nodes(accelerator="GB200", count=36, accelerators=4, scaleup=72)
    assert block_nodes(Site(name="racks", nodes=(rack,))) == 18
    assert block_nodes(site(512)) == 32


def test_services_follow_their_traffic() -> None:
    place = site(1024, **CALM)
    chat = Service("chat", 8, 10.0, 500.0, daily_swing_ratio=0.8)
    result = simulate(place, [chat], 7, 1)
    line = result.hours.states["serving"]
    assert line[15] > 3 * line[3]
    assert result.totals.refused_requests == 0
    asked = chat.requests_per_second(np.arange(168.0)).sum() * 3600
    assert result.totals.served_requests == pytest.approx(asked)
    little = simulate(site(64, **CALM), [chat], 7, 1)
    assert little.totals.refused_requests + little.totals.served_requests == pytest.approx(asked)
    assert little.totals.refused_requests > 0


def test_a_site_that_was_at_work_before_is_as_busy_at_the_start_as_later() -> None:
    place, first, last = load_site("superpod-h100-127"), slice(12, 7 * 24), slice(21 * 24, None)
    cold, warm = (
        sum(
            simulate(place, usual(place, 28, seed, 0.5, is_warm=is_warm), 28, seed).hours.states["working"] / 24 / 1016
            for seed in range(24)
        )
        for is_warm in (False, True)
    )
    assert cold[first].mean() < 0.6 * cold[last].mean()
    assert warm[first].mean() == pytest.approx(warm[last].mean(), rel=0.2)
    assert warm.mean() == pytest.approx(0.5, abs=0.06)


def test_a_service_takes_its_share_of_a_small_site() -> None:
    for name, most in (("dgx-h100", 1), ("gb200-nvl72", 58), ("superpod-h100-127", 102)):
        service = usual_service(load_site(name))
        held = int(service.replicas(np.arange(168.0)).max()) * service.replica_accelerators
        assert 0 < held <= most


def test_jobs_that_can_never_start_say_why() -> None:
    result = simulate(site(64), [Job("too large", 0.0, 4096, 3600.0)], 1, 1)
    assert "4096" in result.jobs[0].reason
    assert result.totals.unfinished == 1


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="whole hour"):
        simulate(site(64), [], 0.01, 1)
    with pytest.raises(Unsupported, match="no accelerators"):
        simulate(Site(name="laptop"), [], 1, 1)


def test_jobs_come_as_often_as_asked_and_ask_for_the_load() -> None:
    times = arrivals(100.0, 70.0, np.random.default_rng(1))
    assert len(times) == pytest.approx(7000, rel=0.05)
    by_hour = np.bincount((times % 86400 // 3600).astype(int), minlength=24)
    assert by_hour[15] > 1.5 * by_hour[3]
    place = site(8192)
    jobs = usual(place, 30, 1, load_ratio=0.7)
    asked = sum(job.accelerators * job.work_seconds for job in jobs)
    assert asked == pytest.approx(0.7 * 8192 * 30 * 86400)
    assert usual(place, 30, 1) == usual(place, 30, 1)


@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=20),
    hours=st.floats(0.1, 60.0),
    rate=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
    is_eager=st.booleans(),
)
@settings(max_examples=30)
def test_whatever_comes_nothing_is_lost(sizes: list[int], hours: float, rate: float, seed: int, is_eager: bool) -> None:
    place = site(160, node_failures_per_day=rate, spare_ratio=0.05)
    jobs = [Job(f"{n}", 900.0 * n, size, 3600 * hours, 1e11, f"{n % 3}", n % 2) for n, size in enumerate(sizes)]
    policy = Policy(preempt=is_eager, order="fair" if is_eager else "fifo", block_nodes=4)
    result = simulate(place, [*jobs, Service("chat", 2, 5.0, 40.0)], 3, seed, scenario=Scenario(policy=policy))
    closes(result, 160)
    for record in result.jobs:
        assert 0 <= record.done <= record.job.work_seconds
        assert record.waited >= -1e-9
        if record.finished >= 0:
            assert record.finished - record.job.submit_seconds >= record.job.work_seconds + record.waited - 1e-6


def test_a_declared_training_is_a_job() -> None:
    work = Training(model="Llama-3.1-8B", tokens=1e10, sequence_tokens=8192, batch_sequences=128)
    job = training_job("run", work, shape("Llama-3.1-8B"), 64, 2.0)
    assert job.work_seconds == pytest.approx(1e10 / (8192 * 128) * 2.0, rel=1e-3)
    result = simulate(site(64, **CALM), [job], 1, 1)
    assert result.jobs[0].finished == pytest.approx(job.work_seconds, abs=120)


def test_several_seeds_give_intervals_and_time_lines_can_go_on() -> None:
    place = site(256)
    work = [*usual(place, 5, 1), usual_service(place)]
    found = [simulate(place, work, 5, seed) for seed in range(4)]
    assert found[0].totals.useful_ratio in Interval(0.0, 0.0, 1.0)
    spread = across(found)["useful_ratio"]
    assert spread.low <= spread.mid <= spread.high
    lines = as_csv(found[0]).splitlines()
    assert len(lines) == 5 * 24 + 1
    assert lines[0].startswith("hour,working,throttled,serving")
