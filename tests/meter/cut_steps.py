"""Processes that stream, or that book what others left of streams, and are killed at each of their steps in turn.

    python cut_steps.py stream FOLDER     FOLDER/call-0, FOLDER/line-0, …: streams, killed at the step of that number
    python cut_steps.py book FOLDER LEFT  the same of booking what is in copies of LEFT; each is killed twice

A step is a call that asks the system for something that outlives the process (one that writes writes half), or some
lines of the meter's code. The last folder of each kind is that of a process that got through; it was killed then.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from bessemer.core.forwarding import Spent
from bessemer.core.nouns import Subject, Usage
from bessemer.meter import LocalMeter, MeterConfig, open_meter

CALLS = ("open", "write", "pwrite", "fsync", "rename", "unlink", "ftruncate")
_write, _open = os.write, os.open


Kill = Callable[[int], None]
LINES = 5
TRACED = ("kept.py", "cut.py", "batch.py", "journal.py", "local.py")


def at_call(step: int) -> None:
    """Let this process end with SIGKILL at a call; one that writes writes half."""
    steps = count()

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **options: Any) -> Any:
            if next(steps) == step:
                if name == "write":
                    _write(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return asked

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def at_line(step: int) -> None:
    """Let this process end with SIGKILL before a line of the meter's; of these every fifth is a step."""
    lines = count()

    def traced(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(TRACED):
            return None
        if event == "line" and next(lines) == step * LINES:
            os.kill(os.getpid(), signal.SIGKILL)
        return traced

    sys.settrace(traced)


def stream(folder: Path, step: int, kill: Kill) -> None:
    """Stream on both ways, book one of each, and write down what had left and what was booked."""
    log = _open(folder / "said", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    meter = open_meter(MeterConfig(sensors="model", durability="fsync", sample_seconds=60), folder / "books")
    kill(step)
    for name in ("a", "b"):
        bytes_way(meter, name, log)
        span_way(meter, f"{name}-span", log)


def bytes_way(meter: LocalMeter, name: str, log: int) -> None:
    spent = Spent(name, "p", "k", "m")
    meter.batch.begin(spent)
    kept = meter.batch.keep(spent, (5, 50))
    for tokens in (1, 2, 3):
        kept[0] = tokens
        _write(log, f"sent {name} {tokens}\n".encode())
    if name == "a":
        spent.usage, spent.status = (5, 4, 0), "ok"
        meter.batch.book([spent])
        _write(log, f"booked {name} 4\n".encode())


def span_way(meter: LocalMeter, name: str, log: int) -> None:
    handle = meter.start(Subject(kind="request", id=name, project="p", key_id="k", model="m", service_tier="flex"))
    keep = meter.keep(handle)
    for tokens in (1, 2, 3):
        keep(Usage(input_tokens=5, output_tokens=tokens))
        _write(log, f"sent {name} {tokens}\n".encode())
    if name.startswith("a"):
        meter.stop(handle, Usage(input_tokens=5, output_tokens=4))
        _write(log, f"booked {name} 4\n".encode())


def book(folder: Path, step: int, kill: Kill) -> None:
    """Book what was left."""
    meter = open_meter(MeterConfig(sensors="model", durability="fsync", sample_seconds=60), folder / "books")
    kill(step)
    meter.book_cut()


def forked(work: Callable[[Path, int, Kill], None], folder: Path, step: int, kill: Kill) -> bool:
    """Work in a child that is killed at a step; return whether it got through before."""
    through = folder / "through"
    child = os.fork()
    if not child:
        try:
            work(folder, step, kill)
            through.touch()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return through.exists()


def main(what: str, folder: Path, left: Path | None) -> None:
    for kill in (at_call, at_line):
        for step in count():
            place = folder / f"{kill.__name__.removeprefix('at_')}-{step}"
            if left:
                shutil.copytree(left, place)
            else:
                place.mkdir()
            if forked(book if left else stream, place, step, kill):
                break
            if left:
                forked(book, place, step // 2, kill)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
