"""Ids of requests: in order of time, and not to be guessed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from bessemer.serve.ids import batch_request_id, new_id


def test_ids_begin_with_the_time_and_end_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_790_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    early = [new_id() for _ in range(1000)]
    now += 0.001
    late = [new_id() for _ in range(1000)]
    assert max(early) < min(late)
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", id) for id in early)
    assert {int(id[4:16], 16) for id in early} == {1_790_000_000_000}
    assert len({id[16:] for id in early}) == 1000
    drawn = [int(id[16:], 16) for id in early]
    # Each of the 80 bits is set in about half of them: six standard deviations are 95 of 1,000.
    assert all(400 < sum(value >> bit & 1 for value in drawn) < 600 for bit in range(80))


def test_every_random_digit_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    system = os.urandom

    def draw(size: int) -> bytes:
        drawn.append(system(size))
        return drawn[-1]

    monkeypatch.setattr(os, "urandom", draw)
    ids = [new_id()[16:] for _ in range(2000)]
    known = {block.hex()[at : at + 20] for block in drawn for at in range(0, 2 * len(block), 20)}
    assert 4 <= len(drawn) <= 5
    assert len(set(ids)) == 2000
    assert len(set(ids) - known) < 409, "but for those that were drawn before"


FORKING = """
import os
from bessemer.serve.ids import new_id

print(new_id(), flush=True)  # there are digits ahead, which no child may take
for _ in range(2):
    if not (child := os.fork()):
        print(*(new_id() for _ in range(5)), sep="\\n", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(*(new_id() for _ in range(5)), sep="\\n")
"""


def test_a_forked_worker_draws_others() -> None:
    """In a process of its own: libraries that other tests load here are not made to be forked."""
    told = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True)
    assert len({id[16:] for id in told.stdout.split()}) == 16


def test_the_lines_of_a_batch_lie_together_under_ids_that_stay() -> None:
    ids = [batch_request_id("batch_a", number, attempt) for number in range(500) for attempt in range(2)]
    assert len(set(ids)) == 1000
    assert len({id[:16] for id in ids}) == 1
    assert batch_request_id("batch_a", 3, 1) == batch_request_id("batch_a", 3, 1)
    assert batch_request_id("batch_b", 3, 1)[:16] != ids[0][:16]
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", id) for id in ids)
