"""A database of several processes may be opened by all of them at the first moment."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bessemer.meter.database import _use_wal
from bessemer.serve.database import use_wal

UseWal = Callable[[sqlite3.Connection], None]


def opened(path: Path, timeout_seconds: float) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=timeout_seconds, isolation_level=None, check_same_thread=False)


@pytest.mark.parametrize("use_wal", [use_wal, _use_wal])
def test_who_comes_while_another_has_the_file_waits_for_it(tmp_path: Path, use_wal: UseWal) -> None:
    first, second = (opened(tmp_path / "new.sqlite", 10) for _ in range(2))
    first.execute("BEGIN EXCLUSIVE")
    first.execute("CREATE TABLE t (x)")
    timer = threading.Timer(0.3, lambda: first.execute("COMMIT"))
    timer.start()
    use_wal(second)
    assert second.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    timer.join()
    first.close()
    second.close()


@pytest.mark.parametrize("use_wal", [use_wal, _use_wal])
def test_who_never_gets_it_is_told(tmp_path: Path, use_wal: UseWal) -> None:
    first, second = (opened(tmp_path / "new.sqlite", 0.1) for _ in range(2))
    first.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_wal(second)
    first.close()
    second.close()
