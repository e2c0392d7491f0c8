"""Schedules and triggers submit once, however many ask, and again when there is something new."""

from __future__ import annotations

import threading

from bessemer.flow import Flow, Trigger


def test_a_schedule_submits_once_in_each_interval(bench, step, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    schedule = Trigger.every(3600, "hourly", lambda slot: Flow("f", (step("a", inputs={"slot": slot}),)))
    first = schedule.tick(bench.store)
    assert first and schedule.tick(bench.store) == ""
    now[0] += 3600
    assert schedule.tick(bench.store) not in ("", first)
    now[0] += 10 * 3600
    assert schedule.tick(bench.store) and schedule.tick(bench.store) == ""
    assert len(bench.store.runs()) == 3


def test_a_trigger_submits_when_the_data_changes_and_when_it_changes_back(bench, step):
    data = ["one"]
    trigger = Trigger("new data", lambda seen: Flow("f", (step("a", inputs={"data": seen}),)), lambda: data[0])
    runner, runs = bench.runner(), []
    for content in ("one", "one", "two", "two", "one"):
        data[0] = content
        if run := trigger.tick(bench.store):
            runs.append(runner.run(run))
    assert len(runs) == 3 and len(bench.journal("a", "start")) == 2


def test_many_that_tick_at_once_submit_one_run(bench, step):
    trigger = Trigger("t", lambda seen: Flow("f", (step("a", inputs={"data": seen}),)), lambda: "one")
    stores, runs = [bench.another_store() for _ in range(6)], []
    threads = [threading.Thread(target=lambda store=store: runs.append(trigger.tick(store))) for store in stores]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(bench.store.runs()) == 1 and sorted(map(bool, runs)) == [False] * 5 + [True]


def test_a_standby_does_what_is_asked_for(bench, step):
    runner = bench.runner()
    trigger = Trigger("t", lambda seen: Flow("f", (step("a", inputs={"data": seen}),)), lambda: "one")
    runner.work([trigger], stop=lambda: bool(bench.store.runs("finished")))
    assert len(bench.journal("a", "end")) == 1
