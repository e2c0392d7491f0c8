"""Who is admitted at once, and who is left to the application: keys that end, keys for some models, limits, budgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from bessemer.core.forwarding import Spent, Terms
from bessemer.core.nouns import Subject, Usage
from bessemer.core.units import Money
from bessemer.serve import Accounts, Gate, KeyStore, Tariff, Worker, open_accounts
from bessemer.serve.fast.admission import Identity, KeyAdmission, Permit
from bessemer.serve.refusals import Refusal, Refused
from tests.serve.conftest import until


@pytest.fixture
def clock() -> SimpleNamespace:
    return SimpleNamespace(unix=1000.0)


@pytest.fixture
def keys(tmp_path: Path, clock: SimpleNamespace) -> Iterator[KeyStore]:
    store = KeyStore(tmp_path / "keys.sqlite", lambda: clock.unix)
    yield store
    store.close()


@pytest.mark.parametrize("wrong", ["", "bk-", "bk-x-y", "\ud800"])
def test_nobodys_key(keys: KeyStore, wrong: str) -> None:
    keys.create("tests")
    admission = KeyAdmission(keys)
    assert admission.know(wrong) is None
    assert admission.know(wrong) is None


def test_a_key_that_is_revoked_here_is_refused_at_once(keys: KeyStore) -> None:
    admission = KeyAdmission(keys)
    key, secret = keys.create("tests")
    who = admission.know(secret)
    assert who is not None and (who.key_id, who.project) == (key.id, "tests")
    keys.revoke(key.id)
    assert admission.know(secret) is None


def test_a_key_that_another_process_revokes_is_refused_at_once(keys: KeyStore, tmp_path: Path) -> None:
    admission = KeyAdmission(keys)
    key, secret = keys.create("tests")
    assert admission.know(secret)
    other = KeyStore(tmp_path / "keys.sqlite")
    other.revoke(key.id)
    other.close()
    assert admission.know(secret) is None


def test_a_key_that_is_rotated_goes_on_under_its_new_secret_only(keys: KeyStore) -> None:
    admission = KeyAdmission(keys)
    old, secret = keys.create("tests", models=("m",))
    assert admission.know(secret)
    new, again = keys.rotate(old.id)
    assert admission.know(secret) is None
    who = admission.know(again)
    assert who is not None and (who.key_id, who.project) == (new.id, "tests")
    assert admission.admit(who, Spent("r", "tests", who.key_id, "other"), (1, 1)) is None, "it is for the same models"


def test_a_key_expires(keys: KeyStore, clock: SimpleNamespace) -> None:
    admission = KeyAdmission(keys)
    _, secret = keys.create("tests", expires_at=1010.0)
    assert admission.know(secret)
    clock.unix = 1010.0
    assert admission.know(secret) is None


def test_a_key_for_other_models_is_left_to_the_application(keys: KeyStore) -> None:
    admission = KeyAdmission(keys)
    who = admission.know(keys.create("tests", models=("m",))[1])
    assert who is not None
    assert isinstance(admission.admit(who, Spent("r", "tests", who.key_id, "m"), (1, 1)), Permit)
    assert admission.admit(who, Spent("r", "tests", who.key_id, "other"), (1, 1)) is None


@dataclass
class Limited:
    """A gate before one key, as the short way asks it."""

    accounts: Accounts
    gate: Gate
    admission: KeyAdmission
    who: Identity
    number: int = 0

    def spent(self) -> Spent:
        self.number += 1
        return Spent(f"req_{self.number}", self.who.project, self.who.key_id, "m")

    def drawn(self) -> None:
        """Let a request in the long way, as the application does for what the short way leaves to it, and end it."""
        subject = Subject(kind="request", id="req_long", project="bound", key_id=self.who.key_id, model="m")
        hold = self.gate.hold(subject, Usage(input_tokens=1, output_tokens=1), 2)
        self.gate.settle(self.gate.admit(hold._need), 2, 2)  # type: ignore[union-attr]

    def settled(self, permit: Permit, spent: Spent, micros: int) -> None:
        spent.mark, spent.terms = object(), Terms("", "", "", "USD", "")
        spent.charge_micros, spent.usage = micros, (micros, 0, 0)
        self.admission.settle(permit, spent)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Limited]:
    accounts = open_accounts(tmp_path / "accounts.sqlite")
    tariff = Tariff(10**6, 10**6)
    gate = Gate(accounts.database, lambda subject: tariff, Worker(tmp_path / "workers"), lambda requests: {})
    admission = KeyAdmission(accounts.keys, gate)
    who = admission.know(accounts.keys.create("bound")[1])
    assert who is not None
    yield Limited(accounts, gate, admission, who)
    gate.close()
    accounts.close()


def test_what_nothing_limits_shares_one_permit(limited: Limited) -> None:
    first, second = (limited.admission.admit(limited.who, limited.spent(), (1, 1)) for _ in "ab")
    assert isinstance(first, Permit) and first is second and first.headers == b""


def test_the_first_request_under_a_limit_draws_and_the_next_are_let_in_at_once(limited: Limited) -> None:
    limited.accounts.rates.set("project", "bound", requests=1000, tokens=100_000)
    budget = limited.accounts.budgets.set("project", "bound", "total", Money(micros=10_000))
    assert limited.admission.admit(limited.who, limited.spent(), (1, 1)) is None, "nothing is held yet"
    limited.drawn()
    spent = limited.spent()
    permit = limited.admission.admit(limited.who, spent, (1, 1))
    assert isinstance(permit, Permit)
    assert b"x-ratelimit-limit-requests: 1000\r\nx-ratelimit-remaining-requests: 998\r\n" in permit.headers
    rules = limited.gate.rules(("bound", limited.who.key_id, "m", "", False))
    assert rules is not None
    told = "".join(f"{name}: {value}\r\n" for name, value in rules.standing.headers())
    assert permit.headers.decode() == told, "both ways tell the same"
    limited.settled(permit, spent, 1)
    limited.gate._holding.let_go()
    state = limited.accounts.budgets.spending(budget)
    assert (state.spent_micros, state.reserved_micros, state.overrun_micros) == (3, 0, 0)


def test_a_spent_budget_is_refused_from_memory_until_it_is_raised(limited: Limited) -> None:
    limited.accounts.budgets.set("project", "bound", "total", Money(micros=2))
    limited.drawn()
    with pytest.raises(Refused):
        limited.drawn()
    refusal = limited.admission.admit(limited.who, limited.spent(), (1, 1))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, dict(refusal.headers)) == (
        429, "insufficient_quota", {"x-should-retry": "false"},
    )  # fmt: skip
    limited.accounts.budgets.set("project", "bound", "total", Money(micros=2000))
    assert limited.admission.admit(limited.who, limited.spent(), (1, 1)) is None, "the database is asked again"
    limited.drawn()
    assert isinstance(limited.admission.admit(limited.who, limited.spent(), (1, 1)), Permit)


@pytest.mark.parametrize("kind", ["rate", "budget"])
def test_what_is_tightened_holds_at_once(limited: Limited, kind: str) -> None:
    limited.accounts.rates.set("project", "bound", requests=1000)
    limited.accounts.budgets.set("project", "bound", "total", Money(micros=10_000))
    limited.drawn()
    assert isinstance(limited.admission.admit(limited.who, limited.spent(), (1, 1)), Permit)
    if kind == "rate":
        limited.accounts.rates.set("project", "bound", requests=0)
    else:
        limited.accounts.budgets.set("project", "bound", "total", Money(micros=1))
    assert limited.admission.admit(limited.who, limited.spent(), (1, 1)) is None
    with pytest.raises(Refused):
        limited.drawn()


def test_a_short_rate_limit_is_refused_from_memory(limited: Limited) -> None:
    limited.accounts.rates.set("project", "bound", requests=1)
    limited.drawn()
    with pytest.raises(Refused):
        limited.drawn()
    refusal = limited.admission.admit(limited.who, limited.spent(), (1, 1))
    assert isinstance(refusal, Refusal) and refusal.code == "rate_limit_exceeded"
    assert 0 < int(dict(refusal.headers)["retry-after"]) <= 60


def test_what_is_not_booked_yet_stays_reserved_and_what_never_began_does_not(limited: Limited) -> None:
    budget = limited.accounts.budgets.set("project", "bound", "total", Money(micros=10_000))
    limited.drawn()
    late, never = limited.spent(), limited.spent()
    permits = [limited.admission.admit(limited.who, each, (4, 1)) for each in (late, never)]
    assert all(isinstance(each, Permit) for each in permits)
    late.mark = object()
    for permit, spent in zip(permits, (late, never), strict=True):
        assert isinstance(permit, Permit)
        limited.admission.settle(permit, spent)
    limited.gate._holding.let_go()
    assert limited.accounts.budgets.spending(budget).reserved_micros == 5
    late.charge_micros, late.usage, late.terms = 3, (3, 0, 0), Terms("", "", "", "USD", "")
    until(lambda: limited.accounts.budgets.spending(budget).reserved_micros == 0)
    assert limited.accounts.budgets.spending(budget).spent_micros == 5


def test_a_limit_of_a_key_is_that_key_s_alone_and_moves_with_it(limited: Limited) -> None:
    limited.accounts.rates.set("key", limited.who.key_id, requests=1)
    limited.drawn()
    with pytest.raises(Refused):
        limited.drawn()
    assert isinstance(limited.admission.admit(limited.who, limited.spent(), (1, 1)), Refusal)
    free = limited.admission.know(limited.accounts.keys.create("bound")[1])
    assert free is not None
    assert isinstance(limited.admission.admit(free, Spent("r", "bound", free.key_id, "m"), (1, 1)), Permit)
    who = limited.admission.know(limited.accounts.keys.rotate(limited.who.key_id)[1])
    assert who is not None
    limited.who = who
    assert not isinstance(limited.admission.admit(who, limited.spent(), (1, 1)), Permit)
    with pytest.raises(Refused):
        limited.drawn()
