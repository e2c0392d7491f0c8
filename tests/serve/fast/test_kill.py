"""kill -9 at any instant: every answer whose last byte reached its client has exactly one usage record.

So has every stream that was cut, for no less than its client had and no more than its engine counted. And what the
accounts say is spent of each budget is the sum of the charges in the books, within the limit, with nothing reserved.

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
@pytest.mark.parametrize(
    ("durability", "kills", "workers"), [("interval", KILLS * 2 // 3, 1), ("fsync", KILLS - KILLS * 2 // 3, 2)]
)
def test_nothing_lost_and_nothing_doubled(tmp_path: Path, durability: str, kills: int, workers: int) -> None:
    found = kill_often(tmp_path, durability, kills, durability, workers)
    assert found.wrong == {}
    assert found.answers > 5 * kills
    assert found.cut > kills
    assert found.again or kills < 8
    assert found.refused > kills, "a budget was spent, and spent again when it was raised"
