"""Every number of a reference site says where it is from, and every site has totals."""

import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from bessemer.twin.catalogue import table
from bessemer.twin.power import site_power
from bessemer.twin.site import load_site, reference_sites
from bessemer.twin.totals import totals

WANTED = {"laptop", "dgx-h100", "superpod-h100-127", "gb200-nvl72", "colossus", "oci-131072", "azure-region"}


def numbers(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def has_source(path: str, sources: dict[str, str]) -> bool:
    parts = path.split(".")
    return any(sources.get(".".join(parts[:length])) for length in range(1, len(parts) + 1))


def test_a_number_without_a_source_is_noticed() -> None:
    assert not has_source("nodes.count", {"nodes.cores": "a datasheet"})
    assert has_source("nodes.count", {"nodes": "a datasheet"})


def test_all_reference_sites_are_there() -> None:
    assert (WANTED | {"campus-1gw"}) <= set(reference_sites())


@pytest.mark.parametrize("name", reference_sites())
def test_every_number_of_a_site_has_a_source(name: str) -> None:
    values = tomllib.loads((files("bessemer.twin") / "catalogue" / "sites" / f"{name}.toml").read_text("utf-8"))
    sources = values.pop("sources")
    assert [path for path in numbers(values) if not has_source(path, sources)] == []


@pytest.mark.parametrize("name", reference_sites())
def test_a_site_stands_inside_its_envelope_and_has_totals(name: str) -> None:
    site = load_site(name)
    found = {total.name: total for total in totals(site)}
    assert found["megawatts"].modelled.mid == pytest.approx(site_power(site, 1.0).facility_watts.mid / 1e6)
    assert found["accelerators"].modelled.mid == site.accelerators
    assert set(site.published) <= set(found)
    for part in ("accelerators", "switches", "leaf_switches", "spine_switches"):
        assert found[part].difference in (None, 0.0)


@pytest.mark.parametrize(
    "name",
    [
        "switches",
        "optics",
        "reference_fabrics",
        "climate",
        "climate_assumed",
        "pue_facts",
        "price_history",
        "spot_interruptions",
        "embodied_carbon",
        "capital_parts",
    ],
)
def test_every_row_has_a_source(name: str) -> None:
    assert all(row["source"].strip() for row in table(name))
