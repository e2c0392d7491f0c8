"""Progress is drawn with an estimate that is the step's own speed since its first report."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from bessemer.cli.progress import Estimate, shown
from bessemer.core import events


def progress(at: float, done: float, total: float = 100.0) -> events.Progress:
    return events.Progress(at=at, run="r", step="train", done=done, total=total, unit="tokens")


def test_the_time_before_the_first_report_does_not_count() -> None:
    estimate = Estimate(progress(30.0, 0))
    assert estimate.left_seconds(progress(40.0, 20)) == pytest.approx(40.0)


@pytest.mark.parametrize("now", [progress(30.5, 20), progress(40.0, 0), progress(40.0, 5, total=0)])
def test_no_estimate_without_something_to_tell_it_by(now: events.Progress) -> None:
    assert Estimate(progress(30.0, 0)).left_seconds(now) is None


@pytest.mark.parametrize("terminal", [True, False])
def test_every_event_is_drawn(terminal: bool) -> None:
    text = StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, color_system=None, highlight=False)
    with shown(console) as sink:
        sink(events.RunStarted(at=0, run="r", flow="mine", steps=("train", "gate")))
        sink(events.StepStarted(at=0, run="r", step="train", attempt=1))
        sink(progress(5, 10))
        sink(progress(25, 30))
        sink(events.StepFailed(at=26, run="r", step="train", attempt=1, error="no [space]", hint="", will_retry=True))
        sink(events.StepStarted(at=27, run="r", step="train", attempt=2))
        stopped = {"error": "told to", "hint": "", "will_retry": False, "code": "cancelled"}
        sink(events.StepFailed(at=28, run="r", step="train", attempt=2, **stopped))
        sink(events.StepFinished(at=30, run="r", step="train", key="k", cached=False, wall_seconds=3, cpu_seconds=3))
        sink(events.StepFinished(at=30, run="r", step="gate", key="k", cached=True, wall_seconds=3, cpu_seconds=3))
        sink(events.RunFinished(at=30, run="r"))
    said = text.getvalue()
    for words in ("mine", "train", "no [space]", "tried again", "train stopped: told to", "from the cache"):
        assert words in said
    if not terminal:
        assert "30/100 tokens, 1 min 10 s left" in said
