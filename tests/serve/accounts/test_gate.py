"""Limits and budgets at the door of a real gateway, as the official client meets them."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from bessemer.core.errors import BackendError
from bessemer.core.nouns import Subject, Usage
from bessemer.core.units import Money
from bessemer.serve import Accounts, Budget, Gate, GatewayParts, Spending, Tariff, Worker, open_accounts
from bessemer.serve.accounts.gate import _FREE
from bessemer.serve.accounts.refusing import duration, refuse_money
from bessemer.serve.accounts.standing import Permit
from bessemer.serve.refusals import Refused

from ..conftest import HELLO, Running, start_in, until

MICROS_PER_TOKEN = 7
"""As the meter of these tests charges."""


def pricing(subject: Subject) -> Tariff:
    return Tariff(MICROS_PER_TOKEN * 10**6, MICROS_PER_TOKEN * 10**6)


@dataclass
class Guarded:
    """A gateway with a gate, and the accounts behind both."""

    running: Running
    accounts: Accounts
    gate: Gate

    def ask(self, tokens: int = 3, secret: str | None = None, **more):
        create = self.running.client(secret).chat.completions.with_raw_response.create
        return create(model="played", messages=HELLO, max_tokens=tokens, **more)

    def spending(self, budget: Budget) -> Spending:
        """Return where a budget stands when the gate has told the database and given back what nobody uses."""
        self.gate._holding.let_go()
        return self.accounts.budgets.spending(budget)

    @property
    def charged(self) -> int:
        return sum(entry.charge.micros for entry in self.running.meter.entries())

    def worst_of(self, tokens: int) -> int:
        """Return the worst case of the requests here: the longest body that the client sends, and all of the answer."""
        return MICROS_PER_TOKEN * (200 + tokens)


def killed(gate: Gate) -> None:
    """Let a gate end as a killed process does: the kernel lets go of its lock, and nothing else is tidied."""
    gate._closed.set()
    gate._busy.set()
    gate._tender.join()
    gate._worker._lock.close()


@pytest.fixture
def guarded(tmp_path: Path):
    with ExitStack() as stack:
        accounts = open_accounts(tmp_path / "keys.sqlite")
        stack.callback(accounts.close)
        gate = Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda ids: {})
        stack.callback(gate.close)
        running = start_in(tmp_path, stack, parts=GatewayParts(gate=gate))
        yield Guarded(running, accounts, gate)


def test_without_limits_nothing_is_told_and_nothing_is_written(guarded) -> None:
    answer = guarded.ask()
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert guarded.gate.hold(Subject(kind="request", id="r", project="tests"), Usage(), 0) is _FREE
    assert guarded.accounts.database.read("SELECT COUNT(*) FROM reservations") == [(0,)]
    assert guarded.accounts.database.read("SELECT COUNT(*) FROM spend") == [(0,)]


def test_a_spent_budget_answers_429_and_the_client_does_not_ask_again(guarded) -> None:
    limit = guarded.worst_of(3) + 50
    budget = guarded.accounts.budgets.set("project", "tests", "total", Money(micros=limit))
    answered = 0
    with pytest.raises(openai.RateLimitError) as caught:
        while True:
            guarded.ask()
            answered += 1
    error = caught.value
    assert answered > 3, "only the worst case of those under way is reserved, not of all that ever were"
    assert (error.status_code, error.code, error.type) == (429, "insufficient_quota", "insufficient_quota")
    assert error.response.headers["x-should-retry"] == "false"
    state = guarded.spending(budget)
    assert (state.spent_micros, state.reserved_micros) == (guarded.charged, 0)
    assert guarded.charged <= limit
    asked = len(guarded.running.engine.requests)
    with pytest.raises(openai.RateLimitError):
        guarded.running.client().with_options(max_retries=3).chat.completions.create(model="played", messages=HELLO)
    assert len(guarded.running.engine.requests) == asked
    guarded.accounts.budgets.set("project", "tests", "total", Money(micros=10**9))
    guarded.ask()


def test_a_limit_that_is_set_while_limits_are_looked_up_is_kept_to(guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that takes a job finds that something was changed: what the event loop found before is old then."""
    book, job = guarded.gate._book, Subject(kind="step", id="job", project="shop")
    guarded.accounts.budgets.set("project", "tests", "total", Money(micros=10**9))

    def meanwhile(subject: Subject) -> Tariff:
        monkeypatch.undo()
        guarded.accounts.rates.set("project", "tests", requests=2)
        book.priced(job)
        return pricing(subject)

    monkeypatch.setattr(book, "_pricing", meanwhile)
    name = ("tests", "key", "played", "", False)
    book.rules(name)
    assert [block.most for block in book.rules(name).standing.requests] == [2]


@pytest.mark.parametrize("kind", ["requests", "budget"])
def test_a_limit_of_a_key_is_that_key_s_alone_and_stays_when_it_is_rotated(guarded, kind: str) -> None:
    keys = guarded.accounts.keys
    (mine, secret), (_, other) = (keys.create("tests") for _ in range(2))
    if kind == "budget":
        guarded.accounts.budgets.set("key", mine.id, "total", Money(micros=guarded.worst_of(3)))
    else:
        guarded.accounts.rates.set("key", mine.id, requests=1)
    code = "insufficient_quota" if kind == "budget" else "rate_limit_exceeded"
    asked = 0
    with pytest.raises(openai.RateLimitError) as caught:
        while asked < 50:
            guarded.ask(secret=secret)
            asked += 1
    assert (caught.value.code, 0 < asked < 50) == (code, True)
    for _ in range(2):
        guarded.ask(secret=other)
    new, again = keys.rotate(mine.id)
    with pytest.raises(openai.AuthenticationError):
        guarded.ask(secret=secret)
    with pytest.raises(openai.RateLimitError) as caught:
        guarded.ask(secret=again)
    assert caught.value.code == code, "rotating a key is no way out"
    listed = guarded.accounts.budgets if kind == "budget" else guarded.accounts.rates
    assert [len(listed.list("key", each.id)) for each in (mine, new)] == [0, 1]


def test_many_at_once_stay_within_the_budget(guarded) -> None:
    limit = guarded.worst_of(3) * 4
    guarded.accounts.budgets.set("organization", "", "day", Money(micros=limit))

    def ask(number: int) -> str:
        try:
            guarded.ask()
        except openai.RateLimitError as error:
            return str(error.code)
        return "ok"

    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(ask, range(60)))
    assert set(said) <= {"ok", "insufficient_quota", "rate_limit_exceeded"}
    assert said.count("ok") > 4
    assert 0 < guarded.charged <= limit


def test_what_is_reserved_by_others_is_worth_waiting_for(guarded) -> None:
    guarded.accounts.budgets.set("project", "tests", "total", Money(micros=1000))
    guarded.running.engine.hold = 1
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(guarded.ask)
        assert guarded.running.engine.holding.wait(20)
        with pytest.raises(openai.RateLimitError) as caught:
            guarded.ask()
        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.response.headers["retry-after"] == "1"
        guarded.running.engine.hold = None
        guarded.running.engine.go_on.set()
        first.result()
    guarded.ask()


def test_a_client_that_leaves_pays_for_what_was_made(guarded) -> None:
    budget = guarded.accounts.budgets.set("project", "tests", "total", Money(micros=10**6))
    guarded.running.engine.hold = 2
    with guarded.running.client().chat.completions.create(model="played", messages=HELLO, stream=True) as stream:
        next(iter(stream))
        assert guarded.running.engine.holding.wait(20)
    until(guarded.running.meter.entries)
    until(lambda: guarded.spending(budget).reserved_micros == 0)
    (entry,) = guarded.running.meter.entries()
    assert entry.status == "cancelled"
    assert guarded.spending(budget).spent_micros == entry.charge.micros > 0


def test_an_answer_that_cannot_be_booked_stays_reserved(guarded) -> None:
    budget = guarded.accounts.budgets.set("project", "tests", "total", Money(micros=10**6))
    guarded.running.meter.error = OSError("no space")
    with pytest.raises(openai.InternalServerError):
        guarded.ask()
    assert guarded.spending(budget).reserved_micros > 0
    assert guarded.spending(budget).spent_micros == 0


def test_a_refused_request_reserves_nothing(guarded) -> None:
    budget = guarded.accounts.budgets.set("project", "tests", "total", Money(micros=10**6))
    for wrong in ({"model": "no-such"}, {"temperature": 9}):
        status, _, _ = guarded.running.ask('{"model": "played", "messages": []}')
        assert status == 400
        with pytest.raises(openai.APIStatusError):
            guarded.running.client().chat.completions.create(**{"model": "played", "messages": HELLO, **wrong})
    assert guarded.spending(budget).left_micros == 10**6


def test_requests_per_minute(guarded) -> None:
    guarded.accounts.rates.set("project", "tests", requests=2)
    first = guarded.ask().headers
    assert (first["x-ratelimit-limit-requests"], first["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert first["x-ratelimit-reset-requests"].endswith("s")
    streamed = guarded.ask(stream=True)
    assert streamed.headers["x-ratelimit-remaining-requests"] == "0"
    streamed.parse().close()
    with pytest.raises(openai.RateLimitError) as caught:
        guarded.ask()
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 30
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    _, other = guarded.accounts.keys.create("elsewhere")
    assert "x-ratelimit-limit-requests" not in guarded.ask(secret=other).headers


def test_tokens_per_minute_are_corrected_to_what_was_used(guarded) -> None:
    guarded.accounts.rates.set("organization", model="played", tokens=1000)
    guarded.accounts.rates.set("organization", model="another", tokens=0)
    guarded.ask(tokens=600)
    (used,) = [entry.usage.total_tokens for entry in guarded.running.meter.entries()]
    assert used < 20
    assert int(guarded.ask(tokens=600).headers["x-ratelimit-remaining-tokens"]) > 300
    with pytest.raises(openai.RateLimitError) as caught:
        guarded.ask(tokens=1000)
    assert (caught.value.type, caught.value.response.headers["x-should-retry"]) == ("tokens", "false")


def test_a_limit_on_a_tuned_model_counts_requests_to_its_checkpoints(guarded) -> None:
    model = "ft:base:tests::1"
    guarded.accounts.rates.set("organization", model=model, requests=2)

    def limits(asked: str) -> bool:
        return guarded.gate.rules(("tests", "key", asked, "", False)) is not None

    asked = (model, f"{model}:ckpt-step-3", "ft:base:tests::2:ckpt-step-3", "base")
    assert [limits(each) for each in asked] == [True, True, False, False]


def test_a_limit_of_another_process_holds_at_once(guarded, tmp_path) -> None:
    guarded.ask()
    other = open_accounts(tmp_path / "keys.sqlite")
    other.rates.set("organization", requests=0)
    other.close()
    with pytest.raises(openai.RateLimitError):
        guarded.ask()


def test_a_key_sees_and_asks_its_own_models_only(guarded) -> None:
    _, secret = guarded.accounts.keys.create("docs", models=["another"])
    with pytest.raises(openai.PermissionDeniedError) as caught:
        guarded.ask(secret=secret)
    assert caught.value.code == "model_not_found"
    assert guarded.running.client(secret).models.list().data == []
    with pytest.raises(openai.NotFoundError):
        guarded.running.client(secret).models.retrieve("played")
    assert [model.id for model in guarded.running.client().models.list().data] == ["played"]


def test_what_is_fine_tuned_falls_under_what_is_said_of_its_base(guarded) -> None:
    key, _ = guarded.accounts.keys.create("docs", models=["played"])
    assert [key.may_ask(model) for model in ("played", "ft:played:docs::1", "ft:other:docs::1")] == [True, True, False]
    limit = guarded.accounts.rates.set("project", "docs", "played", requests=1)

    def limits_of(model: str) -> list[str]:
        rules = guarded.gate.rules(("docs", key.id, model, "", False))
        return [block.limit.id for block in rules.standing.requests] if rules else []

    assert [limits_of(model) for model in ("played", "ft:played:docs::1", "ft:other:docs::1")] == [
        [limit.id],
        [limit.id],
        [],
    ]


def test_an_archived_project_is_refused_in_words(guarded) -> None:
    _, secret = guarded.accounts.keys.create("docs")
    guarded.accounts.projects.archive("docs")
    with pytest.raises(openai.AuthenticationError) as caught:
        guarded.ask(secret=secret)
    assert caught.value.code == "project_archived"


def test_a_budget_in_another_currency_lets_nobody_spend(guarded) -> None:
    budget = guarded.accounts.budgets.set("organization", "", "day", Money(micros=10**9, currency="EUR"))
    with pytest.raises(openai.RateLimitError) as caught:
        guarded.ask()
    error = caught.value
    assert (error.code, error.response.headers["x-should-retry"]) == ("budget_currency_mismatch", "false")
    assert f"is in EUR, and prices are in USD: an administrator has to remove {budget.id}" in error.message
    assert guarded.running.engine.requests == []
    with pytest.raises(Refused):
        guarded.gate.reserve_job(Subject(kind="step", id="job", project="tests"), Usage(input_tokens=1))


def test_an_alert_in_another_currency_refuses_nobody(guarded) -> None:
    euros = Money(micros=10**9, currency="EUR")
    alert = guarded.accounts.budgets.set_alert("project", "tests", euros)
    guarded.accounts.budgets.set("organization", "", "month", euros, enforced=False)
    guarded.ask()
    guarded.gate.reserve_job(Subject(kind="step", id="job", project="tests"), Usage(input_tokens=1))
    assert guarded.spending(alert).spent_micros == 0


def test_a_gate_settles_at_its_start_what_a_dead_process_left(tmp_path) -> None:
    accounts = open_accounts(tmp_path / "keys.sqlite")
    budget = accounts.budgets.set("organization", "", "day", Money(micros=100))
    first = Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda ids: {})
    held = first.hold(Subject(kind="request", id="r"), Usage(input_tokens=5), 5)
    first.admit(held._need)
    killed(first)
    assert accounts.budgets.spending(budget).reserved_micros >= 35
    second = Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda ids: dict.fromkeys(ids, 21))
    state = accounts.budgets.spending(budget)
    assert (state.spent_micros, state.reserved_micros) == (21, 0)
    second.close()
    accounts.close()


def test_models_that_were_asked_for_before_anything_was_drawn_share_a_block(tmp_path) -> None:
    accounts = open_accounts(tmp_path / "keys.sqlite")
    budget = accounts.budgets.set("organization", "", "day", Money(micros=10_000))
    gate = Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda ids: {})
    first, second = (
        gate.hold(Subject(kind="request", id=model, model=model), Usage(input_tokens=10), 0) for model in "ab"
    )
    gate.settle(gate.admit(first._need), 70, 10)
    need = second._need
    permit = gate.admit_now(need.rules, need.subject.id, need.tokens, need.micros)
    assert isinstance(permit, Permit), "what the first draws is for both"
    killed(gate)
    charges = {"a": 70, "b": 50}
    Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda ids: {id: charges[id] for id in ids}).close()
    state = accounts.budgets.spending(budget)
    assert (state.spent_micros, state.reserved_micros) == (120, 0)
    accounts.close()


def test_what_is_no_token_is_within_a_hard_budget_too(tmp_path) -> None:
    accounts = open_accounts(tmp_path / "keys.sqlite")
    accounts.budgets.set("organization", "", "day", Money(micros=100))
    gate = Gate(
        accounts.database, lambda subject: Tariff(0, 0, unit=10**6), Worker(tmp_path / "workers"), lambda ids: {}
    )
    gate.admit(gate.hold(Subject(kind="request", id="r"), Usage(units=60), 0)._need)
    with pytest.raises(Refused):
        gate.admit(gate.hold(Subject(kind="request", id="s"), Usage(units=60), 0)._need)
    gate.close()
    accounts.close()


def test_a_dead_sibling_makes_room_without_a_restart(tmp_path) -> None:
    accounts = open_accounts(tmp_path / "keys.sqlite")
    budget = accounts.budgets.set("organization", "", "day", Money(micros=100))
    first, second = (
        Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda ids: dict.fromkeys(ids, 0)) for _ in "ab"
    )
    need = [gate.hold(Subject(kind="request", id=id), Usage(input_tokens=14), 0)._need for gate, id in
            ((first, "r"), (second, "s"))]  # fmt: skip
    first.admit(need[0])
    killed(first)
    second._swept_at -= 10
    second.admit(need[1])
    assert accounts.budgets.spending(budget).reserved_micros == 98
    second.close()
    accounts.close()


def test_books_that_cannot_be_read_refuse_as_ever(tmp_path) -> None:
    def unreadable(ids):
        raise sqlite3.OperationalError("disk I/O error")

    accounts = open_accounts(tmp_path / "keys.sqlite")
    accounts.budgets.set("organization", "", "day", Money(micros=100))
    first = Gate(accounts.database, pricing, Worker(tmp_path / "workers"), lambda ids: {})
    second = Gate(accounts.database, pricing, Worker(tmp_path / "workers"), unreadable)
    usage = Usage(input_tokens=14)
    first.admit(first.hold(Subject(kind="request", id="r"), usage, 0)._need)
    killed(first)  # its reservation cannot be settled: the books do not say what it came to
    second._swept_at -= 10
    with pytest.raises(Refused):
        second.admit(second.hold(Subject(kind="request", id="s"), usage, 0)._need)
    second.close()
    accounts.close()


@pytest.mark.parametrize(("seconds", "told"), [(0.001, "1ms"), (59.999, "1m0s"), (60, "1m0s"), (3600, "60m0s")])
def test_durations(seconds, told) -> None:
    assert duration(seconds) == told


def test_what_the_database_cannot_be_told_now_it_is_told_later(guarded, monkeypatch) -> None:
    """Told and given back by the gate's own thread: nothing in this test asks for it."""
    budget = guarded.accounts.budgets.set("project", "tests", "total", Money(micros=10**6))
    leases = guarded.gate._holding.leases
    tell = leases.tell

    def broken(*_: object) -> None:
        raise BackendError("the disk is away")

    monkeypatch.setattr(leases, "tell", broken)
    guarded.ask()
    until(lambda: guarded.gate._holding._untold)
    state = guarded.accounts.budgets.spending(budget)
    assert (state.spent_micros, state.reserved_micros > 0) == (0, True)
    monkeypatch.setattr(leases, "tell", tell)
    until(lambda: guarded.accounts.budgets.spending(budget).reserved_micros == 0)
    assert guarded.accounts.budgets.spending(budget).spent_micros == guarded.charged


def test_who_is_refused_money_sees_which_is_more() -> None:
    limit = Money(micros=5_000_000)
    budget = Budget(id="bud_1", scope="project", scope_id="shop", period="month", limit=limit, created_at=0)
    told = refuse_money(Spending(budget=budget, span="2026-11", spent_micros=211), 5_000_300, ()).message
    assert "has 4.999789 USD left" in told and "up to 5.000300 USD" in told


def test_a_sweep_that_fails_refuses_as_before(tmp_path) -> None:
    def charged(ids: object) -> dict[str, int]:
        raise BackendError("the books are away")

    accounts = open_accounts(tmp_path / "keys.sqlite")
    accounts.budgets.set("organization", "", "day", Money(micros=100))
    gates = [Gate(accounts.database, pricing, Worker(tmp_path / "workers"), charged) for _ in "ab"]
    first, second = (
        gate.hold(Subject(kind="request", id=id), Usage(input_tokens=14), 0)._need
        for gate, id in zip(gates, "rs", strict=True)
    )
    gates[0].admit(first)
    killed(gates[0])
    gates[1]._swept_at -= 10
    with pytest.raises(Refused):
        gates[1].admit(second)
    gates[1].close()
    accounts.close()
