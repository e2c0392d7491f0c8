"""What every executor does: one suite over all of them; a test asks for the capabilities that it needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.protocols import Executor
from bessemer.flow import Step
from bessemer.flow.attempt import Outcome, Task
from bessemer.flow.executors import EXECUTORS


@dataclass
class Desk:
    """Gives tasks to one executor and keeps what they tell."""

    executor: Any
    root: Path
    told: list[Mapping[str, Any]] = field(default_factory=list)

    def submit(self, function: str, fence: int = 1) -> str:
        folder = self.root / "attempts" / f"{function}-{fence}"
        (folder / "out").mkdir(parents=True)
        step = Step("probe", run=f"executor_steps:{function}")
        where = {"word": "iron", "root": str(self.root)}
        kept = self.root / "checkpoints" / function
        task = Task(step, function, fence, step.version(), {}, folder, kept, where, self.told.append)
        return str(self.executor.submit(task))

    def outcome(self, function: str, fence: int = 1) -> Outcome:
        found = self.executor.wait(self.submit(function, fence), 60.0)
        assert isinstance(found, Outcome)
        return found

    def began(self) -> None:
        until((self.root / "began").exists)


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


@pytest.fixture(params=sorted(EXECUTORS))
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return Desk(EXECUTORS[request.param](), tmp_path)


def needs(desk: Desk, capability: str) -> None:
    if capability not in desk.executor.capabilities:
        pytest.skip(f"{desk.executor.name} does not declare '{capability}'")


def test_it_is_an_executor_under_its_own_name(desk: Desk) -> None:
    assert isinstance(desk.executor, Executor)
    assert EXECUTORS[desk.executor.name] is type(desk.executor)


def test_an_outcome_has_the_files_the_meta_and_what_it_took(desk: Desk) -> None:
    found = desk.outcome("write")
    assert (found.code, found.error) == ("", "")
    assert found.files.keys() == {"deep/word.txt"}
    assert found.files["deep/word.txt"][0] == len("iron")
    assert found.wall_seconds > 0
    assert (desk.root / "attempts" / "write-1" / "out" / "deep" / "word.txt").read_text() == "iron"
    here = found.meta["pid"] == os.getpid()
    assert here is ("isolated" not in desk.executor.capabilities)


def test_progress_and_figures_are_told_before_the_outcome(desk: Desk) -> None:
    desk.outcome("write")
    until(lambda: {"outcome": ""} in desk.told)
    assert desk.told[0] == {"progress": {"done": 1, "total": 2, "unit": "words", "note": "half"}}
    assert desk.told[1] == {"measured": {"figures": {"words_per_second": 3.0}}}


def test_a_failure_is_an_outcome_with_its_code_and_hint(desk: Desk) -> None:
    found = desk.outcome("fail")
    assert (found.code, found.error, found.hint) == ("config_error", "nothing fits", "Try less.")


def test_waiting_for_what_still_runs_returns_none(desk: Desk) -> None:
    handle = desk.submit("wait_for_stop")
    desk.began()
    assert desk.executor.wait(handle, 0) is None
    assert desk.executor.wait(handle, 0.05) is None
    desk.executor.cancel(handle)


def test_a_cancelled_task_has_stopped_when_cancel_returns(desk: Desk) -> None:
    handle = desk.submit("wait_for_stop")
    desk.began()
    desk.executor.cancel(handle)
    with pytest.raises(KeyError):
        desk.executor.wait(handle, 0)


def test_a_step_that_never_checks_can_be_killed(desk: Desk) -> None:
    needs(desk, "kill")
    executor = type(desk.executor)(stop_seconds=0.1)
    desk.executor = executor
    handle = desk.submit("never_check")
    desk.began()
    began = time.monotonic()
    executor.cancel(handle)
    assert time.monotonic() - began < 30


def test_a_crash_is_told_though_the_folder_was_swept_away(desk: Desk) -> None:
    needs(desk, "isolated")
    found = desk.outcome("crash_without_a_folder")
    assert found.code == "crashed"
    assert "status 7" in found.error
    assert "the last word" in found.error


def test_two_tasks_run_at_the_same_time(desk: Desk) -> None:
    waiting = desk.submit("wait_for_stop")
    desk.began()
    assert desk.outcome("write").error == ""
    desk.executor.cancel(waiting)


def test_a_later_attempt_goes_on_at_the_checkpoint_of_an_earlier_one(desk: Desk) -> None:
    assert desk.outcome("save_twice", fence=1).meta == {"before": 0}
    assert desk.outcome("save_twice", fence=2).meta == {"before": 2}
