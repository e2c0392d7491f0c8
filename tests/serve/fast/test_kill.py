"""kill -9 at any instant: every answer whose last byte reached its client has exactly one usage record.

How many kills is `BESSEMER_KILLS` (some tens by default; each takes about a second); `benchmarks/bench_kills.py` does
a thousand.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .kills import kill_often

KILLS = int(os.environ.get("BESSEMER_KILLS", "24"))


@pytest.mark.slow
@pytest.mark.parametrize(("durability", "kills"), [("interval", KILLS * 2 // 3), ("fsync", KILLS - KILLS * 2 // 3)])
def test_nothing_lost_and_nothing_doubled(tmp_path: Path, durability: str, kills: int) -> None:
    found = kill_often(tmp_path, durability, kills, durability)
    assert found.wrong == {}
    assert found.answers > 5 * kills
