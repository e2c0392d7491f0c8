"""Replicas fail with their servers, spares help, and no more is answered than is asked."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import Unsupported
from bessemer.twin.answer import Plan, with_part
from bessemer.twin.availability import ENOUGH, enough_ratio, replica_ratio, shortfall, spare_replicas
from bessemer.twin.plan import plan
from bessemer.twin.site import Site, load_site
from bessemer.twin.workload import Serving

TODAY = date(2026, 11, 23)
WORK = Serving(model="Llama-3.1-70B", precision="fp8", requests_per_second=50.0)


@pytest.fixture(scope="module")
def pod() -> Site:
    return load_site("superpod-h100-127")


def planned(site: Site, work: Serving = WORK) -> Plan:
    return plan(site, work, TODAY, tries=False)


@given(mean=st.floats(0.01, 500.0), spares=st.integers(0, 600))
def test_what_is_missing_is_the_mean_of_what_chance_draws(mean: float, spares: int) -> None:
    drawn = np.random.default_rng(1).poisson(mean, 20_000)
    expected = np.maximum(drawn - spares, 0).mean()
    assert shortfall(mean, spares) == pytest.approx(expected, rel=0.05, abs=0.1 + 0.01 * mean)


@given(needed=st.integers(1, 60), more=st.integers(0, 10), up=st.floats(0.5, 0.9999))
def test_enough_replicas_are_up_as_often_as_chance_draws(needed: int, more: int, up: float) -> None:
    drawn = np.random.default_rng(1).binomial(needed + more, up, 20_000)
    assert enough_ratio(needed, needed + more, up) == pytest.approx((drawn >= needed).mean(), abs=0.02)
    spares = spare_replicas(needed, needed + 200, up)
    assert enough_ratio(needed, needed + spares, up) >= ENOUGH
    assert spares == 0 or enough_ratio(needed, needed + spares - 1, up) < ENOUGH


def test_failures_take_replicas_down_and_spare_servers_bring_them_back(pod: Site) -> None:
    calm = with_part(pod, "operations", node_failures_per_day=0.0, maintenance_ratio=0.0)
    assert replica_ratio(calm, 1, 100, 127, 60.0).mid == 1.0
    ratios = [replica_ratio(pod, 1, whole, 127, 60.0).mid for whole in (100, 120, 127)]
    assert ratios == sorted(ratios, reverse=True) and ratios[0] > ratios[2]
    assert replica_ratio(pod, 4, 100, 127, 60.0).mid < ratios[0]
    assert replica_ratio(pod, 1, 100, 127, 36000.0).mid < ratios[0]
    found = replica_ratio(pod, 1, 100, 127, 60.0)
    assert found.low < found.mid < found.high <= 1


def test_more_failures_take_more_replicas_and_cost_more(pod: Site) -> None:
    sick = with_part(pod, "operations", node_failures_per_day=0.5, repair_seconds=3600.0)
    well, ill = planned(pod).answer, planned(sick).answer
    assert 0 < ill["up_ratio"].mid < well["up_ratio"].mid < 1
    assert ill["spare_replicas"].mid > well["spare_replicas"].mid
    assert ill["replicas"].mid - ill["spare_replicas"].mid == well["replicas"].mid - well["spare_replicas"].mid
    assert ill["usd_per_million_tokens"].mid > well["usd_per_million_tokens"].mid
    most = Serving(model="Llama-3.1-70B", precision="fp8")
    assert planned(sick, most).answer["tokens_per_second"].mid < planned(pod, most).answer["tokens_per_second"].mid


def test_a_site_keeps_servers_to_spare_and_for_planned_work(pod: Site) -> None:
    full = with_part(pod, "operations", spare_ratio=0.0, maintenance_ratio=0.0)
    work = Serving(model="Llama-3.1-70B", precision="fp8", accelerators=8)
    assert planned(full, work).answer["replicas"].mid == 127
    assert planned(pod, work).answer["replicas"].mid == 127 - 1 - 3


def test_replicas_that_are_hardly_ever_up_are_refused(pod: Site) -> None:
    for part, values in (
        ("operations", {"node_failures_per_day": 1000.0}),
        ("storage", {"read_bytes_per_second": 1.0}),
    ):
        with pytest.raises(Unsupported, match="of the time"):
            planned(with_part(pod, part, **values))


def test_without_room_for_spares_a_plan_says_how_often_demand_is_met(pod: Site) -> None:
    alone = load_site("dgx-h100")
    busy = WORK.model_copy(update={"requests_per_second": 1.0, "accelerators": 8})
    assert any("enough are up" in warning for warning in planned(alone, busy).warnings)
    assert not any("enough are up" in warning for warning in planned(pod).warnings)


@pytest.mark.parametrize("rate", [1.0, 50.0, 400.0])
def test_no_more_is_answered_than_is_asked(pod: Site, rate: float) -> None:
    work = WORK.model_copy(update={"requests_per_second": rate})
    answered = planned(pod, work).answer["tokens_per_second"]
    asked = rate * work.output_tokens * (1 - work.daily_swing_ratio / 2)
    assert answered.high <= asked * (1 + 1e-9)
    assert answered.mid == pytest.approx(asked, rel=0.01)


def test_shares_of_the_replicas_hours_are_all_of_them(pod: Site) -> None:
    for work in (WORK, Serving(model="Llama-3.1-70B")):
        found = planned(pod, work)
        assert sum(found.shares.values()) == pytest.approx(1.0)
        assert min(found.shares.values()) >= 0 and found.shares["down"] > 0
