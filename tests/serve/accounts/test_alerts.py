"""Whoever asked is told when spending passes a part of a budget: once, whatever dies, and nobody else is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.units import Money
from bessemer.serve import Gate, GatewayParts, WebhookStore, Worker, open_accounts
from bessemer.serve.accounts.alerts import EVENT, Teller
from bessemer.serve.accounts.budgets import Budget, Reservation
from tests.serve.accounts.test_gate import MICROS_PER_TOKEN, pricing
from tests.serve.conftest import HELLO, start_in, until
from tests.serve.test_webhooks import Receiver, receiver  # noqa: F401 (a fixture)

DAY_SECONDS = 86_400.0


class Bench:
    """Accounts and webhooks with a clock; every project's endpoint asks for alerts."""

    def __init__(self, url: str, folder: Path) -> None:
        self.now = 1_000_000.0
        self.accounts = open_accounts(url, lambda: self.now)
        self.webhooks = WebhookStore(folder / "webhooks.sqlite", lambda: self.now)
        self.teller = self.new_teller()
        self.count = 0
        for project in ("docs", "shop"):
            self.accounts.projects.create(project)
            self.webhooks.create(project, "mine", f"https://{project}.example", [EVENT])

    def new_teller(self) -> Teller:
        """Return what another process, or this one after a restart, tells with."""
        return Teller(self.accounts.alerts, self.webhooks, lambda: self.now)

    def spend(self, budget: Budget, micros: int) -> None:
        self.count += 1
        wanted = Reservation(f"r{self.count}", 0, "books", "worker", self.now)
        with self.accounts.database.writing() as execute:
            assert self.accounts.budgets.reserve(execute, (budget,), wanted) is None
        assert self.accounts.budgets.settle_all([(wanted.id, micros)]) == 1

    def told(self) -> list[tuple[str, int, int]]:
        """Return whom, of how many percents, of how much spent; and take it as delivered."""
        self.teller.tell()
        found = []
        while due := self.webhooks.claim(60.0):
            for delivery in due:
                data = json.loads(delivery.body)["data"]
                found.append((delivery.url.split("//")[1].split(".")[0], data["percent"], data["spent_micros"]))
                self.webhooks.settle(delivery, delivered=True)
        return found


@pytest.fixture
def bench(database_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(database_url, tmp_path)
    yield made
    made.webhooks.close()
    made.accounts.close()


def test_each_threshold_is_told_once_and_to_its_own_project(bench: Bench) -> None:
    budget = bench.accounts.budgets.set("project", "docs", "month", Money(micros=100), enforced=False)
    bench.spend(budget, 49)
    assert bench.told() == []
    bench.spend(budget, 1)
    assert bench.told() == [("docs", 50, 50)]
    bench.spend(budget, 20)
    assert bench.told() == []
    bench.spend(budget, 60)
    assert sorted(bench.told()) == [("docs", 80, 130), ("docs", 100, 130)]
    bench.spend(budget, 500)
    assert bench.told() == []


def test_a_restart_tells_nothing_twice_and_forgets_nothing(bench: Bench) -> None:
    budget = bench.accounts.budgets.set("project", "docs", "total", Money(micros=100), enforced=False)
    bench.spend(budget, 55)
    assert bench.told() == [("docs", 50, 55)]
    bench.spend(budget, 30)  # and the process dies before it tells
    bench.now += DAY_SECONDS
    bench.teller = bench.new_teller()
    assert bench.told() == [("docs", 80, 85)]
    bench.new_teller().tell()
    assert bench.told() == []


def test_a_new_span_and_a_raised_limit_tell_anew(bench: Bench) -> None:
    budget = bench.accounts.budgets.set("project", "docs", "day", Money(micros=100), enforced=False)
    bench.accounts.alerts.set(budget.id, (100,))
    bench.spend(budget, 100)
    assert bench.told() == [("docs", 100, 100)]
    bench.now += DAY_SECONDS
    bench.spend(budget, 100)
    assert bench.told() == [("docs", 100, 100)]
    bench.accounts.budgets.set("project", "docs", "day", Money(micros=150), enforced=False)
    bench.spend(budget, 60)
    assert bench.told() == [("docs", 100, 160)]


def test_thresholds_are_the_budgets_own(bench: Bench) -> None:
    budget = bench.accounts.budgets.set("project", "docs", "total", Money(micros=100), enforced=False)
    assert bench.accounts.alerts.percents(budget.id) == (50, 80, 100)
    assert bench.accounts.alerts.set(budget.id, (90, 60, 60)) == (60, 90) == bench.accounts.alerts.percents(budget.id)
    bench.spend(budget, 100)
    assert sorted(percent for _, percent, _ in bench.told()) == [60, 90]
    assert bench.accounts.alerts.set(budget.id, ()) == () == bench.accounts.alerts.percents(budget.id)
    bench.spend(budget, 1000)
    assert bench.told() == []
    for wrong in (0, 1001, -5):
        with pytest.raises(ConfigError, match="no threshold"):
            bench.accounts.alerts.set(budget.id, (wrong,))
    with pytest.raises(NotFound):
        bench.accounts.alerts.set("bud_none", (50,))


def test_alerts_of_a_month_stand_beside_each_other_and_refuse_nobody(bench: Bench) -> None:
    budgets = bench.accounts.budgets
    first, second = (budgets.set_alert("project", "docs", Money(micros=micros)) for micros in (100, 300))
    hard = budgets.set("project", "docs", "month", Money(micros=10_000))
    everything = budgets.list("project", "docs")
    assert {each.id for each in everything} == {first.id, second.id, hard.id}

    def spend(micros: int) -> None:
        bench.count += 1
        wanted = Reservation(f"r{bench.count}", 0, "books", "worker", bench.now)
        with bench.accounts.database.writing() as execute:
            assert budgets.reserve(execute, everything, wanted) is None
        assert budgets.settle_all([(wanted.id, micros)]) == 1

    spend(99)
    assert bench.told() == []
    spend(1)
    assert bench.told() == [("docs", 100, 100)], "at its amount, and at no part of it"
    spend(200)
    assert bench.told() == [("docs", 100, 300)]
    assert budgets.set_alert("project", "docs", Money(micros=350), first.id).id == first.id
    spend(50)
    assert bench.told() == [("docs", 100, 350)], "another amount tells anew"
    bench.now += 40 * DAY_SECONDS
    spend(350)
    assert len(bench.told()) == 2, "and so does another month"
    with pytest.raises(NotFound):
        budgets.set_alert("project", "shop", Money(micros=1), first.id)


def test_accounts_of_the_first_gateways_take_several_alerts(bench: Bench) -> None:
    with bench.accounts.database.writing() as execute:
        execute("DROP INDEX budgets_of_periods")
        execute("CREATE UNIQUE INDEX budgets_in_force ON budgets (scope, scope_id, period) WHERE removed_at IS NULL")
    accounts = open_accounts(bench.accounts.database.url, lambda: bench.now)
    for micros in (1, 2):
        accounts.budgets.set_alert("project", "docs", Money(micros=micros))
    accounts.close()


def test_a_keys_budget_tells_its_project_and_the_organizations_those_with_administrators(bench: Bench) -> None:
    key, _ = bench.accounts.keys.create("shop")
    bench.accounts.keys.create("docs", admin=True)
    gone, _ = bench.accounts.keys.create("shop", admin=True)
    bench.accounts.keys.revoke(gone.id)
    of_key = bench.accounts.budgets.set("key", key.id, "total", Money(micros=10), enforced=False)
    of_all = bench.accounts.budgets.set("organization", "", "total", Money(micros=1000), enforced=False)
    bench.spend(of_key, 5)
    assert bench.told() == [("shop", 50, 5)]
    bench.spend(of_all, 500)
    assert bench.told() == [("docs", 50, 500)]


def test_a_gateway_tells_of_what_its_requests_spent(tmp_path: Path, receiver: Receiver) -> None:  # noqa: F811
    """From the request to the receiver: nothing but the gateway's own threads carries it."""
    accounts, webhooks = open_accounts(tmp_path / "accounts.sqlite"), WebhookStore(tmp_path / "webhooks.sqlite")
    accounts.projects.create("tests")
    accounts.budgets.set("project", "tests", "total", Money(micros=60 * MICROS_PER_TOKEN), enforced=False)
    webhooks.create("tests", "mine", receiver.url, [EVENT])
    with ExitStack() as stack:
        stack.callback(accounts.close)
        gate = Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda _: {})
        stack.callback(gate.close)
        parts = GatewayParts(webhooks=webhooks, accounts=accounts, gate=gate)
        running = start_in(tmp_path, stack, parts=parts, private_webhooks=True)
        for _ in range(8):  # of 6 tokens each: 48 of 60
            running.client().chat.completions.create(model="played", messages=HELLO, max_tokens=3)
        until(lambda: len(receiver.taken) == 2)
    told = [json.loads(body) for body, _ in receiver.taken]
    assert {each["type"] for each in told} == {"budget.threshold_reached"}, "customers have this word in their code"
    assert sorted(each["data"]["percent"] for each in told) == [50, 80]
    assert {each["data"]["scope_id"] for each in told} == {"tests"}


def test_accounts_say_who_is_told(bench: Bench) -> None:
    budget = bench.accounts.budgets.set("project", "docs", "total", Money(micros=10), enforced=False)
    bench.spend(budget, 5)
    (alert,) = bench.accounts.alerts.since(0)
    assert (alert.budget, alert.span, alert.percent, alert.limit_micros, alert.spent_micros) == (
        budget.id,
        "",
        50,
        10,
        5,
    )
    assert bench.accounts.alerts.projects_of(alert) == ("docs",)
    assert bench.accounts.alerts.since(bench.now + 1) == ()
