"""The newest complete checkpoint wins, and an attempt that was overtaken cannot supersede a newer one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.core.errors import Cancelled
from bessemer.core.protocols import Checkpoints
from bessemer.flow.attempt import FolderCheckpoints


def attempt(root, fence, check=lambda: None):
    return FolderCheckpoints(root / "checkpoints", root / f"attempt-{fence}", fence, check)


def save(checkpoints, text):
    with checkpoints.save() as folder:
        (folder / "state").write_text(text)


def latest(checkpoints):
    found = checkpoints.latest()
    return found and (found / "state").read_text()


def test_it_is_what_core_asks_for(tmp_path):
    assert isinstance(attempt(tmp_path, 1), Checkpoints)
    assert attempt(tmp_path, 1).latest() is None


def test_an_unfinished_or_cancelled_checkpoint_is_not_one(tmp_path):
    first = attempt(tmp_path, 1)
    save(first, "whole")
    with pytest.raises(ZeroDivisionError), first.save() as folder:
        (folder / "state").write_text("torn")
        raise ZeroDivisionError

    def stopped():
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        save(attempt(tmp_path, 1, stopped), "late")
    assert latest(first) == "whole"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=12))
def test_whoever_writes_when_the_newest_of_the_newest_attempt_wins(tmp_path_factory, moves):
    """Attempts save and read in any order, old ones too; (fence, order of saving) decides what is the latest."""
    root, best = tmp_path_factory.mktemp("checkpoints"), None
    attempts = {fence: attempt(root, fence) for fence in (1, 2, 3)}
    for order, (fence, saves) in enumerate(moves):
        if saves:
            save(attempts[fence], f"{fence} {order}")
            best = (fence, f"{fence} {order}") if best is None or fence >= best[0] else best
        else:
            assert latest(attempts[fence]) == (best and best[1])
            best = best and (max(best[0], fence), best[1])
    assert latest(attempts[3]) == (best and best[1])
