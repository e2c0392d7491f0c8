"""A hard budget holds for training too: what a job may cost is reserved until what it was charged takes its place."""

from __future__ import annotations

import pytest

from bessemer.core.units import Money
from bessemer.serve.accounts.budgets import Spending
from bessemer.serve.accounts.gate import _KEPT_BY
from bessemer.serve.refusals import Refused
from bessemer.serve.work.jobs import job_subject

from .conftest import LINES, Shop
from .stand_in import StandInConfig
from .test_driver import until_status

MICROS_PER_TOKEN = 2
WORST_MICROS = MICROS_PER_TOKEN * len(LINES)
"""Of one epoch, and what a template may add."""
CHARGED_MICROS = 60
"""For the 30 tokens of the step that stands in."""


def limited(shop: Shop, micros: int) -> None:
    shop.accounts.projects.create("shop", id="shop")
    shop.accounts.budgets.set("project", "shop", "total", Money(micros=micros, currency="EUR"))


def standing(shop: Shop) -> Spending:
    (budget,) = shop.accounts.budgets.list()
    return shop.accounts.budgets.spending(budget)


def test_what_a_job_may_cost_is_reserved_until_it_is_charged(shop: Shop) -> None:
    limited(shop, 10 * WORST_MICROS + 100_000)
    job = shop.job()
    assert standing(shop).reserved_micros >= WORST_MICROS
    driver = shop.drive(StandInConfig())
    until_status(shop, job, "succeeded")
    driver.close()
    found = standing(shop)
    assert (found.spent_micros, found.reserved_micros, found.overrun_micros) == (CHARGED_MICROS, 0, 0)
    shop.work.jobs.settle(shop.work.jobs.get("shop", job), CHARGED_MICROS)
    assert standing(shop) == found, "it is charged once"


def test_a_job_beyond_the_budget_is_refused_and_leaves_nothing(shop: Shop) -> None:
    limited(shop, WORST_MICROS - 1)
    with pytest.raises(Refused) as caught:
        shop.job()
    refusal = caught.value.refusal
    assert (refusal.status, refusal.code) == (429, "insufficient_quota")
    assert not shop.work.records.ids("fine-tuning job")
    assert not list((shop.home.work / "jobs").iterdir())
    assert (standing(shop).spent_micros, standing(shop).reserved_micros) == (0, 0)


def test_one_job_holds_what_the_next_would_need(shop: Shop) -> None:
    limited(shop, 10**9)
    shop.job()
    worst = standing(shop).reserved_micros
    shop.accounts.budgets.set("project", "shop", "total", Money(micros=2 * worst - 1, currency="EUR"))
    with pytest.raises(Refused):
        shop.job()
    assert standing(shop).reserved_micros == worst


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_job_that_comes_to_nothing_gives_back_what_it_held(shop: Shop, how: str) -> None:
    limited(shop, 10**9)
    job = shop.job()
    if how == "cancelled":
        shop.work.jobs.move("shop", job, "cancelled", ("queued",), "cancelled")
    driver = shop.drive(StandInConfig(fails=how == "failed"))
    until_status(shop, job, how)
    driver.close()
    assert (standing(shop).spent_micros, standing(shop).reserved_micros) == (0, 0)


def test_a_driver_that_dies_leaves_the_reservation_to_the_next(shop: Shop) -> None:
    limited(shop, 10**9)
    job = shop.job()
    driver = shop.drive(StandInConfig(steps=1000, seconds=0.05))
    until_status(shop, job, "running")
    driver.close()
    shop.gate.recover()
    assert standing(shop).reserved_micros >= WORST_MICROS, "the job is still to be charged"
    until_status(shop, job, "queued", "running")


def test_what_was_reserved_for_a_job_that_was_never_kept_is_released(shop: Shop) -> None:
    limited(shop, 10**9)
    job = shop.job()
    kept = standing(shop).reserved_micros
    lost = shop.work.jobs.get("shop", job).model_copy(update={"id": "ftjob-lost"})
    shop.gate.reserve_job(job_subject("shop", lost), shop.work.jobs._most(lost))
    assert standing(shop).reserved_micros == 2 * kept
    shop.work.jobs.release()
    assert standing(shop).reserved_micros == 2 * kept, "it may be kept in the next moment"
    shop.later = _KEPT_BY + 1
    shop.work.jobs.release()
    assert standing(shop).reserved_micros == kept
