"""kill -9 while booking: every entry whose id was told is in the ledger, exactly once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bessemer.meter import open_ledger, verify
from tests.programs import program

BOOK_FOREVER = """
import sys, threading
from pathlib import Path
from bessemer.core.nouns import Subject, Usage
from bessemer.meter import MeterConfig, open_meter

folder, name, durability = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
meter = open_meter(MeterConfig(durability=durability), folder)
tell = threading.Lock()

def work(thread):
    number = 0
    while True:
        number += 1
        handle = meter.start(Subject(kind="request", id=f"{name}-{thread}-{number}", model="m"))
        entry = meter.stop(handle, Usage(input_tokens=3, output_tokens=2))
        with tell:
            sys.stdout.write(entry.id + "\\n")
            sys.stdout.flush()

for thread in range(3):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
threading.Event().wait()
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(("durability", "rounds"), [("fsync", 2), ("interval", 1)])
def test_killed_at_random(tmp_path: Path, stack: ExitStack, durability: str, rounds: int) -> None:
    chance = random.Random(durability)
    told: list[str] = []
    for round_number in range(rounds):
        children = [_start(stack, tmp_path, f"{round_number}{name}", durability) for name in "ab"]
        outputs = [child.stdout for child in children]
        first = [out.readline() for out in outputs if out]  # both are booking now
        time.sleep(chance.uniform(0.05, 0.4))
        for child in children:
            child.kill()
        for child, line in zip(children, first, strict=True):
            rest, _ = child.communicate()
            told += (line + rest).split("\n")[:-1]  # a last line without its end was not told
            assert child.returncode == -9
    assert len(told) == len(set(told)) > 20
    ledger = open_ledger(tmp_path)
    booked = [entry.id for entry in ledger.entries(limit=-1)]
    assert set(told) <= set(booked)
    assert len(booked) == len(set(booked))
    # Between the booking and the telling at most one entry of each thread can be.
    assert len(booked) - len(told) <= 3 * 2 * rounds
    total = ledger.totals()[0]
    assert total.usage.output_tokens == 2 * len(booked)
    assert verify(tmp_path / "journal").records == len(booked)


def _start(stack: ExitStack, folder: Path, name: str, durability: str) -> subprocess.Popen[str]:
    return stack.enter_context(program([sys.executable, "-c", BOOK_FOREVER, str(folder), name, durability]))


def test_the_room_imports_light() -> None:
    code = (
        "import sys, bessemer.meter; "
        "heavy = {'torch','numpy','pyarrow','transformers','openvino','starlette'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
