"""Where joules are read: the processor's counters (Linux powercap), and the power model where there are none.

A sensor gives its cumulative energy since it was opened. The graphics processor's sensor is in `nvml.py`. Owns opening
and detection. Knows no span and no request.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from bessemer.core.nouns import Boundary
from bessemer.meter.energy import Energy
from bessemer.meter.nvml import Nvml
from bessemer.meter.processor import PowerModel, memory_bytes, power_model, read_processor

RAPL_ERROR_RATIO = 0.05
"""Assumed bound either way for package energy from Haswell and Zen on. Source: Khan et al., RAPL in Action, ACM
TOMPECS 3(2), 2018, found it to follow the wall meter closely; no vendor states an accuracy."""

_BUSY = (0, 1, 2, 5, 6)
"""Columns of ``/proc/stat`` that are work: user, nice, system, irq, softirq. Guest time is inside user; stolen time is
another machine's work."""
_TICKS_PER_SECOND = 100
"""Unit of ``/proc/stat``. Source: Linux, USER_HZ, 100 on all supported architectures; see proc_stat(5)."""


class Sensor(Protocol):
    """Counts energy. `read` raises OSError when the hardware does not answer."""

    name: str
    boundary: Boundary

    def read(self) -> Energy:
        """Return the energy since this sensor was opened; it never decreases."""
        ...

    def close(self) -> None:
        """Release the hardware."""
        ...


@dataclass(frozen=True, slots=True)
class SensorInfo:
    """One sensor as ``doctor`` shows it.

    Attributes:
        detail: what it would read, or what was found.
        reason: why it is not available, or empty.
        hint: what to do about that, or empty.
    """

    name: str
    available: bool
    boundary: Boundary
    detail: str
    reason: str = ""
    hint: str = ""


@dataclass(slots=True)
class _Domain:
    path: Path
    range_microjoules: int
    last: int
    total: int = 0

    def read(self) -> int:
        now = _read_int(self.path / "energy_uj")
        step = now - self.last
        # The counter starts again at zero after its range; one wrap is told apart only if it is read often enough.
        self.total += step if step >= 0 else step + self.range_microjoules + 1
        self.last = now
        return self.total


def _read_int(path: Path) -> int:
    text = path.read_text()
    try:
        return int(text)
    except ValueError as error:
        raise OSError(f"{path} says {text!r} where a number should be") from error


class Rapl:
    """Reads the energy counters of the processor packages (not their cores, memory or the platform: those overlap).

    Source: Linux, Documentation/power/powercap/powercap.rst; Intel SDM volume 3B, 16.10 (energy counters wrap).

    Args:
        root: the powercap folder.

    Raises:
        OSError: there is no package domain, or it may not be read.
    """

    boundary = Boundary.CHIP

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        folders = [path for path in sorted(root.glob("intel-rapl:*")) if re.fullmatch(r"intel-rapl:\d+", path.name)]
        packages = [path for path in folders if (path / "name").read_text().startswith("package")]
        if not packages:
            raise FileNotFoundError(f"no package domain in {root}")
        self._domains = [
            _Domain(path, _read_int(path / "max_energy_range_uj"), _read_int(path / "energy_uj")) for path in packages
        ]
        self.name = f"rapl ({len(packages)} package{'s' if len(packages) > 1 else ''})"

    def read(self) -> Energy:
        """Return the energy of all packages since this sensor was opened."""
        total = sum(domain.read() for domain in self._domains)
        return Energy(
            measured=total, low=round(total * (1 - RAPL_ERROR_RATIO)), high=round(total * (1 + RAPL_ERROR_RATIO))
        )

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class ModelSensor:
    """Models the energy of processor and memory from how busy the system was.

    Args:
        proc: the ``/proc`` folder.
        monotonic: gives seconds that never go back.
    """

    boundary = Boundary.HOST

    def __init__(self, proc: Path = Path("/proc"), monotonic: Callable[[], float] = time.monotonic) -> None:
        self._proc = proc
        self._monotonic = monotonic
        processor = read_processor(proc)
        self.model: PowerModel = power_model(processor, memory_bytes(proc))
        self.name = f"model ({self.model.name}, {processor.threads} threads, memory)"
        self._began = monotonic()
        self._busy = busy_seconds(proc)
        self._last = Energy()

    def read(self) -> Energy:
        """Return the modelled energy since this sensor was opened."""
        energy = self.model.energy(self._monotonic() - self._began, busy_seconds(self._proc) - self._busy)
        # /proc/stat can step back by a tick when a processor goes offline: a cumulative counter must not.
        self._last = Energy(
            modelled=max(energy.modelled, self._last.modelled),
            low=max(energy.low, self._last.low),
            high=max(energy.high, self._last.high),
        )
        return self._last

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def busy_seconds(proc: Path = Path("/proc")) -> float:
    """Return for how long all processors together were busy since boot."""
    try:
        first = (proc / "stat").read_text().partition("\n")[0].split()[1:]
    except OSError:  # not Linux
        times = psutil.cpu_times()
        return float(sum(times) - times.idle)
    try:
        return sum(int(first[column]) for column in _BUSY) / _TICKS_PER_SECOND
    except (ValueError, IndexError) as error:
        raise OSError(f"{proc / 'stat'} does not read as it should") from error


@dataclass(frozen=True, slots=True)
class SensorPaths:
    """Where sensors are looked for; tests name other places."""

    powercap: Path = Path("/sys/class/powercap")
    proc: Path = Path("/proc")
    nvml: str = "libnvidia-ml.so.1"


def open_sensors(paths: SensorPaths, *, measured_only: bool = False, model_only: bool = False) -> list[Sensor]:
    """Return what this machine can be metered with: hardware counters, and the model for a processor without one.

    Args:
        paths: where to look.
        measured_only: leave the model out; the list may be empty.
        model_only: leave the hardware out.
    """
    if model_only:
        return [ModelSensor(paths.proc)]
    found: list[Sensor] = []
    with contextlib.suppress(OSError):  # detect_sensors() says why; a machine without one is metered without it
        found.append(Nvml(paths.nvml))
    try:
        found.append(Rapl(paths.powercap))
    except OSError:
        if not measured_only:
            found.append(ModelSensor(paths.proc))
    return found


def detect_sensors(paths: SensorPaths = SensorPaths()) -> list[SensorInfo]:
    """Return each sensor with whether it can be read here, why not, and what to do about it."""
    model = ModelSensor(paths.proc).model
    watts = (
        f"{model.idle_watts.value:.3g} to {model.full_watts.value:.3g} W and {model.memory_watts.value:.3g} W memory"
    )
    return [
        _detect_nvml(paths.nvml),
        _detect_rapl(paths.powercap),
        SensorInfo("model", available=True, boundary=Boundary.HOST, detail=f"{model.name}: {watts}"),
    ]


def _detect_nvml(library: str) -> SensorInfo:
    try:
        nvml = Nvml(library)
    except OSError as error:
        return SensorInfo(
            "nvml",
            available=False,
            boundary=Boundary.BOARD,
            detail="NVIDIA graphics processors",
            reason=str(error),
            hint="Nothing to do without an NVIDIA card; with one, install its driver (nvidia-smi must work).",
        )
    name = nvml.name
    nvml.close()
    return SensorInfo("nvml", available=True, boundary=Boundary.BOARD, detail=name)


def _detect_rapl(root: Path) -> SensorInfo:
    detail, reason, hint = "processor packages", "", ""
    try:
        detail = Rapl(root).name
    except PermissionError as error:
        reason = f"permission denied: {error.filename}"
        hint = f"Let this user read it: sudo chmod a+r {root}/intel-rapl:*/energy_uj (until the next boot)."
    except OSError as error:
        reason = str(error)
        hint = "Virtual machines rarely have it; on bare metal load the module: sudo modprobe intel_rapl_msr."
    return SensorInfo("rapl", not reason, Boundary.CHIP, detail, reason, hint)
