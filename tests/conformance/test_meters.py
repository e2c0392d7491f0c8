"""What every meter does, with hardware counters or a model behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bessemer.core.errors import Conflict, NotFound
from bessemer.core.nouns import EnergyClass, EntryStatus, Subject, Usage
from bessemer.core.protocols import Meter
from bessemer.meter import MeterConfig, SensorPaths, open_meter

USAGE = Usage(input_tokens=7, output_tokens=3)


def local(sensors: str) -> Callable[[Path], Iterator[Meter]]:
    def opened(folder: Path) -> Iterator[Meter]:
        package = folder / "powercap" / "intel-rapl:0"
        package.mkdir(parents=True)
        for name, content in (("name", "package-0"), ("max_energy_range_uj", str(2**38)), ("energy_uj", "5")):
            (package / name).write_text(content + "\n")
        paths = SensorPaths(powercap=package.parent, nvml="libnot-there.so.1")
        config = MeterConfig.model_validate({"sensors": sensors, "sample_seconds": 60})
        with open_meter(config, folder / "books", paths=paths) as meter:
            yield meter

    return opened


METERS = {"local, counters": local("measured"), "local, modelled": local("model")}


@pytest.fixture(params=METERS)
def meter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Meter]:
    yield from METERS[request.param](tmp_path)


def subject(name: str) -> Subject:
    return Subject(kind="request", id=name, model="m", project="p")


def test_it_is_a_meter(meter: Meter) -> None:
    assert isinstance(meter, Meter)
    assert meter.name


@pytest.mark.parametrize("status", ["ok", "error", "cancelled"])
def test_an_entry_says_what_it_was_for_and_what_it_took(meter: Meter, status: EntryStatus) -> None:
    handle = meter.start(subject("one"))
    time.sleep(0.02)
    entry = meter.stop(handle, USAGE, status)
    assert (entry.subject, entry.usage, entry.status) == (subject("one"), USAGE, status)
    found = entry.measurement
    assert found.seconds >= 0.02
    assert 0 <= found.joules_low <= found.joules <= found.joules_high
    assert found.source and found.energy_class in EnergyClass
    assert entry.carbon.grams >= 0 and entry.price_version


def test_an_entry_is_on_disk_when_stop_returns(meter: Meter, tmp_path: Path) -> None:
    entry = meter.stop(meter.start(subject("kept-at-once")), USAGE)
    files = [path for path in (tmp_path / "books").rglob("*") if path.is_file()]
    assert any(entry.id.encode() in path.read_bytes() for path in files)


def test_spans_overlap_and_each_is_booked_for_its_own(meter: Meter) -> None:
    handles = {name: meter.start(subject(name)) for name in ("a", "b", "c")}
    assert len(set(handles.values())) == 3
    for name in ("b", "c", "a"):
        assert meter.stop(handles[name], USAGE).subject.id == name


def test_a_span_is_booked_once(meter: Meter) -> None:
    handle = meter.start(subject("one"))
    with pytest.raises(Conflict):
        meter.start(subject("one"))
    meter.stop(handle, USAGE)
    with pytest.raises(Conflict):
        meter.stop(handle, USAGE)
    with pytest.raises(NotFound):
        meter.stop("nobody gave this", USAGE)
