"""Embodied carbon adds up, grows with what is built, is spread over lives, and stays near what was published."""

from __future__ import annotations

from datetime import date

import pytest

from bessemer.twin import money
from bessemer.twin.accelerators import Measured
from bessemer.twin.answer import with_part
from bessemer.twin.catalogue import table
from bessemer.twin.embodied import HOURS_PER_YEAR, embodied, kgco2e_per_hour
from bessemer.twin.plan import plan
from bessemer.twin.power import site_power
from bessemer.twin.simulate import simulate
from bessemer.twin.site import Site, load_site, reference_sites
from bessemer.twin.sweep import axes, sweep
from bessemer.twin.totals import totals
from bessemer.twin.workload import Serving, Training

TODAY = date(2026, 11, 23)


@pytest.fixture
def pod() -> Site:
    return load_site("superpod-h100-127")


@pytest.mark.parametrize("name", reference_sites())
def test_the_parts_add_up_to_the_hour_and_to_the_site(name: str) -> None:
    site = load_site(name)
    parts, found = embodied(site), {total.name: total.modelled for total in totals(site)}
    assert all(0 < part.kgco2e.low <= part.kgco2e.mid <= part.kgco2e.high for part in parts)
    assert found["embodied_tonnes_co2e"].mid == pytest.approx(sum(part.kgco2e.mid for part in parts) / 1000)
    hours = sum(part.kgco2e.mid / part.life_years / HOURS_PER_YEAR for part in parts)
    assert kgco2e_per_hour(site).mid == pytest.approx(hours)
    assert found["embodied_tonnes_co2e_per_day"].mid == pytest.approx(hours * 24 / 1000)


def test_published_footprints_are_met() -> None:
    parts = {part.name: part.kgco2e for part in embodied(load_site("dgx-h100"))}
    assert parts["accelerators"].mid == pytest.approx(1312)
    assert 4288 in with_storage(parts)


def with_storage(parts: dict) -> range:
    """Return from low to high what a server with its flash may have; Dell's R740 with 31 TB had 4,288 kg."""
    low, high = (sum(getattr(parts[name], side) for name in ("servers", "storage")) for side in ("low", "high"))
    return range(int(low), int(high))


def test_twice_the_servers_carry_twice_the_boards_and_hosts(pod: Site) -> None:
    nodes = pod.nodes[0].model_copy(update={"count": 2 * pod.nodes[0].count})
    once, twice = ({part.name: part.kgco2e.mid for part in embodied(each)} for each in (pod, double(pod, nodes)))
    assert twice["accelerators"] == pytest.approx(2 * once["accelerators"])
    assert twice["servers"] == pytest.approx(2 * once["servers"])
    assert all(twice[name] >= once[name] for name in once)


def double(site: Site, nodes: object) -> Site:
    return site.model_copy(update={"nodes": (nodes,)})


def test_a_longer_life_spreads_hardware_thinner_and_leaves_the_building(pod: Site) -> None:
    short, long = (embodied(with_part(pod, "money", life_years=years)) for years in (3.0, 6.0))
    assert kgco2e_per_hour(with_part(pod, "money", life_years=6.0)).mid < kgco2e_per_hour(pod).mid
    for brief, lasting in zip(short, long, strict=True):
        assert brief.kgco2e == lasting.kgco2e
        same = brief.name in ("building", "power and cooling plant")
        assert lasting.life_years == (brief.life_years if same else 2 * brief.life_years)


def test_a_whole_site_s_job_carries_the_whole_hour(pod: Site) -> None:
    found = plan(pod, Training(model="Llama-3.1-8B", tokens=1e12, accelerators=pod.accelerators), TODAY)
    hours = found.answer["days"].mid * 24
    assert found.answer["embodied_kgco2e"].mid == pytest.approx(kgco2e_per_hour(pod).mid * hours)
    half = plan(pod, Training(model="Llama-3.1-8B", tokens=1e12, accelerators=pod.accelerators // 2), TODAY)
    share = half.answer["embodied_kgco2e"].mid / half.answer["days"].mid
    assert share == pytest.approx(found.answer["embodied_kgco2e"].mid / found.answer["days"].mid / 2)
    assert "published" in found.notes["embodied_kgco2e"]


def test_a_million_tokens_carry_their_share(pod: Site) -> None:
    answer = plan(pod, Serving(model="Llama-3.1-8B"), TODAY).answer
    used = answer["replicas"].mid * answer["accelerators_per_replica"].mid / pod.accelerators
    grams = kgco2e_per_hour(pod).mid * 1000 * used / (answer["tokens_per_second"].mid * 3600) * 1e6
    assert answer["embodied_gco2e_per_million_tokens"].mid == pytest.approx(grams)


def test_a_simulation_carries_its_hours() -> None:
    site = load_site("dgx-h100")
    one, two = (simulate(site, [], days, 0).totals.embodied_gco2e for days in (1, 2))
    assert one == pytest.approx(kgco2e_per_hour(site).mid * 24_000)
    assert two == pytest.approx(2 * one)


@pytest.mark.parametrize("name", reference_sites())
def test_capital_adds_up_and_every_part_is_positive(name: str) -> None:
    site = load_site(name)
    parts, found = money.capital(site, site_power(site).facility_watts.mid), {t.name: t for t in totals(site)}
    assert found["capital_usd"].modelled.mid == pytest.approx(sum(parts.values()))
    assert all(usd >= 0 for usd in parts.values())
    assert all(found[f"capital: {part}"].modelled.mid == usd for part, usd in parts.items())


def test_capital_of_a_gigawatt_is_near_what_was_published() -> None:
    total = next(each for each in totals(load_site("campus-1gw")) if each.name == "capital_usd")
    assert total.published is not None
    assert abs(total.difference or 0.0) < 0.25


def test_declared_capital_and_staff_win(pod: Site) -> None:
    declared = with_part(pod, "money", capital_usd=1e6, staff_usd_per_year=5e5)
    assert money.capital(declared, 1e6) == {"all, as declared": 1e6}
    assert money.staff_usd_per_year(declared, 1e6) == 5e5


def test_people_follow_the_published_sites(pod: Site) -> None:
    wage = money.part("staff_usd_per_year")
    assert money.staff_usd_per_year(pod, 3.5e6) == pytest.approx(30 * wage)
    assert money.staff_usd_per_year(pod, 1e9) == pytest.approx(300 * wage)
    paid = [money.staff_usd_per_year(pod, watts) for watts in (1e4, 1e6, 3.4e6, 3.6e6, 1e8, 2e9)]
    assert paid == sorted(paid)
    rented = with_part(pod, "money", tenure="rented", provider="Lambda")
    assert money.staff_usd_per_year(rented, 1e9) == 0.0


def test_every_footprint_has_bounds_around_it() -> None:
    for row in table("embodied_carbon"):
        assert 0 < float(row["kgco2e_low"]) <= float(row["kgco2e"]) <= float(row["kgco2e_high"])


def test_a_measured_processor_is_a_part_of_its_machine() -> None:
    laptop = load_site("laptop")
    measured = Measured(day="2026-11-23", device="a processor", power_watts=28.0)
    nodes = laptop.nodes[0].model_copy(update={"accelerator": "this", "accelerators": 1, "measured": measured})
    here = laptop.model_copy(update={"nodes": (nodes,)})
    assert [part.name for part in embodied(here)] == ["servers"]
    given = axes(["accelerator=H100"], here, Training())
    point = sweep(here, Training(model="Llama-3.1-8B", tokens=1e6, batch_sequences=1), given, TODAY)[0]
    assert point.plan is None or point.plan.site.nodes[0].measured is None
