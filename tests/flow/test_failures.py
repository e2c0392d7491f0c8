"""What a failing step says, when it is tried again, and that nothing of it is published."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bessemer.core import events
from bessemer.flow import Flow, Step

EXECUTORS = pytest.mark.parametrize("executor", ["inline", "process"])


def nothing_published(bench):
    return not list((bench.root / "artifacts" / "published").iterdir())


@EXECUTORS
def test_an_error_arrives_with_its_message_and_hint(bench, step, executor):
    result = bench.run(Flow("f", (step("fail", "fail", how="backend"),)), executor)
    assert result.status == "failed"
    assert (result.error, result.hint) == ("step 'fail' failed: the engine stalled", "Restart the engine.")
    (failed,) = bench.of(events.StepFailed)
    assert (failed.error, failed.hint, failed.attempt, failed.will_retry) == (
        "the engine stalled", "Restart the engine.", 1, False
    )  # fmt: skip
    assert isinstance(bench.events[-1], events.RunFailed)
    assert nothing_published(bench)


@EXECUTORS
@pytest.mark.parametrize(
    ("how", "message", "hint"),
    [
        ("raise", "ValueError: the cat sat on the data", "probe_steps.py:"),
        ("full", "OSError: [Errno 28] No space left on device", "free some space"),
        ("link", "left a link in its output: link", "Copy the file"),
    ],
)
def test_any_error_says_what_and_where(bench, step, executor, how, message, hint):
    result = bench.run(Flow("f", (step("fail", "fail", how=how),)), executor)
    assert message in result.error and hint in result.hint
    assert nothing_published(bench)


def test_what_is_no_json_is_refused(bench):
    result = bench.run(Flow("f", (Step("odd", "probe_steps:no_json"),)))
    assert "no JSON" in result.error


@pytest.mark.parametrize(("how", "message"), [("kill", "killed by SIGKILL"), ("quit", "ended with status 3")])
def test_a_process_that_dies_without_a_word_leaves_its_last_output(bench, step, how, message):
    result = bench.run(Flow("f", (step("fail", "fail", how=how),)), "process")
    assert message in result.error
    assert ("last words" in result.error) == (how == "kill")


def test_a_failed_run_is_mended_by_running_the_flow_again(bench, step):
    flow = Flow("f", (step("a"), step("fail", "fail", needs=("a",)), step("b", needs=("a",))))
    assert bench.run(flow).status == "failed"
    again = bench.run(flow)
    assert again.status == "finished" and set(again.artifacts) == {"a", "fail", "b"}
    assert len(bench.journal("a", "start")) == 1


def test_a_retry_waits_longer_each_time(bench, step):
    result = bench.run(Flow("f", (step("fail", "fail", times=2, retries=2, backoff_seconds=0.2),)))
    assert result.status == "finished" and result.artifacts["fail"].meta == {"calls": 3}
    first, second, third = (float(line[2]) for line in bench.journal("fail", "start"))
    assert second - first >= 0.2 and third - second >= 0.4
    assert [(failed.attempt, failed.will_retry) for failed in bench.of(events.StepFailed)] == [(1, True), (2, True)]


def test_retries_end(bench, step):
    result = bench.run(Flow("f", (step("fail", "fail", times=9, retries=1, backoff_seconds=0.01),)))
    assert result.status == "failed" and len(bench.journal("fail", "start")) == 2


def test_what_its_author_must_mend_is_not_tried_again(bench, step):
    result = bench.run(Flow("f", (step("fail", "fail", how="config", retries=5),)))
    assert result.error == "step 'fail' failed: the rate is negative" and len(bench.journal("fail")) == 1


def test_a_failure_stops_what_runs_beside_it(bench, step):
    flow = Flow("f", (step("long", seconds=30.0), step("fail", "fail")))
    assert bench.run(flow, queues={"default": 2}).status == "failed"
    assert bench.journal("long", "start") and not bench.journal("long", "end")
    failed, stopped = bench.of(events.StepFailed)
    assert (failed.step, stopped.step, stopped.code, stopped.will_retry) == ("fail", "long", "cancelled", False)
    assert stopped.wall_seconds > 0


@EXECUTORS
def test_a_keyboard_interrupt_tells_what_the_stopped_attempt_took(bench, step, executor):
    runner = bench.runner(executor)

    def interrupt(event):
        bench.events.append(event)
        if isinstance(event, events.Progress) and event.done == 5:
            raise KeyboardInterrupt

    object.__setattr__(runner._site, "sink", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run(runner.submit(Flow("f", (step("count", "count", total=500, seconds=0.02),))))
    (stopped,) = bench.of(events.StepFailed)
    assert (stopped.step, stopped.attempt, stopped.code) == ("count", 1, "cancelled")
    assert stopped.wall_seconds > 0.1 and stopped.cpu_seconds > 0


def test_a_process_that_is_killed_has_used_processor_time(bench, step):
    bench.run(Flow("f", (step("fail", "fail", how="kill"),)), "process")
    (failed,) = bench.of(events.StepFailed)
    assert failed.code == "crashed" and failed.cpu_seconds > 0.01 and failed.wall_seconds > 0.01


def test_a_result_that_cannot_be_put_in_place_is_one_clear_error(bench, step):
    runner = bench.runner()
    published = bench.root / "artifacts" / "published"
    published.rmdir()
    run = runner.submit(Flow("f", (step("a"),)))
    original = runner._site.executor.submit

    def submit(task):
        published.rmdir()
        published.write_text("in the way")
        return original(task)

    published.mkdir()
    runner._site.executor.submit = submit
    result = runner.run(run)
    assert "the result could not be put in place" in result.error and "disk" in result.hint
    assert bench.store.folders()[1] == set()
    published.unlink()
    assert bench.run(Flow("f", (step("a"),))).status == "finished"


def test_output_figures_and_costs_of_a_process(bench, capfd):
    result = bench.run(Flow("f", (Step("chatty", "probe_steps:chatty"),)), "process")
    assert result.status == "finished"
    (progress,), (measured,), (finished,) = map(bench.of, (events.Progress, events.Measured, events.StepFinished))
    assert (progress.done, progress.total, progress.unit, progress.note) == (1, 2, "things", "half way")
    assert measured.figures == {"loss": 0.5, "learning_rate": 1.0}
    assert finished.cpu_seconds > 0.2 and finished.wall_seconds > finished.cpu_seconds / 4
    assert finished.peak_memory_bytes > 100_000_000
    assert "terminal" not in "".join(capfd.readouterr())
    bench.run(Flow("f", (Step("chatty", "probe_steps:chatty"),)))
    (cached,) = bench.of(events.StepFinished)
    costs = ("wall_seconds", "cpu_seconds", "peak_memory_bytes")
    assert cached.cached and all(getattr(cached, cost) == getattr(finished, cost) for cost in costs)


@pytest.mark.parametrize("ending", ["publishes", "fails"])
def test_nothing_is_lost_that_a_step_told_while_we_were_busy(bench, ending):
    steps = []

    def slow(event):
        if isinstance(event, events.Measured):
            time.sleep(0.1)  # longer than the coordinator listens before it looks around
            steps.append(event.figures["step"])
        if isinstance(event, events.StepFinished | events.StepFailed):
            steps.append(type(event).__name__)

    runner = bench.runner("process", poll_seconds=0.01)
    runner._site = replace(runner._site, sink=slow)
    runner.run(runner.submit(Flow("f", (Step("talks", f"probe_steps:talks_and_{ending}"),))))
    assert steps == [0, 1, 2, 3, 4, "StepFinished" if ending == "publishes" else "StepFailed"]


def test_leftovers_of_dead_attempts_are_removed(bench, step):
    bench.run(Flow("f", (step("fail", "fail", how="quit"),)), "process")
    attempts = bench.root / "artifacts" / "attempts"
    (bench.root / "artifacts" / "published" / f"{'f' * 64}-7").mkdir()
    Path(attempts, f"{'e' * 64}-1").mkdir()
    assert len(list(attempts.iterdir())) == 2
    kept = bench.run(Flow("g", (step("a"),))).artifacts["a"]
    assert list(attempts.iterdir()) == []
    assert [str(path) for path in (bench.root / "artifacts" / "published").iterdir()] == [kept.path]


def test_code_that_is_not_there_fails_the_run_and_says_so(bench):
    result = bench.run(Flow("f", (Step("a", "no_such_module:run"),)))
    assert result.status == "failed" and "'no_such_module' cannot be found" in result.error and result.hint
    assert isinstance(bench.events[-1], events.RunFailed)
