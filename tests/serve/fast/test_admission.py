"""Who is admitted at once, and who is left to the application: keys that end, keys for some models, limits, budgets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bessemer.core.units import Money
from bessemer.serve import KeyStore, open_accounts
from bessemer.serve.accounts.gate import Gate
from bessemer.serve.accounts.workers import Worker
from bessemer.serve.fast.admission import KeyAdmission, Permit
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


def test_a_key_that_another_process_revokes_is_refused_soon(keys: KeyStore, tmp_path: Path) -> None:
    admission = KeyAdmission(keys)
    key, secret = keys.create("tests")
    assert admission.know(secret)
    other = KeyStore(tmp_path / "keys.sqlite")
    other.revoke(key.id)
    other.close()
    until(lambda: admission.know(secret) is None)


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
    assert isinstance(admission.admit(who, "m", (1, 1)), Permit)
    assert admission.admit(who, "other", (1, 1)) is None


@pytest.mark.parametrize("limit", ["rate", "budget"])
def test_what_is_limited_is_left_to_the_application(tmp_path: Path, limit: str) -> None:
    accounts = open_accounts(f"sqlite:///{tmp_path / 'accounts.sqlite'}")
    gate = Gate(
        accounts.database, lambda subject, usage: Money(micros=1), Worker(tmp_path / "workers"), lambda requests: {}
    )
    admission = KeyAdmission(accounts.keys, gate)
    free, bound = (admission.know(accounts.keys.create(project)[1]) for project in ("free", "bound"))
    assert free is not None and bound is not None
    assert isinstance(admission.admit(bound, "m", (1, 1)), Permit)
    if limit == "rate":
        accounts.rates.set("project", "bound", requests=1)
    else:
        accounts.budgets.set("project", "bound", "total", Money(micros=5))
    assert admission.admit(bound, "m", (1, 1)) is None
    assert isinstance(admission.admit(free, "m", (1, 1)), Permit)
    gate.close()
    accounts.close()
