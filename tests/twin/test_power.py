"""Watts and heat add up, and servers draw what was measured."""

from datetime import date

import numpy as np
import pytest

from bessemer.core.errors import ConfigError
from bessemer.twin import cooling, money, operations, power, storage
from bessemer.twin.accelerators import Measured, accelerators
from bessemer.twin.answer import with_part
from bessemer.twin.catalogue import Row, table
from bessemer.twin.plan import plan
from bessemer.twin.site import Cooling, Nodes, Power, Site, Storage
from bessemer.twin.weather import year
from bessemer.twin.workload import Serving, Training

H100 = Nodes(accelerator="H100-SXM-80GB", count=4, accelerators=8, nics=8, nic_bits_per_second=4e11, host_watts=2200.0)
PLACE = Site(name="test", nodes=(H100,))
ADAPTERS = 8 * 4e11 / 8
KINDS = ["none", "air", "rear_door", "direct_liquid", "immersion"]


@pytest.mark.parametrize(
    ("accelerator", "watts"),
    [
        # The first two are what the model was fitted on: arXiv:2506.14551, MLPerf Training 4.1. The others were left
        # out: MLPerf Training 5.0 and Inference 5.1, 8x B200.
        ("H100-SXM-80GB", 7752),
        ("H100-SXM-80GB", 7105),
        *(("B200-SXM", watts) for watts in (9581, 9756, 9569, 10045, 10401, 10442, 9892, 9566, 9436)),
    ],
)
def test_servers_draw_what_was_measured_within_ten_percent(accelerator: str, watts: float) -> None:
    nodes = Nodes(accelerator=accelerator, accelerators=8, host_watts=2200.0)
    assert power.node_watts(nodes, 1.0).mid == pytest.approx(watts, rel=0.10)


def test_idle_and_peak_of_a_server_are_those_measured() -> None:
    # The host's idle share was fitted on the first (MLPerf Inference 4.1); the second was left out (arXiv:2412.08602).
    idle = Nodes(accelerator="H200-SXM", accelerators=8, host_watts=2200.0)
    assert power.node_watts(idle, 0.0).mid == pytest.approx(2407, rel=0.10)
    peak = power.node_peak_watts(Nodes(accelerator="H100-SXM-80GB", accelerators=8, host_watts=2200.0))
    assert peak.mid == pytest.approx(8480, rel=0.10)
    assert peak.mid > power.node_watts(H100, 1.0).mid


@pytest.mark.parametrize("name", sorted(accelerators()))
def test_every_board_of_the_catalogue_draws_and_what_nobody_published_is_said_and_wide(name: str) -> None:
    nodes = Nodes(accelerator=name, accelerators=8, host_watts=2200.0)
    site, device = Site(name="test", nodes=(nodes,)), accelerators()[name]
    assert 100 < power.board_watts(nodes, 0.0) * 10 < power.board_watts(nodes, 1.0) * 10
    bounds = [power.node_watts(nodes, 1.0), power.node_peak_watts(nodes), power.site_power(site).facility_watts]
    spreads = [each.high / each.low for each in bounds]
    if device.power_watts is None:
        assert min(spreads) > 1.5
        for work in (Training(tokens=1e9), Serving()):
            assert any(device.name in warning for warning in plan(site, work, date(2026, 11, 23)).warnings)
    else:
        assert max(spreads) < 1.4
        assert power.unpublished(site) == ()


def test_watts_that_were_measured_as_none_are_in_the_host_s() -> None:
    nodes = Nodes(accelerators=1, host_watts=40.0, measured=Measured())
    assert power.board_watts(nodes, 1.0) == 0.0
    assert power.unpublished(Site(name="test", nodes=(nodes,))) == ()


@pytest.mark.parametrize("row", table("pue_facts"), ids=lambda row: row["name"])
def test_published_pue_is_met(row: Row) -> None:
    names = ("liquid_ratio", "supply_celsius")
    heat = {"kind": row["kind"], "rejection": row["rejection"], "climate": row["climate"]}
    cool = Cooling.model_validate(heat | {name: float(row[name]) for name in names})
    chain = {name: float(row[name]) for name in row if name.endswith("_efficiency")}
    site = Site(name="test", cooling=cool, power=Power.model_validate(chain))
    away = 0.02 if row["kind"] == "direct_liquid" else 0.05
    assert cooling.pue(site).mid == pytest.approx(float(row["pue"]), abs=away)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rejection", ["chiller", "wet", "dry"])
@pytest.mark.parametrize("load", [0.0, 0.4, 1.0])
def test_power_and_heat_balance(kind: str, rejection: str, load: float) -> None:
    cool = Cooling.model_validate({"kind": kind, "rejection": rejection, "heat_reuse_ratio": 0.2})
    site = PLACE.model_copy(update={"cooling": cool})
    found = power.site_power(site, load)
    parts = found.accelerator_watts + found.host_watts + found.supply_watts + found.fabric_watts + found.storage_watts
    assert parts == pytest.approx(found.it_watts)
    assert found.it_watts + found.cooling_watts + found.losses_watts == pytest.approx(found.facility_watts.mid)
    assert found.facility_watts.mid == pytest.approx(found.it_watts * found.pue.mid)
    hours = cooling.hourly(site)
    drawn = hours.fan_ratio + hours.pump_ratio + hours.rejection_ratio + hours.chiller_ratio
    assert hours.heat_ratio == pytest.approx(1.0 + drawn)
    assert (hours.water_litres_per_kwh >= 0).all() and len(hours.heat_ratio) == 8760


def test_warmer_water_takes_less() -> None:
    taken = [
        cooling.pue(PLACE.model_copy(update={"cooling": Cooling(kind="direct_liquid", supply_celsius=warm)})).mid
        for warm in (15, 25, 35)
    ]
    assert taken == sorted(taken, reverse=True)


def test_a_broken_envelope_says_by_how_much_and_what_helps() -> None:
    drawn = power.site_power(PLACE, 1.0).facility_watts.mid
    tight = PLACE.model_copy(update={"power": Power(envelope_watts=0.9 * drawn)})
    with pytest.raises(ConfigError, match="MW more than its grid") as error:
        power.site_power(tight, 1.0)
    cap = float(error.value.hint.split(" at ")[1].split(" W")[0])
    capped = tight.model_copy(update={"power": tight.power.model_copy(update={"cap_watts": cap})})
    assert power.site_power(capped, 1.0).facility_watts.mid == pytest.approx(0.9 * drawn, rel=0.01)


def test_a_site_whose_servers_never_peak_together_needs_less_of_the_grid_and_of_its_plant() -> None:
    drawn = power.site_power(PLACE, 1.0).facility_watts.mid
    mixed = PLACE.model_copy(update={"power": Power(envelope_watts=0.85 * drawn, diversity_ratio=0.8)})
    assert power.site_power(mixed, 1.0).facility_watts.mid == pytest.approx(drawn)
    whole, part = (money.capital(site, drawn)["power and cooling plant"] for site in (PLACE, mixed))
    assert part == pytest.approx(0.8 * whole)
    tight = PLACE.model_copy(update={"power": Power(envelope_watts=0.1 * drawn, diversity_ratio=0.8)})
    with pytest.raises(ConfigError) as error:
        power.site_power(tight, 1.0)
    enough = float(error.value.hint.rpartition(" to ")[2].rstrip("."))  # a number that TOML reads
    assert enough == pytest.approx(0.8 * drawn, abs=1)
    power.site_power(PLACE.model_copy(update={"power": Power(envelope_watts=enough, diversity_ratio=0.8)}), 1.0)


def test_caps_cuts_and_batteries() -> None:
    clocks = [power.clock_ratio(watts, 700.0, 70.0) for watts in (70.0, 300.0, 500.0, 700.0)]
    assert clocks == sorted(clocks) and clocks[2] > 500 / 700
    assert power.cut_cost_ratio(PLACE, 0.0) == pytest.approx(0.0)
    assert 0 < power.cut_cost_ratio(PLACE, 0.2) < 0.2
    with pytest.raises(ConfigError, match="more than boards can give"):
        power.cut_cost_ratio(PLACE, 0.95)
    wave = np.where(np.arange(200) % 10 < 2, 4e6, 10e6).astype(float)
    assert power.smoothed(wave, 0.5, 0.0) == pytest.approx(wave)
    assert np.ptp(power.smoothed(wave, 0.5, 1e9)) == pytest.approx(0.0, abs=1.0)
    assert power.swing_watts(PLACE) > 0


@pytest.mark.parametrize("row", table("climate"), ids=lambda row: row["station"])
def test_a_year_has_the_percentiles_of_its_station(row: Row) -> None:
    found = year(row["station"])
    assert found.wet_celsius.mean() == pytest.approx(float(row["wetbulb_mean_c"]), abs=0.1)
    assert np.quantile(found.wet_celsius, [0.5, 0.99]) == pytest.approx(
        [float(row["wetbulb_p50_c"]), float(row["wetbulb_p99_c"])], abs=0.1
    )
    assert (found.dry_celsius >= found.wet_celsius).all()


def test_checkpoints_are_written_as_fast_as_storage_and_adapters_allow() -> None:
    shared = PLACE.model_copy(
        update={"storage": Storage(tier="parallel", read_bytes_per_second=1e12, write_bytes_per_second=1e12)}
    )
    assert storage.bytes_per_second(shared, 1) == (ADAPTERS, ADAPTERS)
    assert storage.bytes_per_second(shared, 100)[1] == shared.storage.write_bytes_per_second
    one, many = (operations.checkpoints(shared, count, 4e12, 1.0) for count in (8, 800))
    assert one.read_seconds == pytest.approx(4e12 / ADAPTERS) and many.read_seconds < one.read_seconds
    local = with_part(shared, "storage", tier="local")
    assert storage.bytes_per_second(local, 1)[1] == shared.storage.write_bytes_per_second
    assert storage.days_until_full(shared, 0.0) == float("inf")
