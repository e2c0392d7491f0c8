"""Owning beside renting: each way for the same useful work, in today's money."""

from __future__ import annotations

import csv
import io
import math
from datetime import date

import pytest

from bessemer.core.errors import ConfigError
from bessemer.twin import money, renting
from bessemer.twin.compare import Comparison, Offered, as_csv, compare
from bessemer.twin.plan import plan
from bessemer.twin.power import site_power
from bessemer.twin.site import Site, load_site
from bessemer.twin.workload import Serving, Training

TODAY = date(2026, 11, 23)
PLACE = load_site("dgx-h100")


def priced(site: Site, **values: float) -> Site:
    return site.model_copy(update={"money": site.money.model_copy(update=values)})


def way(found: Comparison, name: str, term: str = "on_demand") -> Offered:
    (one,) = [each for each in found.offered if (each.name, each.term) == (name, term)]
    return one


def own(found: Comparison) -> Offered:
    return way(found, found.site, "owned")


def test_the_cheapest_comes_first_and_each_provider_has_one_price_a_term() -> None:
    found = compare(PLACE, TODAY).offered
    prices = [each.usd_per_useful_hour.mid for each in found]
    assert prices == sorted(prices)
    assert len({(each.name, each.term) for each in found}) == len(found) > 10
    assert {"owned", "spot", "on_demand", "reserved_1y", "reserved_3y"} == {each.term for each in found}


def test_owning_over_its_life_is_the_annuity_of_the_bill() -> None:
    mine = own(compare(PLACE, TODAY))
    used = PLACE.money.utilisation_ratio
    bill = money.bill(PLACE, site_power(PLACE, load=used).facility_watts)
    # The annuity pays at the end of each year, the comparison in the middle of each month.
    expected = bill.usd_per_accelerator_hour.mid / used / mine.goodput_ratio
    assert mine.usd_per_useful_hour.mid == pytest.approx(expected, rel=0.05)


def test_without_interest_or_decline_a_rented_hour_costs_its_price() -> None:
    flat = priced(PLACE, price_decline_ratio=0.0, discount_ratio=0.0)
    found = compare(flat, TODAY)
    lambda_ = way(found, "Lambda")
    assert lambda_.usd_per_useful_hour.mid == pytest.approx(2.99 / lambda_.goodput_ratio)
    hours = 5 * money.HOURS_PER_YEAR * 8 * flat.money.utilisation_ratio
    assert lambda_.present_usd.mid == pytest.approx(2.99 * hours)


def test_prices_that_fall_make_renting_cheaper_but_not_what_is_committed_for_longest() -> None:
    flat, falling = (compare(priced(PLACE, price_decline_ratio=ratio), TODAY, years=3) for ratio in (0.0, 0.3))
    for name, term, least, most in (
        ("Lambda", "on_demand", 0.55, 0.7),
        ("market index", "reserved_1y", 0.6, 0.8),
        ("market model", "reserved_3y", 1.0, 1.0),
    ):
        ratio = way(falling, name, term).usd_per_useful_hour.mid / way(flat, name, term).usd_per_useful_hour.mid
        assert least <= ratio <= most
    assert own(falling).present_usd == own(flat).present_usd


def test_a_commitment_costs_every_hour_and_demand_the_hours_that_are_used() -> None:
    half, whole = (compare(priced(PLACE, utilisation_ratio=used), TODAY) for used in (0.4, 0.8))
    for name, term, ratio in (("market index", "reserved_1y", 2.0), ("Lambda", "on_demand", 1.0)):
        more, less = (way(each, name, term).usd_per_useful_hour.mid for each in (half, whole))
        assert more / less == pytest.approx(ratio)


def test_spot_loses_more_of_its_time_the_more_servers_a_job_holds() -> None:
    place = load_site("superpod-h100-127")
    ratios = []
    for accelerators in (8, 256, 1016):
        found = compare(place, TODAY, Training(model="Llama-3.1-8B", tokens=1e10, accelerators=accelerators))
        spot, steady = way(found, "AWS", "spot"), way(found, "AWS")
        assert spot.goodput_ratio < steady.goodput_ratio
        paid = spot.usd_per_useful_hour.mid / steady.usd_per_useful_hour.mid
        assert paid == pytest.approx(2.25 / 3.9 * steady.goodput_ratio / spot.goodput_ratio)
        ratios.append(spot.goodput_ratio / steady.goodput_ratio)
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] - ratios[-1] > 0.02
    assert spot.usd_per_useful_hour.high == float("inf")  # the worst market lets 1,016 accelerators do nothing
    assert steady.usd_per_useful_hour.high < 10


def test_at_the_break_even_use_both_cost_the_same() -> None:
    even = way(compare(PLACE, TODAY), "CoreWeave").break_even_ratio
    assert 0.1 < even < 0.9
    there = compare(priced(PLACE, utilisation_ratio=even), TODAY)
    assert own(there).present_usd.mid == pytest.approx(way(there, "CoreWeave").present_usd.mid, rel=1e-6)


def test_at_the_break_even_month_owning_has_cost_less_and_not_before() -> None:
    long, short = compare(PLACE, TODAY, years=5), compare(PLACE, TODAY, years=1)
    months = {(each.name, each.term): each.break_even_month for each in long.offered}
    assert months["Azure", "on_demand"] == 14
    assert math.isinf(way(short, "Azure").break_even_month)
    assert math.isinf(months["Vast.ai", "on_demand"])
    # A site that is written off after the comparison still has what is left of it: 4 of 5 years.
    left = PLACE.money.life_years - 1
    bought = sum(money.capital(PLACE, 0.0).values())
    assert own(short).present_usd.mid < own(long).present_usd.mid - 0.5 * left / 5 * bought


def test_a_million_tokens_cost_what_the_plan_says() -> None:
    work = Serving(model="Llama-3.1-8B", requests_per_second=20)
    mine = own(compare(PLACE, TODAY, work))
    assert mine.usd_per_unit is not None
    planned = plan(PLACE, work, TODAY).answer["usd_per_million_tokens"].mid
    assert mine.usd_per_unit.mid == pytest.approx(planned, rel=0.1)


def test_a_training_run_costs_what_the_plan_says() -> None:
    busy = priced(PLACE, utilisation_ratio=1.0)
    work = Training(model="Llama-3.1-8B", tokens=1e9)
    found = compare(busy, TODAY, work)
    mine = own(found)
    assert (found.unit, mine.usd_per_unit is not None) == ("training run", True)
    assert mine.usd_per_unit is not None
    assert mine.usd_per_unit.mid == pytest.approx(plan(busy, work, TODAY).answer["cost_usd"].mid, rel=0.1)


def test_a_price_more_than_a_year_old_is_told() -> None:
    now, later = (compare(PLACE, day) for day in (TODAY, date(2027, 6, 1)))
    assert way(now, "Lambda").warning == ""
    assert "2026-03: more than a year old" in way(later, "Lambda").warning
    assert "no date" in way(now, "Nebius").warning


def test_more_years_than_the_site_lives_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        compare(PLACE, TODAY, years=6)
    assert "5 years or fewer" in caught.value.hint


def test_the_table_has_every_way_and_no_word_for_never() -> None:
    found = compare(PLACE, TODAY)
    rows = list(csv.DictReader(io.StringIO(as_csv([found]))))
    assert [row["name"] for row in rows] == [each.name for each in found.offered]
    assert {row["break_even_month"] for row in rows if row["name"] in ("Vast.ai", PLACE.name)} == {""}
    assert all(float(row["usd_per_useful_hour_low"]) <= float(row["usd_per_useful_hour_high"]) for row in rows)


def test_bounds_of_the_decline_are_wider_for_fewer_years() -> None:
    widths = [renting.decline(years).high - renting.decline(years).low for years in (1, 3, 10)]
    assert widths == sorted(widths, reverse=True)
    # One series alone: its own rate lies within the bounds of the whole.
    assert 1 - (6.88 / 12.29) ** (12 / 23) in renting.decline(23 / 12)


def test_the_owner_pays_people_whether_declared_or_not() -> None:
    site = load_site("superpod-h100-127")
    plain = next(each for each in compare(site, TODAY).offered if each.term == "owned")
    watts = site_power(site).facility_watts.mid
    declared = priced(site, staff_usd_per_year=2 * money.staff_usd_per_year(site, watts))
    dear = next(each for each in compare(declared, TODAY).offered if each.term == "owned")
    years, discount = compare(site, TODAY).years, site.money.discount_ratio
    worth = sum((1 + discount) ** (-(month + 0.5) / 12) for month in range(12 * years)) / 12
    paid = money.staff_usd_per_year(site, watts) * worth
    assert dear.present_usd.mid - plain.present_usd.mid == pytest.approx(paid, rel=1e-6)
