"""NVML through a real shared library, compiled here, with the driver's calls."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer.core.nouns import Boundary, EnergyClass, Usage
from bessemer.meter import MeterConfig, SensorPaths, open_meter
from bessemer.meter.nvml import Nvml

from .conftest import Machine, request_subject

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler to build the library with")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("nvml") / "libfake-nvml.so"
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", str(out), str(source)], check=True)
    return out


@pytest.fixture
def fake(library: Path) -> Iterator[ctypes.CDLL]:
    loaded = ctypes.CDLL(str(library))
    loaded.fake_set.argtypes = [ctypes.c_int, ctypes.c_ulonglong, ctypes.c_uint]
    loaded.fake_mode(2, 1, 0)
    loaded.fake_set(0, 1000, 100_000)
    loaded.fake_set(1, 5000, 200_000)
    yield loaded
    loaded.fake_mode(2, 1, 0)


def test_counters_of_all_boards_are_summed(library: Path, fake: ctypes.CDLL) -> None:
    sensor = Nvml(str(library))
    assert sensor.read().total == 0
    fake.fake_set(0, 1700, 0)
    fake.fake_set(1, 5300, 0)
    energy = sensor.read()
    assert energy.measured == 1_000_000  # 700 mJ + 300 mJ
    assert energy.low < energy.measured < energy.high
    assert "2 x Fake H100" in sensor.name


def test_a_counter_that_starts_again_loses_and_invents_nothing(library: Path, fake: ctypes.CDLL) -> None:
    sensor = Nvml(str(library))
    fake.fake_set(0, 3000, 0)
    assert sensor.read().measured == 2_000_000
    fake.fake_set(0, 0, 0)
    assert sensor.read().measured == 2_000_000
    fake.fake_set(0, 500, 0)
    assert sensor.read().measured == 2_500_000


def test_without_a_counter_power_is_integrated(library: Path, fake: ctypes.CDLL) -> None:
    fake.fake_mode(1, 0, 0)
    clock = Clock()
    sensor = Nvml(str(library), clock)
    clock.now += 2
    fake.fake_set(0, 0, 300_000)  # from 100 W to 300 W in two seconds: 400 J
    energy = sensor.read()
    assert energy.measured == 400_000_000
    assert energy.high - energy.low > 0.4 * energy.measured


def test_a_lost_board_and_no_board_are_errors_in_the_drivers_words(library: Path, fake: ctypes.CDLL) -> None:
    sensor = Nvml(str(library))
    fake.fake_mode(2, 1, 15)
    with pytest.raises(OSError, match="GPU is lost"):
        sensor.read()
    with pytest.raises(OSError, match="GPU is lost"):
        Nvml(str(library))
    fake.fake_mode(0, 1, 0)
    with pytest.raises(OSError, match="no board"):
        Nvml(str(library))


@pytest.mark.usefixtures("fake")
def test_a_library_that_is_not_nvml_is_an_error() -> None:
    with pytest.raises(OSError, match="nvmlInit_v2"):
        Nvml("libm.so.6")


def _meter_paths(machine: Machine, library: Path) -> SensorPaths:
    return SensorPaths(powercap=machine.powercap, proc=machine.proc, nvml=str(library))


def test_alone_on_counters_is_measured_and_together_attributed(
    library: Path, fake: ctypes.CDLL, machine: Machine, tmp_path: Path
) -> None:
    config = MeterConfig(sensors="measured", sample_seconds=60)
    with open_meter(config, tmp_path / "m", paths=_meter_paths(machine, library)) as meter:
        alone = meter.start(request_subject("alone"))
        fake.fake_set(0, 2000, 0)
        entry = meter.stop(alone, Usage())
        assert entry.measurement.energy_class is EnergyClass.MEASURED
        assert entry.measurement.boundary is Boundary.BOARD
        assert entry.measurement.joules == 1.0
        first, second = meter.start(request_subject("a")), meter.start(request_subject("b"))
        fake.fake_set(0, 2003, 0)
        entries = [meter.stop(first, Usage()), meter.stop(second, Usage())]
        assert [e.measurement.energy_class for e in entries] == [EnergyClass.ATTRIBUTED] * 2
        assert [e.measurement.joules for e in entries] == [0.0015, 0.0015]


def test_a_board_beside_a_modelled_processor_is_called_modelled(
    library: Path, fake: ctypes.CDLL, machine: Machine, tmp_path: Path
) -> None:
    with open_meter(MeterConfig(), tmp_path / "m", paths=_meter_paths(machine, library)) as meter:
        handle = meter.start(request_subject("mixed"))
        fake.fake_set(1, 6000, 0)
        measurement = meter.stop(handle, Usage()).measurement
    assert measurement.energy_class is EnergyClass.MODELLED
    assert measurement.boundary is Boundary.HOST
    assert "Fake H100" in measurement.source and "epyc-milan" in measurement.source
    assert measurement.joules > 1.0


def test_a_board_that_is_lost_does_not_stop_the_booking(
    library: Path, fake: ctypes.CDLL, machine: Machine, tmp_path: Path
) -> None:
    config = MeterConfig(sensors="measured", sample_seconds=60)
    with open_meter(config, tmp_path / "m", paths=_meter_paths(machine, library)) as meter:
        handle = meter.start(request_subject("r"))
        fake.fake_mode(2, 1, 15)
        entry = meter.stop(handle, Usage(input_tokens=5))
    assert entry.measurement.energy_class is EnergyClass.ASSUMED
    assert "failed" in entry.measurement.source
