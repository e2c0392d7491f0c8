"""Reads the energy of NVIDIA boards through the driver's own library, without a Python package.

Owns the few calls of NVML that a meter needs. Knows no span and no request.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

from bessemer.core.nouns import Boundary
from bessemer.meter.energy import Energy

COUNTER_ERROR_RATIO = 0.05
"""Bound either way. Source: NVIDIA, NVML API reference, nvmlDeviceGetPowerUsage: accurate to within 5 %."""
SAMPLED_ERROR_RATIO = 0.25
"""Assumed bound for power that was sampled and multiplied by time. Source for why it is wide: Yang, Adamek, Armour,
Part-time Power Measurements, arXiv:2312.02741 (the driver itself looks at a part of the time only)."""

_NAME_BYTES = 96


class Nvml:
    """Reads the total-energy counter of every board (Volta and later), else samples power and integrates it.

    Args:
        library: the driver's library, a name or a path.
        monotonic: gives seconds that never go back.

    Raises:
        OSError: the library is missing, does not start, or sees no board.
    """

    boundary = Boundary.BOARD

    def __init__(self, library: str = "libnvidia-ml.so.1", monotonic: Callable[[], float] = time.monotonic) -> None:
        self._library = ctypes.CDLL(library)
        self._monotonic = monotonic
        self._call("nvmlInit_v2")
        try:
            self._boards = [_Board(self._handle(index), *self._begin(index)) for index in range(self._count())]
            if not self._boards:
                raise OSError("NVML sees no board")
            names = sorted({self._board_name(board.handle) for board in self._boards})
        except OSError:
            self.close()
            raise
        self.name = f"nvml ({len(self._boards)} x {', '.join(names)})"

    def read(self) -> Energy:
        """Return the energy of all boards since this sensor was opened.

        Raises:
            OSError: a board does not answer (NVML's own words are in the message).
        """
        now = self._monotonic()
        for board in self._boards:
            self._advance(board, now)
        counted = sum(board.total for board in self._boards if board.counter)
        sampled = sum(board.total for board in self._boards if not board.counter)
        error = round(counted * COUNTER_ERROR_RATIO + sampled * SAMPLED_ERROR_RATIO)
        total = counted + sampled
        return Energy(measured=total, low=total - error, high=total + error)

    def close(self) -> None:
        """Release the library."""
        self._library.nvmlShutdown()

    def _advance(self, board: _Board, now: float) -> None:
        if board.counter:
            reading = self._energy(board.handle)
            # The counter starts again when the driver is reloaded: what was before is kept, nothing is invented.
            board.total += max(0, reading - board.last)
            board.last = reading
        else:
            watts = self._power_milliwatts(board.handle)
            # Trapezoid between two samples: milliwatts x seconds are millijoules, a thousand microjoules each.
            board.total += round((watts + board.last) / 2 * (now - board.at) * 1000)
            board.last = watts
        board.at = now

    def _begin(self, index: int) -> tuple[int, bool, float]:
        handle = self._handle(index)
        try:
            return self._energy(handle), True, self._monotonic()
        except OSError:
            return self._power_milliwatts(handle), False, self._monotonic()

    def _count(self) -> int:
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return count.value

    def _handle(self, index: int) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return handle

    def _board_name(self, handle: ctypes.c_void_p) -> str:
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("nvmlDeviceGetName", handle, name, ctypes.c_uint(_NAME_BYTES))
        return name.value.decode(errors="replace")

    def _energy(self, handle: ctypes.c_void_p) -> int:
        millijoules = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.byref(millijoules))
        return millijoules.value * 1000

    def _power_milliwatts(self, handle: ctypes.c_void_p) -> int:
        milliwatts = ctypes.c_uint()
        self._call("nvmlDeviceGetPowerUsage", handle, ctypes.byref(milliwatts))
        return milliwatts.value

    def _call(self, function: str, *arguments: object) -> None:
        try:
            code = getattr(self._library, function)(*arguments)
        except AttributeError as error:
            raise OSError(f"{function}: not in this library") from error
        if code:
            say = self._library.nvmlErrorString
            say.restype = ctypes.c_char_p
            raise OSError(f"{function}: {say(code).decode(errors='replace')}")


class _Board:
    __slots__ = ("at", "counter", "handle", "last", "total")

    def __init__(self, handle: ctypes.c_void_p, last: int, counter: bool, at: float) -> None:
        self.handle = handle
        self.last = last
        self.counter = counter
        self.at = at
        self.total = 0
