"""No collective beats its links or what crosses the middle of its fabric, and each waits for its messages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bessemer.twin import collectives, network, training
from bessemer.twin.accelerators import accelerator
from bessemer.twin.shape import shape
from bessemer.twin.site import Fabric, Nodes, Site
from bessemer.twin.steptime import Machine
from bessemer.twin.topology import bill
from bessemer.twin.workload import Layout, Training

H100 = accelerator("H100")


def place(endpoints: int, **fabric: object) -> Site:
    nodes = Nodes(accelerator="H100-SXM-80GB", count=endpoints // 8, accelerators=8, nics=8, nic_bits_per_second=400e9)
    return Site(name="test", nodes=(nodes,), fabric=Fabric.model_validate({"kind": "rail", "radix": 64} | fabric))


def wires(site: Site) -> Machine:
    return training.machine(H100, network.links(site, site.nodes[0]), "bf16")


@pytest.mark.parametrize("members", [2, 8, 16, 1024])
def test_no_collective_beats_its_links(members: int) -> None:
    joined = wires(place(4096))
    assert joined.out == 50e9
    for size in (1.0, 1e6, 1e9):
        reduce = collectives.reduce_seconds(size, members, 1, joined)
        assert reduce >= 2 * size * (members - 1) / members / (450e9 + 50e9)
        assert collectives.reduce_seconds(2 * size, members, 1, joined) > reduce
        assert collectives.gather_seconds(size, members, 1, joined) < reduce
        leaves = max(members - 8, 0) / members
        assert collectives.exchange_seconds(size, members, joined) > size * leaves / 50e9
    assert collectives.message_seconds(1e9, members, joined) >= 1e9 / (450e9 if members <= 8 else 50e9)


def test_one_member_waits_for_nobody() -> None:
    joined = wires(place(4096))
    assert collectives.reduce_seconds(1e9, 1, 1, joined) == 0.0
    assert collectives.exchange_seconds(1e9, 1, joined) == 0.0


@pytest.mark.parametrize(
    "fabric",
    [{}, {"oversubscription": 3.0}, {"kind": "torus"}, {"kind": "dragonfly"}, {"kind": "fat_tree", "radix": 32}],
    ids=str,
)
@pytest.mark.parametrize("endpoints", [512, 4096, 32768])
def test_no_exchange_beats_the_bisection(fabric: dict[str, object], endpoints: int) -> None:
    site, sent = place(endpoints, **fabric), 1e9
    seconds = float(collectives.exchange_seconds(sent, site.accelerators, wires(site)))
    crosses = site.accelerators / 2 * sent / 2  # to the other half, from each member of a half
    assert crosses / seconds <= bill(site).bisection_bytes_per_second * (1 + 1e-9)


def test_a_larger_torus_exchanges_slower_and_a_tree_does_not() -> None:
    small, large = (
        [float(collectives.exchange_seconds(1e9, count, wires(place(count, kind=kind)))) for kind in ("torus", "rail")]
        for count in (512, 32768)
    )
    assert large[0] > 3 * small[0]
    assert large[1] == pytest.approx(small[1], rel=0.05)


@pytest.mark.parametrize(
    ("model", "cut"),
    [
        ("Llama-3.1-8B", Layout(data=64, sharded="weights")),
        ("Llama-3.1-8B", Layout(data=64)),
        ("Llama-3.1-8B", Layout(tensor=8, context=8)),
        ("Mixtral-8x7B", Layout(tensor=8, expert=64, data=8)),
        ("Llama-3.1-8B", Layout(tensor=8, pipeline=8)),
    ],
    ids=["weights", "gradients", "context", "experts", "pipeline"],
)
def test_every_collective_waits_for_its_messages(model: str, cut: Layout) -> None:
    job = Training(model=model, batch_sequences=64)
    near, far = (
        training.step(shape(model), job, cut, H100, replace(LINKS, scaleout_seconds=wait)) for wait in (0.0, 1e-3)
    )
    assert far.seconds > near.seconds


LINKS = network.Links(8, 450e9, 50e9, 2e-6, 5e-6)
