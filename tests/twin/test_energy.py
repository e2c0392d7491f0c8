"""Watts, dollars and grams of simulated hours."""

import numpy as np
import pytest

from bessemer.products.planning import play
from bessemer.twin import cooling, power
from bessemer.twin.energy import rates, site_energy, weathered
from bessemer.twin.simulate import simulate
from bessemer.twin.site import Money, Nodes, Power, Site
from bessemer.twin.traffic import Job

PLACE = Site(name="test", nodes=(Nodes(accelerator="H100-SXM-80GB", count=4, accelerators=8),))


def test_more_load_takes_more_and_servers_that_are_out_take_none() -> None:
    load, all_there = np.linspace(0, 1, 5), np.ones(5)
    it_watts, facility_watts = site_energy(PLACE, load, all_there)
    assert (np.diff(it_watts) > 0).all()
    assert (facility_watts > it_watts).all()
    assert site_energy(PLACE, load, 0 * all_there)[0] == pytest.approx(0.0)


def test_a_year_played_has_the_efficiency_of_the_site() -> None:
    it_watts, facility_watts = site_energy(PLACE, np.full(8760, 1.0), np.ones(8760))
    assert it_watts == pytest.approx(power.draw(PLACE, 1.0).it_watts)
    assert (facility_watts / it_watts).mean() == pytest.approx(cooling.pue(PLACE).mid)
    assert facility_watts.max() > 1.02 * facility_watts.min()


def test_hours_above_what_the_grid_gives_are_counted() -> None:
    between = float(site_energy(PLACE, np.array([0.0, 0.75]), np.ones(2))[1].mean())
    small = PLACE.model_copy(update={"power": Power(envelope_watts=between)})
    job = Job("train", 0.0, 24, 7 * 3600.0)
    assert 5 <= simulate(small, [job], 1, 1).totals.over_envelope_hours <= 9
    assert simulate(PLACE, [job], 1, 1).totals.over_envelope_hours == 0


def test_the_day_has_the_mean_price_of_the_site() -> None:
    price, carbon = rates(PLACE, 48)
    assert price.mean() == pytest.approx(PLACE.power.usd_per_kwh)
    assert carbon.mean() == pytest.approx(PLACE.power.gco2e_per_kwh)
    assert price.argmax() % 24 in (18, 19)


def test_weather_goes_into_every_hour() -> None:
    year = 1.2 + 0.1 * np.sin(np.arange(8760) / 8760 * 2 * np.pi)
    energy = weathered(lambda site, load: 1000.0 + 9000.0 * load, lambda site: year)
    result = simulate(PLACE, [Job("train", 0.0, 32, 1e9)], 400, 1, energy=energy)
    assert result.hours.pue[:8760] == pytest.approx(year)
    assert result.hours.pue[8760:] == pytest.approx(year[: 400 * 24 - 8760])
    assert result.totals.facility_joules == pytest.approx(
        3600 * float((result.hours.it_watts * result.hours.pue).sum())
    )
    kwh = result.totals.facility_joules / 3.6e6
    assert result.totals.energy_usd == pytest.approx(kwh * PLACE.power.usd_per_kwh, rel=0.02)


def test_a_tenant_pays_electricity_once_with_the_rent() -> None:
    rented = PLACE.model_copy(update={"money": Money(tenure="rented", provider="Lambda")})
    mine, theirs = play(PLACE, 2, 0), play(rented, 2, 0)
    assert mine.totals.energy_usd > 0 and theirs.totals.energy_usd == 0
    assert theirs.totals.fixed_usd == pytest.approx(32 * 2.99 * 48)
    assert theirs.totals.facility_joules == pytest.approx(mine.totals.facility_joules)
    assert rates(rented, 24)[1] == pytest.approx(rates(PLACE, 24)[1])
