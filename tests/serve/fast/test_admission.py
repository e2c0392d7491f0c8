"""Whose a key is: remembered, and forgotten as soon as anybody changes a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.serve import KeyStore
from bessemer.serve.fast.admission import FRESH_SECONDS, KeyAdmission


@pytest.fixture
def clocks() -> dict[str, float]:
    return {"unix": 1000.0, "any": 0.0}


@pytest.fixture
def keys(tmp_path: Path, clocks: dict[str, float]):
    store = KeyStore(tmp_path / "keys.sqlite", lambda: clocks["unix"])
    yield store
    store.close()


@pytest.fixture
def admission(keys: KeyStore, clocks: dict[str, float]) -> KeyAdmission:
    return KeyAdmission(keys, lambda: clocks["any"])


def test_a_known_key_is_not_asked_for_again(keys, admission, monkeypatch) -> None:
    key, secret = keys.create("tests")
    assert admission.know(secret).key_id == key.id
    monkeypatch.setattr(keys, "verify", lambda secret: pytest.fail("it is known"))
    assert admission.know(secret).project == "tests"


@pytest.mark.parametrize("wrong", ["", "bk-", "bk-x-y", "\ud800"])
def test_nobodys_key(keys, admission, wrong) -> None:
    keys.create("tests")
    assert admission.know(wrong) is None
    assert admission.know(wrong) is None


def test_a_key_that_is_revoked_here_is_refused_at_once(keys, admission) -> None:
    key, secret = keys.create("tests")
    assert admission.know(secret)
    keys.revoke(key.id)
    assert admission.know(secret) is None


def test_a_key_that_another_process_revokes_is_refused_soon(keys, admission, clocks, tmp_path) -> None:
    key, secret = keys.create("tests")
    assert admission.know(secret)
    other = KeyStore(tmp_path / "keys.sqlite")
    other.revoke(key.id)
    other.close()
    clocks["any"] += FRESH_SECONDS * 1.01
    assert admission.know(secret) is None


def test_a_key_expires(keys, admission, clocks) -> None:
    _, secret = keys.create("tests", expires_at=1010.0)
    assert admission.know(secret)
    clocks["unix"] = 1010.0
    assert admission.know(secret) is None
