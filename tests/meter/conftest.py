from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer.core.nouns import Subject
from bessemer.meter import SensorPaths, compare_readings

CPUINFO_VM = """processor\t: {index}
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC 7B13
physical id\t: 0
flags\t\t: fpu sse hypervisor avx2

"""


class Machine:
    """A machine made of files: what sensors would find under /proc and /sys, to be changed by a test."""

    def __init__(self, root: Path, threads: int = 2) -> None:
        self.proc = root / "proc"
        self.powercap = root / "powercap"
        self.proc.mkdir()
        self.powercap.mkdir()
        (self.proc / "cpuinfo").write_text("".join(CPUINFO_VM.format(index=i) for i in range(threads)))
        (self.proc / "meminfo").write_text("MemTotal:        8000000 kB\nMemFree: 1 kB\n")
        self._other = 500
        self.set_busy(0)

    @property
    def paths(self) -> SensorPaths:
        return SensorPaths(powercap=self.powercap, proc=self.proc, nvml="libnot-there.so.1")

    def set_busy(self, ticks: int) -> None:
        """Set the work since boot, in hundredths of a second; idle, waiting and stolen time go on as well."""
        self._other += 77
        idle = self._other
        user, nice, system = ticks // 2, ticks // 4, ticks - ticks // 2 - ticks // 4
        (self.proc / "stat").write_text(f"cpu  {user} {nice} {system} {idle} {idle} 0 0 {idle} 9 9\ncpu0 1 1 1 1 1\n")

    def add_package(self, number: int, microjoules: int = 0, wrap: int = 262_143_328_850) -> Path:
        folder = self.powercap / f"intel-rapl:{number}"
        folder.mkdir()
        (folder / "name").write_text(f"package-{number}\n")
        (folder / "max_energy_range_uj").write_text(f"{wrap}\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        return folder / "energy_uj"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root = tmp_path / "machine"
    root.mkdir()
    return Machine(root)


def request_subject(name: str, **fields: str) -> Subject:
    return Subject(kind="request", id=name, **{"model": "m", "project": "p", **fields})


@pytest.fixture(autouse=True)
def agreed(tmp_path: Path) -> Iterator[None]:
    """Hold every meter of these tests against its own readings, whatever a test did to it."""
    yield
    for folder in {path.parent.parent for path in tmp_path.rglob("readings/*.jsonl")}:
        assert compare_readings(folder / "readings", folder / "journal").drifts == []
