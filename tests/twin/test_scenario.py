"""Power caps, demand response, maintenance and swings in simulated months."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError, NotFound
from bessemer.products.planning import play
from bessemer.twin import power, swings
from bessemer.twin.answer import with_part
from bessemer.twin.pace import Pace
from bessemer.twin.power import capped_ratio
from bessemer.twin.scenario import Cut, Scenario, Window, load_scenario
from bessemer.twin.scheduling import Policy
from bessemer.twin.simulate import simulate
from bessemer.twin.site import Nodes, Operations, Site, load_site
from bessemer.twin.traffic import Job, Service

QUIET = Operations(
    node_failures_per_day=0.0,
    small_job_ratio=0.0,
    straggler_ratio=0.0,
    maintenance_ratio=0.0,
    spare_ratio=0.0,
    restart_seconds=0.0,
)
PLACE = Site(name="quiet", nodes=(Nodes(accelerator="H100-SXM-80GB", count=10, accelerators=8),), operations=QUIET)
HOUR = 3600.0


@given(
    st.lists(st.floats(0.05, 1.0), min_size=1, max_size=30), st.floats(0.0, 1e5), st.floats(0.0, 1e5), st.floats(0, 1e5)
)
def test_time_and_work_are_each_other_s_inverse(speeds: list[float], start: float, work: float, more: float) -> None:
    pace = Pace(speeds)
    end = pace.until(start, work)
    assert pace.done(start, end) == pytest.approx(work, abs=1e-3)
    assert end >= start + work - 1e-6
    assert pace.done(start, end + more) == pytest.approx(pace.done(start, end) + pace.done(end, end + more), abs=1e-3)


def test_a_cut_of_power_slows_work_in_its_hours_and_no_others() -> None:
    cut = Cut(start_hour=6, hours=4, power_ratio=0.2)
    job = Job("job", 0.0, 80, 20 * HOUR)
    plain, cutting = (simulate(PLACE, [job], 2, 1, scenario=each) for each in (None, Scenario(cuts=(cut,))))
    lost = power.cut_cost_ratio(PLACE, 0.2)
    throttled = cutting.hours.states["throttled"]
    assert np.nonzero(throttled)[0].tolist() == [6, 7, 8, 9]
    assert throttled[6] == pytest.approx(80 * lost)
    assert cutting.hours.facility_watts[6:10] == pytest.approx(0.8 * plain.hours.facility_watts[6:10])
    assert cutting.hours.facility_watts[:6] == pytest.approx(plain.hours.facility_watts[:6])
    assert cutting.jobs[0].finished - plain.jobs[0].finished == pytest.approx(4 * HOUR * lost)
    work = 80 * 20.0
    assert cutting.hours.states["working"].sum() == pytest.approx(work)


def test_a_cap_slows_work_as_much_as_clocks_fall_and_draws_less() -> None:
    capped = with_part(PLACE, "power", cap_watts=400.0)
    assert 0.5 < capped_ratio(capped) < 1 == capped_ratio(PLACE)
    job = Job("job", 0.0, 80, 10 * HOUR)
    plain, slow = (simulate(each, [job], 1, 1) for each in (PLACE, capped))
    assert slow.jobs[0].finished == pytest.approx(plain.jobs[0].finished / capped_ratio(capped), rel=0.01)
    assert slow.hours.facility_watts[3] < 0.8 * plain.hours.facility_watts[3]
    with pytest.raises(ConfigError, match="idle"):
        simulate(with_part(PLACE, "power", cap_watts=10.0), [job], 1, 1)


def test_a_window_of_maintenance_takes_its_servers_and_jobs_lose_nothing() -> None:
    window = Window(start_hour=5, hours=3, servers_ratio=0.5)
    jobs = [Job(f"job-{number}", 0.0, 8, 12 * HOUR) for number in range(10)]
    found = simulate(PLACE, jobs, 2, 1, scenario=Scenario(windows=(window,)))
    out = found.hours.states["maintenance"]
    assert out[5:8] == pytest.approx([40, 40, 40])
    assert out.sum() == pytest.approx(120)
    assert sum(record.planned for record in found.jobs) == 5
    assert found.loss["lost"] == found.loss["preempted"] == 0
    assert found.hours.states["working"].sum() == pytest.approx(10 * 8 * 12.0)
    assert found.totals.finished == 10
    assert found.hours.facility_watts[6] < found.hours.facility_watts[4]


def test_a_cut_takes_answers_from_a_service_at_its_busiest_hour() -> None:
    service = Service("chat", 8, 10.0, 80.0, headroom_ratio=0.0)
    cut = Cut(start_hour=13, hours=4, every_days=1, power_ratio=0.3)
    plain, cutting = (simulate(PLACE, [service], 2, 1, scenario=each) for each in (None, Scenario(cuts=(cut,))))
    assert plain.totals.refused_requests < 0.01 * plain.totals.served_requests
    assert cutting.totals.refused_requests > 0.02 * cutting.totals.served_requests


@given(
    ratio=st.floats(0.05, 0.4),
    servers=st.floats(0.05, 1.0),
    seed=st.integers(0, 50),
    is_eager=st.booleans(),
)
def test_whatever_is_declared_all_accelerator_hours_are_accounted_for(
    ratio: float, servers: float, seed: int, is_eager: bool
) -> None:
    scenario = Scenario(
        policy=Policy(preempt=is_eager, order="fair"),
        load_ratio=1.2,
        cuts=(Cut(start_hour=3, hours=5, every_days=1, power_ratio=ratio),),
        windows=(Window(start_hour=10, hours=30, servers_ratio=servers), Window(start_hour=20, servers_ratio=servers)),
    )
    found = play(load_site("gb200-nvl72"), 4, seed, scenario)
    whole = sum(found.hours.states.values())
    assert whole == pytest.approx(np.full(96, 576.0))
    assert min(float(line.min()) for line in found.hours.states.values()) > -1e-6


def test_a_scenario_is_read_from_a_file_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "months.toml"
    file.write_text(
        'load_ratio = 0.9\n[policy]\norder = "fair"\n[[cuts]]\nstart_hour = 17\nhours = 3\nevery_days = 1\n'
    )
    found = load_scenario(file)
    assert (found.policy.order, found.cuts[0].hours, found.load_ratio) == ("fair", 3, 0.9)
    file.write_text("[[cuts]]\nstart = 17\n")
    with pytest.raises(ConfigError, match="start"):
        load_scenario(file)
    with pytest.raises(NotFound):
        load_scenario(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="more than boards can give"):
        simulate(PLACE, [], 1, 1, scenario=Scenario(cuts=(Cut(power_ratio=0.9),)))


def test_a_battery_smooths_the_swing_and_the_least_one_that_does_is_told() -> None:
    bare = swings.swing(PLACE)
    assert bare.grid_watts == pytest.approx(bare.drawn_watts) == pytest.approx(power.swing_watts(PLACE))
    enough = swings.swing(with_part(PLACE, "power", battery_joules=bare.enough_joules * 1.02))
    assert enough.grid_watts < 0.02 * bare.drawn_watts
    half = swings.swing(with_part(PLACE, "power", battery_joules=bare.enough_joules * 0.4))
    assert 0.05 * bare.drawn_watts < half.grid_watts <= bare.drawn_watts
    assert swings.swing(PLACE, 0.25).drawn_watts == pytest.approx(bare.drawn_watts / 4)
