"""The machine at hand: what is measured is physical, is kept, and is what the planner plans with."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from bessemer.cli.app import app
from bessemer.core.errors import BessemerError, NotFound
from bessemer.core.events import Event, Progress
from bessemer.infer import rates
from bessemer.products import machine
from bessemer.products.config import load_factory
from bessemer.products.doctor import examine
from bessemer.products.home import Home
from bessemer.products.planning import work_of
from bessemer.twin.plan import plan
from bessemer.twin.site import Site

TODAY = date(2026, 11, 23)
FLOP_PER_CYCLE = {"avx512f": 64.0, "avx2": 32.0}
NARROW_FLOP_PER_CYCLE = {"amx_bf16": 2048.0, "avx512_bf16": 128.0}


def nominal_flop_per_second(more: dict[str, float]) -> float:
    """Return cores x clock x operations a cycle of the widest unit that the processor says it has."""
    info = Path("/proc/cpuinfo").read_text()
    flags = set(next(line for line in info.splitlines() if line.startswith("flags")).split())
    clocks = [float(line.split(":")[1]) * 1e6 for line in info.splitlines() if line.startswith("cpu MHz")]
    known = psutil.cpu_freq()
    clock = max([*clocks, (known.max if known else 0.0) * 1e6])
    units = {**FLOP_PER_CYCLE, **more}
    return len(clocks) * clock * max(units[name] for name in units if name in flags)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("machine") / "state")


@pytest.fixture(scope="module")
def seen() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def site(home: Home, seen: list[Event]) -> Site:
    return machine.measure(home, seen.append, seconds=0.3)


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="needs Linux to know the nominal peak")
def test_rates_are_within_physical_limits(site: Site) -> None:
    (nodes,) = site.nodes
    found = nodes.measured
    assert found is not None
    assert 1e8 < found.fp32_flop_per_second < 1.3 * nominal_flop_per_second({})
    assert 1e7 < found.bf16_flop_per_second < 1.3 * nominal_flop_per_second(NARROW_FLOP_PER_CYCLE)
    assert 1e8 < found.memory_bytes_per_second < 1.3 * 2 * 614e9, "two sockets of twelve channels of DDR5-6400"
    assert 1e6 < site.storage.write_bytes_per_second < 1.3 * 4 * 16e9, "four drives of 16 lanes each of PCIe 4.0"
    assert 0 <= found.idle_watts < found.power_watts
    assert nodes.device.bf16_flop_per_second >= found.fp32_flop_per_second


def test_it_is_kept_whole_and_says_how_each_value_is_known(home: Home, site: Site) -> None:
    assert machine.here(home) == site
    assert machine.find_site(home, "here") == site
    assert site.sources["nodes.measured"].startswith("measured on 20")
    assert site.sources["nodes.measured.power_watts"].startswith("modelled")
    assert not (home.path / ".disk-test").exists()
    (finding,) = [found for found in examine(home) if found.name == "measured"]
    assert finding.state == "ok"
    assert "GFLOP/s" in finding.detail


def test_progress_is_told_for_each_rate(site: Site, seen: list[Event]) -> None:
    told = {event.step for event in seen if isinstance(event, Progress)}
    assert told == {"matmul float32", "matmul bfloat16", "memory", "disk"}


def test_without_torch_numpy_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "find_spec", lambda name: None)
    found = machine.measure(Home(tmp_path), seconds=0.1).nodes[0].measured
    assert found is not None
    assert found.fp32_flop_per_second > 1e8
    assert found.bf16_flop_per_second == 0.0
    assert machine.here(Home(tmp_path)).nodes[0].measured == found


def test_the_plan_takes_the_measured_numbers(site: Site) -> None:
    (work,) = work_of(load_factory(None)[0])
    (nodes,) = site.nodes
    assert nodes.measured is not None

    def days(**faster: float) -> float:
        measured = nodes.measured.model_copy(update=faster)  # type: ignore[union-attr]
        changed = site.model_copy(update={"nodes": (nodes.model_copy(update={"measured": measured}),)})
        return plan(changed, work, TODAY).answer["days"].mid

    rate, memory = nodes.device.bf16_flop_per_second, nodes.measured.memory_bytes_per_second
    as_measured = days()
    assert days(fp32_flop_per_second=2 * rate, memory_bytes_per_second=2 * memory) == pytest.approx(
        as_measured / 2, rel=0.05
    )
    fp32 = work.model_copy(update={"precision": "fp32"})
    assert plan(site, fp32, TODAY).answer["days"].mid >= as_measured * 0.99


def test_plan_without_a_site_is_for_this_machine(home: Home, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESSEMER_HOME", str(home.path))
    done = CliRunner().invoke(app, ["plan", "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    assert "This machine, measured on" in CliRunner().invoke(app, ["plan"]).stdout
    assert found["site"] == "here"
    assert found["answer"]["days"]["mid"] > 0


def test_what_was_not_measured_or_elsewhere_says_what_to_do(tmp_path: Path, home: Home, site: Site) -> None:
    with pytest.raises(NotFound, match="not been measured") as caught:
        machine.here(Home(tmp_path / "fresh"))
    assert "bessemer doctor --measure" in caught.value.hint
    moved = Home(tmp_path / "moved")
    text = home.machine.read_text().replace(site.sources["processor"], "Another Processor 9000")
    moved.machine.write_text(text)
    with pytest.raises(NotFound, match="Another Processor 9000"):
        machine.here(moved)


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 0))
    with pytest.raises(BessemerError, match="1 GB free"):
        machine.measure(Home(tmp_path), seconds=0.1)
    assert not (tmp_path / "machine.toml").exists()
