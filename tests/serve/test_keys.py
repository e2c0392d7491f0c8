"""Keys: shown once, kept hashed, checked, ended; for several processes at once."""

from __future__ import annotations

import hmac
import json
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError, IntegrityError, NotFound
from bessemer.serve import Key, KeyRefusal, KeyStore

from .conftest import HELLO


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def store(tmp_path: Path, now: list[float]):
    made = KeyStore(tmp_path / "deep" / "keys.sqlite", clock=lambda: now[0])
    yield made
    made.close()


@pytest.fixture(scope="module")
def guessed(tmp_path_factory):
    made = KeyStore(tmp_path_factory.mktemp("guessed") / "keys.sqlite")
    made.ensure_development_key()
    yield made
    made.close()


def test_a_key_is_shown_once_and_kept_hashed(store, tmp_path) -> None:
    key, secret = store.create("docs", name="of Ada", admin=True)
    assert secret.startswith(f"bk-{key.id}-")
    assert len(secret.removeprefix(f"bk-{key.id}-")) == 43, "256 bits in base64"
    assert store.verify(secret) == key
    assert store.list() == [key]
    assert (key.project, key.name, key.admin, key.created_at, key.revoked_at) == ("docs", "of Ada", True, 1000.0, None)
    random_part = secret.rsplit(key.id, 1)[1].encode()
    for path in (tmp_path / "deep").iterdir():
        assert random_part not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in repr(key) + key.model_dump_json()


def test_wrong_secrets_are_unknown(store) -> None:
    key, secret = store.create("docs")
    other, _ = store.create("docs")
    for wrong in (
        "", "bk-", "bk", secret[:-1], secret + "x", secret.upper(), secret[3:], key.id, f"bk-{key.id}-", 
        "bk-' OR 1=1 --", secret.replace(key.id, other.id), "\ud800", "ü" * 1000, "bk-\x00",
    ):  # fmt: skip
        assert store.verify(wrong) is KeyRefusal.UNKNOWN


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_no_text_is_a_key(guessed, text) -> None:
    assert guessed.verify(text) is KeyRefusal.UNKNOWN


def test_revoked_and_expired_keys(store, now) -> None:
    key, secret = store.create("docs", expires_at=2000.0)
    assert isinstance(store.verify(secret), Key)
    now[0] = 2000.0
    assert store.verify(secret) is KeyRefusal.EXPIRED
    revoked = store.revoke(key.id)
    assert store.verify(secret) is KeyRefusal.REVOKED
    now[0] = 3000.0
    assert store.revoke(key.id) == revoked, "again changes nothing"
    assert revoked.revoked_at == 2000.0
    assert store.verify(secret[:-1]) is KeyRefusal.UNKNOWN, "only who holds the secret learns what became of the key"
    with pytest.raises(NotFound, match="no-such"):
        store.revoke("no-such")


def test_a_rotated_key_goes_on_under_a_new_secret(store) -> None:
    old, old_secret = store.create("docs", admin=True, name="n", expires_at=5000.0)
    new, new_secret = store.rotate(old.id)
    assert store.verify(old_secret) is KeyRefusal.REVOKED
    assert store.verify(new_secret) == new
    assert (new.project, new.admin, new.name, new.expires_at) == ("docs", True, "n", 5000.0)
    assert len(store.list()) == 2
    with pytest.raises(NotFound):
        store.rotate("no-such")


@pytest.mark.parametrize("project", ["", " ", " docs", "docs\n", "x" * 201])
def test_projects_have_names(store, project) -> None:
    with pytest.raises(ConfigError):
        store.create(project)
    assert store.list() == []


def test_one_development_key_in_a_fresh_home(store) -> None:
    secret = store.ensure_development_key()
    assert isinstance(store.verify(secret), Key)
    assert store.ensure_development_key() is None
    store.revoke(store.list()[0].id)
    assert store.ensure_development_key() is None, "a home where a key was ended is not fresh"


PROGRAM = """
import json, sys
from pathlib import Path
from bessemer.serve import KeyStore
store = KeyStore(Path(sys.argv[1]))
first = store.ensure_development_key()
secrets = [store.create("p")[1] for _ in range(5)]
print(json.dumps([first, secrets]))
"""


def test_several_processes_at_once(tmp_path) -> None:
    path = tmp_path / "keys.sqlite"
    command = [sys.executable, "-c", PROGRAM, str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0] * 3
    assert sum(first is not None for first, _ in said) == 1, "one process gets the development key"
    store = KeyStore(path)
    assert len(store.list()) == 16
    assert all(isinstance(store.verify(secret), Key) for _, secrets in said for secret in secrets)
    store.close()


def test_a_key_of_another_process_works_and_ends_at_once(running) -> None:
    other = KeyStore(running.keys.url)
    key, secret = other.create("elsewhere")
    create = running.client(secret).chat.completions.create
    create(model="played", messages=HELLO)
    assert running.meter.entries()[0].subject.project == "elsewhere"
    other.revoke(key.id)
    with pytest.raises(openai.AuthenticationError) as caught:
        create(model="played", messages=HELLO)
    assert caught.value.code == "api_key_revoked"
    other.close()


def test_a_key_of_this_process_ends_at_once(running) -> None:
    key, secret = running.keys.create("here")
    create = running.client(secret).chat.completions.create
    create(model="played", messages=HELLO)
    running.keys.revoke(key.id)
    with pytest.raises(openai.AuthenticationError):
        create(model="played", messages=HELLO)


def test_what_is_no_database_is_named(tmp_path) -> None:
    path = tmp_path / "keys.sqlite"
    path.write_bytes(b"not a database, but long enough to look at " * 50)
    with pytest.raises(IntegrityError, match=r"keys\.sqlite"):
        KeyStore(path)
    with pytest.raises(ConfigError):
        KeyStore(tmp_path / "keys.sqlite" / "below-a-file")
    assert path.read_bytes().startswith(b"not a database")


def test_a_failed_write_leaves_nothing(store) -> None:
    store._database._writer("PRAGMA query_only = ON")
    with pytest.raises(Exception, match="keys"):
        store.create("docs")
    store._database._writer("PRAGMA query_only = OFF")
    assert store.list() == []
    store.create("docs")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "bk-abc", "Bearer wrong", "Bearer ümläut"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/played", "/v1/chat/completions"])
def test_no_way_in_without_a_key(running, header, path) -> None:
    connection = running.connect()
    method = "POST" if path.endswith("completions") else "GET"
    connection.request(method, path, b"{", {"Authorization": header.encode("latin-1")} if header else {})
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    assert (response.status, error["code"], error["type"]) == (401, "invalid_api_key", "invalid_request_error")
    assert response.headers["www-authenticate"] == "Bearer"


def test_two_keys_are_no_key(running) -> None:
    connection = running.connect()
    connection.putrequest("GET", "/v1/models")
    for _ in range(2):
        connection.putheader("Authorization", f"Bearer {running.secret}")
    connection.endheaders()
    assert connection.getresponse().status == 401


def test_the_official_client_understands_who_is_refused(running) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        running.client("bk-wrong").chat.completions.create(model="played", messages=HELLO)
    assert caught.value.code == "invalid_api_key"
    _, expired = running.keys.create("old", expires_at=1.0)
    with pytest.raises(openai.AuthenticationError) as refused:
        running.client(expired).models.list()
    assert refused.value.code == "api_key_expired"


def test_the_secrets_hash_is_what_is_compared(store) -> None:
    """A database with another digest under the same id refuses the secret: nothing else lets a key in."""
    key, secret = store.create("docs")
    with sqlite3.connect(store.url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE keys SET digest = zeroblob(32) WHERE id = ?", (key.id,))
    database.close()
    assert store.verify(secret) is KeyRefusal.UNKNOWN


def test_every_secret_is_compared_in_constant_time_and_with_as_much(tmp_path: Path, monkeypatch) -> None:
    """An id that is nobody's, a wrong secret and the right one each take one comparison of 32 bytes."""
    store = KeyStore(tmp_path / "keys.sqlite")
    _, secret = store.create("docs")
    compared: list[tuple[int, int]] = []
    right = hmac.compare_digest

    def compare(one: bytes, two: bytes) -> bool:
        compared.append((len(one), len(two)))
        return right(one, two)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    tried = [secret, secret[:-1] + ("a" if secret[-1] != "a" else "b"), f"bk-000000000000-{secret[16:]}", "x", ""]
    assert [isinstance(store.verify(each), Key) for each in tried] == [True, False, False, False, False]
    assert compared == [(32, 32)] * len(tried)
    store.close()
