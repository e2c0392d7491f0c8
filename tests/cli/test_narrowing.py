"""`usage` and `costs` by key, user, model and batch: what the administration's wire tells, from the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.nouns import Subject, Usage
from bessemer.meter import MeterConfig, open_meter
from bessemer.serve import open_accounts

from .calling import call, refused


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Book a request with each of four keys, two of them Ada's; the n-th took n times 10 tokens."""
    accounts = open_accounts(tmp_path / "state" / "keys.sqlite")
    users = {name: accounts.users.create(f"{name}@example.org").id for name in ("ada", "bob")}
    owners = {"laptop": "ada", "phone": "ada", "desk": "bob", "robot": ""}
    made = {
        name: accounts.keys.create("shop", name=name, user_id=users.get(owner, ""))[0].id
        for name, owner in owners.items()
    }
    accounts.close()
    with open_meter(MeterConfig(sensors="model"), tmp_path / "state" / "books") as meter:
        for number, (name, id) in enumerate(made.items(), 1):
            model = "small" if name == "phone" else "large"
            subject = Subject(kind="request", id=name, project="shop", key_id=id, model=model, batch=name == "desk")
            meter.stop(meter.start(subject), Usage(input_tokens=10 * number))
    return made


def told(folder: Path, verb: str, *words: str) -> Any:
    done = call(folder, verb, "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def input_of(folder: Path, verb: str, *words: str) -> int:
    rows = told(folder, verb, *words)
    if verb == "usage":
        return sum(row["usage"]["input_tokens"] for row in rows)
    return sum(row["quantity"] for row in rows if row["item"] == "input")


@pytest.mark.parametrize("verb", ["usage", "costs"])
def test_only_what_is_asked_for_is_counted(tmp_path: Path, keys: dict[str, str], verb: str) -> None:
    both = f"{keys['laptop']},{keys['robot']}"
    for only, tokens in (
        ([f"key={keys['desk']}"], 30),
        ([f"key={both}"], 50),
        ([f"key={keys['laptop']}", f"key={keys['robot']}"], 50),
        (["user=ada@example.org"], 30),
        (["user=ada@example.org,bob@example.org"], 60),
        (["user=ada@example.org", f"key={both}"], 10),
        (["user=bob@example.org", f"key={both}"], 0),
        (["model=small"], 20),
        (["batch=yes"], 30),
        (["batch=no", "model=large"], 50),
    ):
        words = [word for each in only for word in ("--only", each)]
        assert input_of(tmp_path, verb, *words) == tokens, only
        assert input_of(tmp_path, verb, *words, "--project", "docs") == 0


@pytest.mark.parametrize("verb", ["usage", "costs"])
@pytest.mark.parametrize(
    ("only", "word"),
    [
        ("colour=red", "colour=red"),
        ("key", "key"),
        ("model=", "model="),
        ("batch=maybe", "maybe"),
        ("user=x@y.z", "x@y.z"),
    ],
)
def test_what_cannot_be_asked_for_is_said(
    tmp_path: Path, keys: dict[str, str], verb: str, only: str, word: str
) -> None:
    refused(call(tmp_path, verb, "--only", only), word)


def test_usage_of_people_is_that_of_their_keys(tmp_path: Path, keys: dict[str, str]) -> None:
    rows = told(tmp_path, "usage", "--group-by", "user")
    assert sorted(row["usage"]["input_tokens"] for row in rows) == [30, 30, 40]
    assert all(set(row["group"]) == {"user_id"} for row in rows)
    each = told(tmp_path, "usage", "--group-by", "user,key", "--only", "user=ada@example.org")
    assert {row["group"]["key_id"]: row["usage"]["input_tokens"] for row in each} == {
        keys["laptop"]: 10,
        keys["phone"]: 20,
    }
    words = call(tmp_path, "usage", "--group-by", "user", COLUMNS="120").stdout
    assert words.count("ada@example.org") == words.count("bob@example.org") == 1


def test_costs_are_told_apart_as_asked(tmp_path: Path, keys: dict[str, str]) -> None:
    def heads(*words: str) -> list[str]:
        lines = call(tmp_path, "costs", *words, COLUMNS="120").stdout.splitlines()
        return [line.strip() for line in lines if line and not line.startswith((" ", "─", "input", "together"))]

    assert heads() == ["shop  large", "shop  small"]
    assert heads("--group-by", "user") == ["ada@example.org", "bob@example.org", "nobody's key"]
    assert heads("--group-by", "key", "--only", "model=small") == [keys["phone"]]
    assert heads("--group-by", "day")[0].startswith("20")
    refused(call(tmp_path, "costs", "--group-by", "colour"), "colour")
