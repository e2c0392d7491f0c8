"""Jobs are driven to their end, once each, whatever comes in between."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import BackendError
from bessemer.core.units import Money
from bessemer.flow import open_store
from bessemer.meter import Ledger, open_ledger
from bessemer.products.tuning.driver import JobDriver, JobParts
from bessemer.products.tuning.telling import FIXED_SECONDS
from bessemer.products.watching import Shift
from bessemer.serve.accounts.pages import Page
from bessemer.serve.work.jobs import JobError, JobEvent
from bessemer.serve.work.records import Wanted

from .conftest import Shop
from .stand_in import StandInConfig

WAIT_SECONDS = 60.0


def until_status(shop: Shop, job: str, *wanted: str, project: str = "shop") -> None:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if shop.work.jobs.get(project, job).status in wanted:
            return
        time.sleep(0.02)
    raise AssertionError(f"the job is {shop.work.jobs.get(project, job)}, not {wanted}")


def until_gone(path: Path) -> None:
    """A job is over before what it copied is gone: wait for that too."""
    end = time.monotonic() + WAIT_SECONDS
    while path.exists():
        assert time.monotonic() < end, f"{path} is still there"
        time.sleep(0.02)


def events(shop: Shop, job: str) -> list[JobEvent]:
    found: Page[JobEvent] = shop.work.jobs.events("shop", job, Wanted(limit=100, parent=job, newest_first=False))
    return list(found.items)


def steps_of(shop: Shop, job: str) -> list[int]:
    return [event.data["step"] for event in events(shop, job) if event.type == "metrics"]


def books(shop: Shop) -> Ledger:
    ledger = open_ledger(shop.home.books)
    ledger.sync()
    return ledger


def test_a_job_is_trained_served_booked_and_told(shop: Shop) -> None:
    hook = shop.webhooks.create("shop", "mine", "https://example.com", ["fine_tuning.job.succeeded"])
    job = shop.job(suffix="tea")
    driver = shop.drive(StandInConfig())
    until_status(shop, job, "succeeded")
    driver.close()
    done = shop.work.jobs.get("shop", job)
    assert done.trained_tokens == 30
    assert done.fine_tuned_model == "ft:base-model:shop:tea:0"
    assert steps_of(shop, job) == [1, 2, 3]
    assert [event.data["train_loss"] for event in events(shop, job) if event.data] == [1, 1 / 2, 1 / 3]
    (told,) = shop.webhooks.claim(10)
    assert (told.endpoint, '"fine_tuning.job.succeeded"' in told.body, f'"{job}"' in told.body) == (hook.id, True, True)
    assert not shop.work.jobs.untold()
    with closing(books(shop)) as ledger:
        charged = ledger.entry(f"step:{job}")
        assert (charged.usage.input_tokens, charged.charge.micros, charged.charge.currency) == (30, 60, "EUR")
        assert (charged.subject.project, charged.subject.key_id) == ("shop", "key")
        assert charged.subject.model == done.fine_tuned_model
        (step,) = [each for each in ledger.entries(kind="step", limit=-1) if each.subject.name == "train"]
        assert (step.subject.project, step.subject.model) == ("shop", done.fine_tuned_model)
        assert step.measurement.joules > 0
        assert step.charge.micros == 0


def test_jobs_run_one_after_the_other(shop: Shop) -> None:
    first, second = shop.job(), shop.job()
    shop.drive(StandInConfig(steps=4, seconds=0.1))
    until_status(shop, first, "running")
    assert shop.work.jobs.get("shop", second).status == "queued"
    until_status(shop, second, "running")
    assert shop.work.jobs.get("shop", first).status == "succeeded"


def test_a_job_waits_for_a_gateway_of_the_factory_that_took_it_and_has_its_prices(shop: Shop, tmp_path: Path) -> None:
    with ExitStack() as stack:
        other = Shop(tmp_path, stack, "other", training=9_000_000)
        theirs = other.job()
        mine = shop.job()
        shop.drive(StandInConfig())
        until_status(shop, mine, "succeeded")
        assert shop.work.jobs.get("shop", theirs).status == "queued", "it is older, and another's"
        other.drive(StandInConfig())
        until_status(other, theirs, "succeeded")
        for each in (shop, other):
            each.drivers[0].close()
        assert not shop.work.jobs.untold() and not other.work.jobs.untold()
        with closing(books(shop)) as ledger:
            charges = [ledger.entry(f"step:{job}").charge.micros for job in (mine, theirs)]
        assert charges == [60, 270]


def test_the_estimate_comes_from_what_training_took(shop: Shop) -> None:
    job = shop.job()
    shop.drive(StandInConfig(steps=40, seconds=0.1))
    until_status(shop, job, "running")
    end = time.monotonic() + WAIT_SECONDS
    while (found := shop.work.jobs.get("shop", job)).estimated_finish is None and time.monotonic() < end:
        time.sleep(0.02)
    assert found.estimated_finish is not None
    assert 2 < found.estimated_finish - time.time() < 10, "40 steps of a little more than a tenth of a second"


def test_the_estimate_has_merging_and_compiling_as_they_took_before_or_by_a_rule(shop: Shop) -> None:
    shop.drive(StandInConfig(steps=15, seconds=0.1), whole=True)
    said, left = [], []
    for job in (shop.job(), shop.job()):
        end = time.monotonic() + WAIT_SECONDS
        while (found := shop.work.jobs.get("shop", job)).estimated_finish is None and time.monotonic() < end:
            time.sleep(0.02)
        assert found.estimated_finish is not None
        left.append(found.estimated_finish - time.time())
        (text,) = [event.message for event in events(shop, job) if event.message.startswith("Estimated: ")]
        said.append(re.fullmatch(r"Estimated: \d+ s of training .*, then (\d+) s of merging and compiling (.*)", text))
        until_status(shop, job, "succeeded")
    assert [each and each[2] for each in said] == ["by the size of the base", "as they took before"]
    with open_store(shop.home.database_url) as store:
        (first, _) = store.runs()
        results = {step.name: store.result(step.key) for step in store.steps(first.id)}
    took = sum(each.outcome.wall_seconds for name in ("merge", "compile") if (each := results[name]))
    assert took > 0.6
    assert [each and int(each[1]) for each in said] == [round(FIXED_SECONDS), round(took)]
    assert left[0] > FIXED_SECONDS
    assert took < left[1] < took + 10, "seconds of training, and what came after it the first time"


def test_a_failure_is_told_in_words(shop: Shop) -> None:
    job = shop.job()
    shop.webhooks.create("shop", "mine", "https://example.com", ["fine_tuning.job.failed"])
    driver = shop.drive(StandInConfig(fails=True))
    until_status(shop, job, "failed")
    driver.close()
    error = shop.work.jobs.get("shop", job).error
    assert error is not None
    assert error.message.endswith("failed: the loss is not a number. Lower the rate.")
    assert len(shop.webhooks.claim(10)) == 1
    with closing(books(shop)) as ledger:
        assert {entry.status for entry in ledger.entries(kind="step", limit=-1)} == {"error"}


def test_many_jobs_of_a_project_are_one_look_at_the_accounts(shop: Shop) -> None:
    """They are looked through three times a second, and requests wait for the same connection."""
    looks: list[str] = []
    for project in ("shop", "docs", "shop", "shop"):
        shop.job(project)

    def is_archived(project: str) -> bool:
        looks.append(project)
        return False

    line: Any = None
    JobDriver(JobParts(shop.home, shop.work, shop.meter, None, is_archived=is_archived), line)._drop()
    assert sorted(looks) == ["docs", "shop"]


@pytest.mark.parametrize("what", ["report", "estimate"])
def test_a_database_that_is_away_for_a_moment_fails_no_job(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    job, reached, asked = shop.job(), getattr(shop.work.jobs, what), 0

    def away(*args: Any, **more: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise BackendError("the jobs in Postgres cannot be used")
        reached(*args, **more)

    monkeypatch.setattr(shop.work.jobs, what, away)
    monkeypatch.setattr(Shift, "patience_seconds", 0.05)
    shop.drive(StandInConfig(steps=30, seconds=0.1))
    until_status(shop, job, "succeeded", "failed")
    assert shop.work.jobs.get("shop", job).status == "succeeded" and asked > 2
    assert any("goes on at" in event.message for event in events(shop, job)), "at its last checkpoint"


def test_why_a_job_failed_is_kept_with_its_state(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that is killed in between leaves no failed job without a reason."""
    job, jobs = shop.job(), shop.work.jobs
    jobs.move("shop", job, "running", ("queued",), "started")
    move = jobs.move

    def killed(*args: Any, **more: Any) -> None:
        move(*args, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "move", killed)
    with pytest.raises(KeyboardInterrupt):
        jobs.fail("shop", job, JobError(code="e", message="the loss is no number"))
    left = jobs.get("shop", job)
    assert left.status == "failed" and left.error and left.error.message == "the loss is no number"


def test_cancelled_while_it_runs(shop: Shop) -> None:
    job = shop.job()
    shop.drive(StandInConfig(steps=1000, seconds=0.05))
    until_status(shop, job, "running")
    while not steps_of(shop, job):
        time.sleep(0.02)
    shop.work.jobs.move("shop", job, "cancelled", ("running",), "cancelled")
    other = shop.job()  # it gets its turn, so the cancelled one has ended
    until_status(shop, other, "running")
    assert not shop.work.jobs.get("shop", job).fine_tuned_model
    with closing(books(shop)) as ledger:
        (stopped,) = ledger.entries(kind="step", limit=-1)
    assert (stopped.status, stopped.subject.project, stopped.charge.micros) == ("cancelled", "shop", 0)


def test_jobs_of_an_archived_project_are_cancelled_and_free_the_place(shop: Shop) -> None:
    shop.accounts.projects.create("shop")
    shop.accounts.budgets.set("project", "shop", "total", Money(micros=10**9, currency="EUR"))
    running, queued, paused = shop.job(), shop.job(), shop.job()
    shop.work.jobs.move("shop", paused, "paused", ("queued",), "paused")
    shop.drive(StandInConfig(steps=1000, seconds=0.05))
    until_status(shop, running, "running")
    shop.accounts.projects.archive("shop")
    for job in (running, queued, paused):
        until_status(shop, job, "cancelled")
        assert any("its project is archived" in event.message for event in events(shop, job))
        until_gone(shop.work.jobs.data(job, "training"))
    other = shop.job("docs")
    until_status(shop, other, "running", project="docs")
    (budget,) = shop.accounts.budgets.list()
    state = shop.accounts.budgets.spending(budget)
    assert (state.spent_micros, state.reserved_micros) == (0, 0)
    with closing(books(shop)) as ledger:
        assert sum(entry.charge.micros for entry in ledger.entries(kind="step", limit=-1)) == 0


def test_paused_and_resumed_it_goes_on_where_it_was(shop: Shop) -> None:
    job = shop.job()
    shop.drive(StandInConfig(steps=12, seconds=0.1))
    until_status(shop, job, "running")
    while len(steps_of(shop, job)) < 3:
        time.sleep(0.02)
    shop.work.jobs.move("shop", job, "paused", ("running",), "paused")
    time.sleep(0.6)
    before = steps_of(shop, job)
    shop.work.jobs.move("shop", job, "queued", ("paused",), "resumed")
    until_status(shop, job, "succeeded")
    after = steps_of(shop, job)[len(before) :]
    assert len(before) < 12
    assert after[0] > 2, "not from the beginning"
    assert after[-1] == 12
    assert any("goes on at" in event.message for event in events(shop, job))


def test_a_driver_that_stops_leaves_the_job_to_the_next(shop: Shop) -> None:
    job = shop.job()
    first = shop.drive(StandInConfig(steps=12, seconds=0.1))
    until_status(shop, job, "running")
    while len(steps_of(shop, job)) < 3:
        time.sleep(0.02)
    first.close()
    assert shop.work.jobs.get("shop", job).status == "running"
    before = len(steps_of(shop, job))
    shop.drive(StandInConfig(steps=12, seconds=0.1))
    until_status(shop, job, "succeeded")
    assert steps_of(shop, job)[before] > 1


def test_two_drivers_of_one_home_do_not_do_it_twice(shop: Shop) -> None:
    job = shop.job()
    for _ in range(2):
        shop.drive(StandInConfig(steps=5, seconds=0.05))
    until_status(shop, job, "succeeded")
    assert steps_of(shop, job) == [1, 2, 3, 4, 5]


def _drive_for_ever(folder: Path) -> None:
    with ExitStack() as stack:
        shop = Shop(folder, stack)
        shop.drive(StandInConfig(steps=20, seconds=0.1))
        time.sleep(WAIT_SECONDS)


@pytest.mark.parametrize("steps_before", [0, 4])
def test_killed_it_goes_on_under_the_next(tmp_path: Path, steps_before: int) -> None:
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack)
        job = shop.job()
        child = multiprocessing.get_context("spawn").Process(target=_drive_for_ever, args=(tmp_path,))
        child.start()
        until_status(shop, job, "running")
        while len(steps_of(shop, job)) < steps_before:
            time.sleep(0.02)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        before = len(steps_of(shop, job))
        driver = shop.drive(StandInConfig(steps=20, seconds=0.1))
        until_status(shop, job, "succeeded")
        driver.close()
        after = steps_of(shop, job)[before:]
        assert after[0] == 1 if not steps_before else after[0] > 2
        assert after[-1] == 20
        with closing(books(shop)) as ledger:
            assert ledger.entry(f"step:{job}").usage.input_tokens == 200
            entries = ledger.entries(kind="step", limit=-1)
            assert len([entry for entry in entries if entry.charge.micros]) == 1
            killed = [entry for entry in entries if (entry.subject.project, entry.status) == ("shop", "error")]
            assert len(killed) == 1 or not steps_before
