"""RAPL and the model, reading real files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Boundary
from bessemer.meter import MeterConfig, SensorPaths, detect_sensors, open_meter
from bessemer.meter.processor import Processor, memory_bytes, power_model, read_processor
from bessemer.meter.sensors import ModelSensor, Rapl, open_sensors

from .conftest import Machine


def test_packages_are_summed_and_their_parts_left_out(machine: Machine) -> None:
    first, second = machine.add_package(0, 1_000), machine.add_package(1, 7_000)
    for name in ("intel-rapl:0:0", "intel-rapl:2", "intel-rapl-mmio:0"):
        folder = machine.powercap / name
        folder.mkdir()
        (folder / "name").write_text("package-0" if "mmio" in name else "psys" if name.endswith("2") else "core")
        (folder / "energy_uj").write_text("5")
        (folder / "max_energy_range_uj").write_text("1000")
    sensor = Rapl(machine.powercap)
    first.write_text("1500")
    second.write_text("9000")
    assert sensor.read().measured == 2_500
    assert sensor.boundary is Boundary.CHIP


def test_a_counter_that_wraps_goes_on(machine: Machine) -> None:
    counter = machine.add_package(0, 990, wrap=999)
    sensor = Rapl(machine.powercap)
    counter.write_text("5")  # 990 .. 999 is 9 steps, 999 -> 0 one, 0 .. 5 five
    assert sensor.read().measured == 15
    counter.write_text("6")
    assert sensor.read().measured == 16


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Give up root's rights for a while, where the tests run as root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_counter_that_may_not_be_read_is_reported_with_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        machine = Machine(root)
        machine.add_package(0).chmod(0)
        with ordinary_user():
            rapl = {info.name: info for info in detect_sensors(machine.paths)}["rapl"]
            assert [type(s) for s in open_sensors(machine.paths)] == [ModelSensor]
    assert not rapl.available
    assert "permission denied" in rapl.reason and "energy_uj" in rapl.reason
    assert "chmod" in rapl.hint


def test_detection_says_what_is_there_and_what_is_not(machine: Machine) -> None:
    found = {info.name: info for info in detect_sensors(machine.paths)}
    assert [name for name, info in found.items() if info.available] == ["model"]
    assert all(info.reason and info.hint for info in found.values() if not info.available)
    assert "epyc-milan" in found["model"].detail
    machine.add_package(0)
    assert {info.name: info.available for info in detect_sensors(machine.paths)}["rapl"]


def test_a_counter_replaces_the_model(machine: Machine) -> None:
    assert [type(s) for s in open_sensors(machine.paths)] == [ModelSensor]
    machine.add_package(0)
    assert [type(s) for s in open_sensors(machine.paths)] == [Rapl]
    assert [type(s) for s in open_sensors(machine.paths, model_only=True)] == [ModelSensor]


def test_measured_only_is_refused_where_nothing_measures(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no hardware counter"):
        open_meter(MeterConfig(sensors="measured"), tmp_path / "m", paths=machine.paths)


def test_a_virtual_machine_gets_its_share_of_the_socket(machine: Machine) -> None:
    processor = read_processor(machine.proc)
    assert processor == Processor("AMD EPYC 7B13", "AuthenticAMD", "25", "1", 2, 1, virtual=True)
    model = power_model(processor, memory_bytes(machine.proc))
    assert model.name == "epyc-milan"
    assert model.full_watts.value == pytest.approx(240 * 2 / 128)
    assert model.memory_watts.value == pytest.approx(0.392 * 8.192)


def test_the_model_is_linear_between_idle_and_full(machine: Machine) -> None:
    model = power_model(read_processor(machine.proc), 0)
    idle, full = model.energy(10, 0), model.energy(10, 20)
    assert idle.modelled == pytest.approx(model.idle_watts.value * 10e6, abs=1)
    assert full.modelled == pytest.approx(model.full_watts.value * 10e6, abs=1)
    half = model.energy(10, 10)
    assert half.modelled == pytest.approx((idle.modelled + full.modelled) / 2, abs=1)
    assert half.low < half.modelled < half.high
    assert model.energy(10, 1000) == full  # no more than all processors all the time


def test_the_model_sensor_follows_the_busy_time_and_never_falls(machine: Machine) -> None:
    now = 50.0
    machine.set_busy(1000)
    sensor = ModelSensor(machine.proc, lambda: now)
    now += 4
    machine.set_busy(1000 + 400)  # 400 ticks are 4 s of work
    energy = sensor.read()
    assert energy == sensor.model.energy(4, 4)
    machine.set_busy(1000 + 399)
    assert sensor.read() == energy


@pytest.mark.parametrize(
    ("processor", "row"),
    [
        (Processor("AMD EPYC", "AuthenticAMD", "26", "2", 8, 1, virtual=True), "epyc-turin"),
        (Processor("AMD EPYC 9R14", "AuthenticAMD", "25", "17", 8, 1, virtual=True), "epyc-genoa"),
        (Processor("AMD Ryzen 9 5950X 16-Core Processor", "AuthenticAMD", "25", "33", 32, 1, False), "ryzen-desktop"),
        (Processor("AMD Ryzen 7 5800H with Radeon", "AuthenticAMD", "25", "80", 16, 1, False), "ryzen-laptop"),
        (Processor("Intel(R) Xeon(R) CPU @ 2.20GHz", "GenuineIntel", "6", "79", 2, 1, True), "xeon-broadwell"),
        (Processor("Intel(R) Xeon(R) Platinum 8481C", "GenuineIntel", "6", "143", 4, 1, True), "xeon-sapphire-rapids"),
        (Processor("13th Gen Intel(R) Core(TM) i9-13900K", "GenuineIntel", "6", "183", 32, 1, False), "core-desktop"),
        (
            Processor("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", "GenuineIntel", "6", "140", 8, 1, False),
            "core-laptop",
        ),
        (Processor("", "0x41", "", "0xd40", 4, 1, virtual=True), "neoverse-v1"),
        (Processor("Apple arm64", "", "", "", 8, 1, virtual=False), "apple"),
        (Processor("QEMU Virtual CPU version 2.5+", "GenuineIntel", "15", "107", 2, 1, virtual=True), "intel"),
        (Processor("", "", "", "", 4, 1, virtual=False), "unknown"),
    ],
)
def test_processors_find_their_row(processor: Processor, row: str) -> None:
    model = power_model(processor, 0)
    assert model.name == row
    assert 0 < model.idle_watts.low <= model.idle_watts.value <= model.idle_watts.high
    assert model.idle_watts.value < model.full_watts.value
    assert model.full_watts.low <= model.full_watts.value <= model.full_watts.high
    assert model.source


def test_this_machine_can_be_metered() -> None:
    sensor = open_sensors(SensorPaths(), model_only=True)[0]
    first = sensor.read()
    sum(i * i for i in range(300_000))
    assert sensor.read().total > first.total
    assert any(info.available for info in detect_sensors())
