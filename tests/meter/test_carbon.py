from __future__ import annotations

import pytest

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Boundary, EnergyClass, Measurement
from bessemer.meter import find_grid, grids

KILOWATT_HOUR = Measurement(
    seconds=3600,
    joules=3_600_000,
    joules_low=1_800_000,
    joules_high=7_200_000,
    energy_class=EnergyClass.MODELLED,
    boundary=Boundary.HOST,
    source="test",
)


def test_every_row_is_in_order_and_has_source_and_year() -> None:
    assert len(grids()) > 40
    for grid in grids().values():
        assert 0 < grid.low < grid.grams_per_kilowatt_hour < grid.high
        assert grid.source and 2022 <= grid.year <= 2030


def test_a_kilowatt_hour_has_the_grids_grams() -> None:
    grid = find_grid("FR")
    carbon = grid.footprint(KILOWATT_HOUR, power_usage_effectiveness=1.2)
    assert carbon.grams == pytest.approx(1.2 * grid.grams_per_kilowatt_hour)
    assert carbon.grams_low == pytest.approx(1.2 * 0.5 * grid.low)
    assert carbon.grams_high == pytest.approx(1.2 * 2 * grid.high)
    assert carbon.grid == "FR" and "2023" in carbon.source and "PUE 1.2" in carbon.source


def test_regions_are_found_by_code_or_name_and_a_slip_is_helped() -> None:
    assert find_grid("norway") == find_grid("no") == find_grid("NO")
    with pytest.raises(ConfigError) as error:
        find_grid("Germnay")
    assert "'DE' (Germany)" in error.value.hint
