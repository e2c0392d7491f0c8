"""A stage's bill is that of the newest attempt that made it, with the attempts that the same run lost before."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bessemer.core import events
from bessemer.meter import MeterConfig, open_ledger, open_meter
from bessemer.products.filling import stage_lines
from bessemer.products.metered import MeteredSink
from bessemer.products.product import Finished
from bessemer.products.receipt import StageLine

KEY = "k" * 64
NOW = 1_800_000_000.0


def finished(run: str, seconds: float, *, cached: bool = False) -> events.StepFinished:
    return events.StepFinished(NOW, run, "train", KEY, cached, seconds, seconds)


def lost(run: str, attempt: int, seconds: float) -> events.StepFailed:
    return events.StepFailed(NOW, run, "train", attempt, "it died", "", True, seconds, seconds, "crashed")


def line_of(folder: Path, run: str, told: list[events.Event]) -> StageLine:
    """Return the stage as the receipt of a run shows it after these attempts."""
    with open_meter(MeterConfig(sensors="model"), folder) as meter:
        sink = MeteredSink(lambda event: None, meter)
        for event in told:
            sink(event)
    with closing(open_ledger(folder)) as ledger:
        entries = ledger.entries(kind="step", limit=-1)
    done = Finished("m", run, NOW, NOW, {}, sink.finished, {}, entries, "", meter.prices)
    (line,) = stage_lines(done)
    return line


def seconds(line: StageLine) -> float:
    assert line.bill is not None
    return line.bill.measurement.seconds


def test_what_was_lost_before_a_run_went_on_is_in_its_bill(tmp_path: Path) -> None:
    line = line_of(tmp_path, "a", [lost("a", 1, 5.0), lost("a", 2, 3.0), finished("a", 10.0)])
    assert (seconds(line), line.lost_attempts, line.told) == (18.0, 2, "train (+2 lost)")


def test_another_run_that_failed_at_it_is_not(tmp_path: Path) -> None:
    line = line_of(tmp_path, "b", [lost("a", 1, 5.0), finished("b", 10.0)])
    assert (seconds(line), line.lost_attempts) == (10.0, 0)


def test_a_result_that_was_made_twice_shows_the_newest(tmp_path: Path) -> None:
    line = line_of(tmp_path, "b", [lost("a", 1, 5.0), finished("a", 10.0), finished("b", 7.0)])
    assert (seconds(line), line.lost_attempts) == (7.0, 0)


def test_a_cached_one_shows_what_it_took_when_it_was_made(tmp_path: Path) -> None:
    line = line_of(tmp_path, "b", [lost("a", 1, 5.0), finished("a", 10.0), finished("b", 10.0, cached=True)])
    assert (seconds(line), line.cached, line.lost_attempts) == (15.0, True, 1)
