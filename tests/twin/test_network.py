"""Fabrics have the published counts, and sites the links that their parts give."""

from datetime import date

import pytest

from bessemer.core.errors import ConfigError, Unsupported
from bessemer.twin import network
from bessemer.twin.catalogue import Row, table
from bessemer.twin.plan import plan
from bessemer.twin.site import Fabric, Nodes, Site
from bessemer.twin.topology import bill, dragonfly, tree, tree_limit
from bessemer.twin.workload import Layout, Serving, Training

TODAY = date(2026, 11, 23)


def place(endpoints: int, radix: int = 64, planes: int = 1, **fabric: object) -> Site:
    nodes = Nodes(accelerator="H100-SXM-80GB", count=endpoints // 8, accelerators=8, nics=8, nic_bits_per_second=400e9)
    kind = "multi_plane" if planes > 1 else "rail"
    values = {"kind": kind, "radix": radix, "planes": planes} | fabric
    return Site(name="test", nodes=(nodes,), fabric=Fabric.model_validate(values))


@pytest.mark.parametrize("row", table("reference_fabrics"), ids=lambda row: row["name"])
def test_published_counts_are_met_exactly(row: Row) -> None:
    parts = bill(place(int(row["endpoints"]), int(row["radix"]), int(row["planes"])))
    names = ("node_leaf_cables", "leaf_spine_cables", "spine_core_cables")
    found = {name: getattr(parts, name) for name in ("tiers", "leaf", "spine", "core", "switches")}
    found |= dict(zip(names, (*parts.cables_by_tier, 0, 0), strict=False))
    assert {name: found[name] for name in found if row[name]} == {name: int(row[name]) for name in found if row[name]}


def test_three_tiers_end_and_the_note_says_so() -> None:
    assert tree_limit(64, 3) == 65_536
    assert bill(place(65_536)).note == ""
    found = bill(place(131_072))
    assert found.tiers == 4
    assert "65,536" in found.note and "144" in found.note and "planes" in found.note
    assert bill(place(131_072, 144)).tiers == 3


def test_more_than_any_tree_joins_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than 4 tiers") as error:
        bill(place(2**22))
    assert "ports" in error.value.hint


def test_oversubscription_saves_switches_and_bisection() -> None:
    full, thin = bill(place(4096)), bill(place(4096, oversubscription=3.0))
    assert thin.switches < full.switches
    assert thin.bisection_bytes_per_second < full.bisection_bytes_per_second
    assert thin.watts < full.watts


@pytest.mark.parametrize("endpoints", [1, 7, 63, 65, 1000, 2049, 16384, 65536])
def test_trees_have_ports_for_their_cables(endpoints: int) -> None:
    parts = tree(endpoints, 64)
    for tier, switches in enumerate(parts.switches):
        used = parts.cables[tier] + (parts.cables[tier + 1] if tier + 1 < len(parts.cables) else 0)
        assert used <= 64 * switches


@pytest.mark.parametrize("rails", [1, 2, 4, 8])
@pytest.mark.parametrize("endpoints", [160, 576, 800, 1016, 2048, 4096])
def test_spines_have_ports_for_the_cables_of_all_rails(endpoints: int, rails: int) -> None:
    parts = tree(endpoints, 64, rails=rails)
    assert parts.cables[-1] <= 64 * parts.switches[-1]
    assert parts.bisection_links <= endpoints / 2


def test_no_half_of_a_fabric_sends_more_than_its_adapters() -> None:
    fast = bill(place(1024, port_bits_per_second=800e9))
    assert fast.bisection_bytes_per_second == bill(place(1024)).bisection_bytes_per_second == 512 * 50e9


def test_a_dragonfly_that_is_too_large_is_refused() -> None:
    with pytest.raises(ConfigError, match="dragonfly"):
        dragonfly(10**7, 16)


@pytest.mark.parametrize("apart", [{"nics": 0}, {"fabric": "none"}])
def test_servers_without_a_network_do_not_work_together(apart: dict[str, object]) -> None:
    joined = place(32)
    nodes = joined.nodes[0].model_copy(update={"nics": apart.get("nics", 8)})
    fabric = joined.fabric.model_copy(update={"kind": apart.get("fabric", "rail")})
    site = joined.model_copy(update={"nodes": (nodes,), "fabric": fabric})
    job = Training(model="Llama-3.1-8B", tokens=1e9)
    assert network.links(site, nodes).scaleout_bytes_per_second == 0
    found, whole = (plan(each, job, TODAY, tries=False) for each in (site, joined))
    assert found.layout is not None and found.layout.accelerators == 8
    assert "no network joins the servers" in found.warnings[0]
    assert not any("no network" in warning for warning in whole.warnings)
    for more in (
        job.model_copy(update={"accelerators": 16}),
        job.model_copy(update={"layout": Layout(data=16, sharded="weights")}),
    ):
        with pytest.raises(Unsupported, match="no network joins servers, so 16 accelerators"):
            plan(site, more, TODAY)
        assert plan(joined, more, TODAY, tries=False).answer["days"].mid > 0
    with pytest.raises(Unsupported, match="does not fit on 8") as caught:
        plan(site, Training(model="Llama-3.1-70B", tokens=1e9), TODAY)
    assert "that a network joins" in caught.value.hint
    large = Serving(model="Llama-3.1-405B", precision="bf16")
    assert plan(joined, large, TODAY, tries=False).answer["accelerators_per_replica"].mid > 8
    with pytest.raises(Unsupported):
        plan(site, large, TODAY)
    with pytest.raises(Unsupported, match="no network joins servers"):
        plan(site, Serving(model="Llama-3.1-8B", accelerators=16), TODAY)


def test_servers_without_a_network_each_answer_alone() -> None:
    joined = place(32)
    site = joined.model_copy(update={"fabric": Fabric()})
    work = Serving(model="Llama-3.1-70B", accelerators=4)
    assert plan(site, work, TODAY, tries=False).answer["replicas"].mid == 8


def test_a_link_is_no_faster_than_the_port_it_is_in() -> None:
    slow = place(1024, port_bits_per_second=200e9)
    assert network.links(slow, slow.nodes[0]).scaleout_bytes_per_second == 25e9


@pytest.mark.parametrize(("kind", "servers", "pod"), [("fat_tree", 4, 512), ("fat_tree", 128, 42), ("rail", 128, 336)])
def test_a_pod_is_what_lies_below_the_oversubscribed_tier(kind: str, servers: int, pod: float) -> None:
    site = place(servers * 8, kind=kind, oversubscription=2.0)
    found = network.links(site, site.nodes[0])
    assert found.oversubscription == 2.0
    assert found.pod_accelerators == (float("inf") if servers == 4 else pod)
    if kind == "rail":
        leaf = bill(site).leaf
        assert leaf == 8 * -(-site.accelerators // pod)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"kind": "rail", "radix": 512}, {"kind": "rail", "radix": 32}),
        ({"kind": "rail", "endpoint_seconds": 2e-6}, {"kind": "rail", "endpoint_seconds": 2e-5}),
        ({"kind": "dragonfly"}, {"kind": "torus"}),
    ],
)
def test_the_shape_of_a_fabric_reaches_its_plans(better: dict[str, object], worse: dict[str, object]) -> None:
    cut = Layout(data=512, expert=512, micro_batch=1, sharded="weights", recompute="full")
    job = Training(model="DeepSeek-V3", tokens=1e9, batch_sequences=4096, layout=cut)
    first, second = (plan(place(4096, **each), job, TODAY, tries=False) for each in (better, worse))
    assert first.answer["step_seconds"].mid < second.answer["step_seconds"].mid
    assert first.shares["waiting for the network"] < second.shares["waiting for the network"]


def test_a_site_s_oversubscription_reaches_its_plans() -> None:
    job = Training(model="Llama-3.1-8B", tokens=1e9)
    times = []
    for over in (1.0, 3.0):
        site = place(1024, kind="rail", oversubscription=over)
        times.append(plan(site, job, TODAY).answer["step_seconds"].mid)
    assert times[0] < times[1]
