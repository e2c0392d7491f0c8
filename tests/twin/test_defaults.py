"""Every default of a site says where it is from, and a plan says which of them it took."""

from __future__ import annotations

from datetime import date

import pytest

from bessemer.products.planning import as_values
from bessemer.twin import defaults as room
from bessemer.twin.defaults import defaults, sources
from bessemer.twin.plan import plan
from bessemer.twin.site import Cooling, Fabric, Money, Nodes, Operations, Power, Site, Storage, load_site
from bessemer.twin.workload import Training

PARTS = {
    "nodes": Nodes,
    "fabric": Fabric,
    "storage": Storage,
    "power": Power,
    "cooling": Cooling,
    "operations": Operations,
    "money": Money,
}


def test_every_default_has_a_source_and_nothing_else_has() -> None:
    there = {f"{part}.{name}" for part, kind in PARTS.items() for name in kind.model_fields} - {"nodes.measured"}
    assert {path for path, source in sources().items() if source.strip()} == there
    assert set(PARTS) == set(room.PARTS) == set(Site.model_fields) - {"name", "description", "published", "sources"}


@pytest.mark.parametrize("part", PARTS)
def test_a_default_that_stands_for_none_is_one(part: str) -> None:
    for name, field in PARTS[part].model_fields.items():
        if sources().get(f"{part}.{name}", "").startswith("none") and isinstance(field.default, float):
            assert field.default in (0.0, 1.0)


def test_what_a_site_declares_is_no_default() -> None:
    site = load_site("superpod-h100-127")
    before = {each.path for each in defaults(site)}
    assert {"power.usd_per_kwh", "money.discount_ratio", "power.ups_efficiency"} <= before
    assert "power.gco2e_per_kwh" not in before and "nodes.host_watts" not in before
    own = site.model_copy(update={"power": site.power.model_copy(update={"usd_per_kwh": 0.10})})
    assert before - {each.path for each in defaults(own)} == {"power.usd_per_kwh"}


def test_a_tenant_is_told_of_no_interest_and_a_place_without_a_network_of_no_switch() -> None:
    rented = Site(money=Money(tenure="rented", provider="AWS"))
    paths = {each.path for each in defaults(rented)}
    assert "power.usd_per_kwh" not in paths and "money.discount_ratio" not in paths
    assert "fabric.radix" not in paths
    assert "fabric.radix" in {each.path for each in defaults(Site(fabric=Fabric(kind="rail")))}


def test_a_plan_says_what_it_took() -> None:
    found = plan(load_site("dgx-h100"), Training(model="Llama-3.1-8B", tokens=1e9), date(2026, 11, 23))
    told = as_values(found)["defaults"]
    assert isinstance(told, list)
    (price,) = [each for each in told if each["path"] == "power.usd_per_kwh"]
    assert price["value"] == 0.10 and "EIA" in price["source"]
