"""Several runs and several coordinators: the same work is done once, limits hold, nobody waits for ever."""

from __future__ import annotations

import threading
import time

import pytest

from bessemer.core import events
from bessemer.core.errors import Conflict, NotFound
from bessemer.flow import Flow


def test_two_identical_steps_run_once(bench, step):
    twins = tuple(step(name, "work") for name in ("x", "y"))
    same = Flow("twins", tuple(type(each)(each.name, each.run, twins[0].config) for each in twins))
    result = bench.run(same, queues={"default": 2})
    assert result.artifacts["x"] == result.artifacts["y"]
    assert len(bench.journal("x", "start")) == 1


def test_two_coordinators_at_once_do_the_same_work_once(bench, step):
    flow = Flow("shared", (step("a", seconds=0.3), step("b", needs=("a",))))
    results = []

    def drive(name):
        runner = bench.runner(store=bench.another_store())
        results.append(runner.run(runner.submit(Flow(name, flow.steps))))

    threads = [threading.Thread(target=drive, args=(name,)) for name in ("one", "two", "two")]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [result.status for result in results] == ["finished"] * 3
    assert results[0].artifacts == results[1].artifacts == results[2].artifacts
    assert len(bench.journal("a", "start")) == len(bench.journal("b", "start")) == 1
    assert len(bench.store.runs()) == 2


def test_two_parents_that_finish_together_wake_their_child(bench, step):
    """Each of two coordinators finishes one parent at the same moment; neither may leave the child to the other."""
    for round_ in range(3):
        parents = tuple(step(f"p{side}", value=round_, seconds=0.2) for side in "ab")
        flow = Flow("meet", (*parents, step("child", value=round_, needs=("pa", "pb"))))
        run = bench.store.submit(flow)
        runners = [bench.runner(store=bench.another_store(), queues={"default": 2}) for _ in range(2)]
        threads = [threading.Thread(target=runner.run, args=(run,)) for runner in runners]
        [thread.start() for thread in threads]
        [thread.join(10) for thread in threads]
        assert bench.store.run(run).status == "finished"
        assert len(bench.journal("child", "start")) == round_ + 1


@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_steps_of_a_queue_run_than_its_limit(bench, step, limit):
    steps = tuple(step(f"s{number}", seconds=0.1, queue="gpu", meet=limit) for number in range(4))
    run = bench.store.submit(Flow("many", steps))
    runners = [bench.runner(store=bench.another_store(), queues={"gpu": limit}) for _ in range(2)]
    threads = [threading.Thread(target=runner.run, args=(run,)) for runner in runners]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    marks = sorted((float(line[3]), 1 if line[1] == "start" else -1) for line in bench.journal())
    running, most = 0, 0
    for _, change in marks:
        running += change
        most = max(most, running)
    assert (running, most, len(marks)) == (0, limit, 8)


def test_submitting_twice_is_harmless(bench, step):
    runner, flow = bench.runner(), Flow("f", (step("a"),))
    run = runner.submit(flow)
    assert runner.submit(flow) == run
    keyed = runner.submit(Flow("g", flow.steps), "monday")
    assert runner.submit(Flow("g", flow.steps), "monday") == keyed != run
    first = runner.run(keyed)
    assert runner.submit(Flow("g", flow.steps), "monday") == keyed
    assert runner.run(keyed) == first
    with pytest.raises(Conflict, match="monday"):
        runner.submit(Flow("h", flow.steps), "monday")
    assert runner.run(run).status == "finished" and runner.submit(flow) != run


def test_submitting_from_many_threads_gives_one_run(bench, step):
    flow, runs = Flow("f", (step("a"),)), []
    stores = [bench.another_store() for _ in range(6)]
    threads = [threading.Thread(target=lambda store=store: runs.append(store.submit(flow))) for store in stores]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(set(runs)) == 1 and len(runs) == 6


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_cancelling_stops_the_step_and_keeps_its_checkpoint(bench, step, executor):
    runner = bench.runner(executor)
    flow = Flow("f", (step("count", "count", total=20, seconds=0.05),))
    run = runner.submit(flow)
    canceller = bench.another_store()

    def cancel():
        bench.until(lambda: bench.journal("count", "count"))
        bench.runner(store=canceller).cancel(run)

    thread = threading.Thread(target=cancel)
    thread.start()
    began = time.monotonic()
    result = runner.run(run)
    thread.join()
    assert result.status == "cancelled" and time.monotonic() - began < 40
    reached = len(bench.journal("count", "count"))
    assert 0 < reached < 20 and bench.store.folders()[1] == set()
    assert runner.run(run).status == "cancelled"
    again = bench.run(flow, executor)
    assert again.status == "finished" and again.artifacts["count"].meta == {"value": 20}
    assert len(bench.journal("count", "count")) <= 21  # at most the number that was being counted is counted again


def test_cancelling_what_is_not_there_says_so(bench):
    with pytest.raises(NotFound):
        bench.runner().cancel("nothing")


def test_the_events_of_a_run_are_in_order(bench, step):
    bench.run(Flow("f", (step("b", needs=("a",)), step("a"))))
    assert [type(event) for event in bench.events] == [
        events.RunStarted, events.StepStarted, events.StepFinished, events.StepStarted, events.StepFinished,
        events.RunFinished,
    ]  # fmt: skip
    assert bench.events[0].steps == ("a", "b")
    states = [(record.name, record.state, record.attempts) for record in bench.store.steps(bench.events[0].run)]
    assert states == [("a", "done", 1), ("b", "done", 1)]
