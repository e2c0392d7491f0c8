"""Which requests hold money in a process, written where a kill leaves it: what a dead process held is settled by it.

    workers/<worker>.slate   64 bytes a request: its id, which budgets it counts to, when it was settled
    workers/<worker>.sets    which budgets: a line of JSON for each set of them

The slate is memory that the kernel keeps when the process dies, so that a request is entered in a microsecond and
without a system call. A settled request carries the number of the round by which the database is told; the database
keeps the number of the last round that it took in, so that after a kill between both it is known what was told.

It is not waited for the disk: after a power loss a slate is not believed (see `is_believed`). Where the system does not
name the time since it was switched on (Linux does), a slate is believed always.

Owns the files. Knows no money.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bessemer.serve.accounts.bells import shared_memory

Spans = tuple[tuple[str, str], ...]
"""Budgets and the spans of their periods."""

_SLOT_BYTES = 64
_ID_BYTES = 40
_SLOTS = 32_768
_FREE = bytes(_ID_BYTES)
_MARKS = struct.Struct("<QQ")
"""Of a slot, after the id: the round by which it was settled (0: it was not), and the number of its set."""


class Slate:
    """The slate of this process.

    Args:
        folder: of the workers.
        worker: id of this process.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        self._path, self._sets_path = _paths(folder, worker)
        self._numbers: dict[Spans, int] = {}
        self._sets = os.open(self._sets_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        file = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            self._memory = shared_memory(file, _SLOTS * _SLOT_BYTES)
        finally:
            os.close(file)
        self._free = list(range((_SLOTS - 1) * _SLOT_BYTES, -1, -_SLOT_BYTES))

    def number(self, spans: Spans) -> int:
        """Return the number of a set of budgets, which is written down first."""
        if spans not in self._numbers:
            os.write(self._sets, json.dumps(spans).encode() + b"\n")
            self._numbers[spans] = len(self._numbers)
        return self._numbers[spans]

    def enter(self, id: str, number: int) -> int:
        """Enter a request and return its place; there must be room, and an id has 40 characters at most."""
        name = id.encode()
        if len(name) > _ID_BYTES:
            raise ValueError(f"the id {id} is too long")
        place, memory = self._free.pop(), self._memory
        _MARKS.pack_into(memory, place + _ID_BYTES, 0, number)
        memory[place : place + len(name)] = name  # last: a slot without an id is free
        return place

    def settle(self, place: int, round: int) -> None:
        """Note by which round the database will be told what a request was charged."""
        self._memory[place + _ID_BYTES : place + _ID_BYTES + 8] = round.to_bytes(8, "little")

    def wipe(self, places: Sequence[int]) -> None:
        """Make room: the database was told."""
        for place in places:
            self._memory[place : place + _ID_BYTES] = _FREE
        self._free += places

    @property
    def is_full(self) -> bool:
        """Whether there is no room."""
        return not self._free

    def close(self, keep: bool) -> None:
        """Close the files, and remove them unless others have to settle what is in them."""
        self._memory.close()
        os.close(self._sets)
        if not keep:
            for path in (self._path, self._sets_path):
                path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Left:
    """What a dead process left on its slate: a request that the database was not told of, and what it counts to."""

    id: str
    spans: Spans


def read_slate(folder: Path, worker: str, told_round: int) -> list[Left] | None:
    """Return what is left on the slate of a dead process; None if there is no slate.

    Args:
        folder: of the workers.
        worker: id of the process.
        told_round: the last round that the database took in.
    """
    path, sets_path = _paths(folder, worker)
    try:
        slots, lines = path.read_bytes(), sets_path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    sets = [tuple((budget, span) for budget, span in json.loads(line)) for line in lines]
    left = []
    for place in range(0, len(slots), _SLOT_BYTES):
        if slots[place] and (found := _left(slots[place : place + _SLOT_BYTES], sets, told_round)):
            left.append(found)
    return left


def remove_slate(folder: Path, worker: str) -> None:
    """Remove the slate of a dead process of which everything is settled."""
    for path in _paths(folder, worker):
        path.unlink(missing_ok=True)


def boot() -> str:
    """Return the name of the time since this machine was switched on; empty where the system gives it none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def is_believed(written: str) -> bool:
    """Whether slates of a time are whole: it is this one, so the memory that they were written to was never lost."""
    return written == boot()


def _left(slot: bytes, sets: Sequence[Spans], told_round: int) -> Left | None:
    round, number = _MARKS.unpack_from(slot, _ID_BYTES)
    if 0 < round <= told_round:
        return None
    return Left(slot[:_ID_BYTES].rstrip(b"\0").decode("ascii", "replace"), sets[number])


def _paths(folder: Path, worker: str) -> tuple[Path, Path]:
    return folder / f"{worker}.slate", folder / f"{worker}.sets"
