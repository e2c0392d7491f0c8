"""The verbs keys, projects and limits: what they say to people, to machines, and to who asks for the impossible."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from bessemer.cli.verbs_keys import expiry
from bessemer.cli.verbs_limits import money
from bessemer.core.errors import ConfigError
from bessemer.meter import PriceBook, PriceHistory
from bessemer.products.home import Gateway, Home
from bessemer.products.known_prices import KnownPrices, note_prices
from bessemer.serve import Key, open_accounts

from .calling import call, refused


def said(folder: Path, *words: str) -> Any:
    done = call(folder, *words[:2], "--json", *words[2:])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_key_from_its_making_to_its_end(tmp_path: Path) -> None:
    made = said(tmp_path, "keys", "create", "--project", "docs", "--models", "a, b", "--expires", "30d")
    assert made["models"] == ["a", "b"]
    assert made["expires_at"] == pytest.approx(time.time() + 30 * 86_400, abs=300)
    rotated = said(tmp_path, "keys", "rotate", made["id"])
    robot = said(tmp_path, "keys", "create", "--project", "docs", "--service-account", "nightly")
    said(tmp_path, "keys", "revoke", robot["id"])
    accounts = open_accounts(tmp_path / "state" / "keys.sqlite")
    found = accounts.keys.verify(rotated["key"])
    assert isinstance(found, Key)
    assert (found.models, found.service_account) == (("a", "b"), "")
    assert accounts.keys.get(robot["id"]).service_account == robot["service_account"] != ""
    accounts.close()
    table = call(tmp_path, "keys", "list", "--project", "docs", COLUMNS="200").stdout
    assert (table.count("revoked"), table.count("active")) == (2, 1)
    assert rotated["id"] in table
    assert made["key"].split("-", 2)[2] not in table


def test_a_key_says_that_it_made_its_project(tmp_path: Path) -> None:
    first, second = (call(tmp_path, "keys", "create", "--project", "nosuch", COLUMNS="200").stdout for _ in range(2))
    assert "new project nosuch: there was none" in first and "new project" not in second
    assert [said(tmp_path, "keys", "create", "--project", name)["new_project"] for name in ("nosuch", "x")] == [
        False,
        True,
    ]


def test_projects_and_their_log(tmp_path: Path) -> None:
    assert said(tmp_path, "projects", "create", "shop")["id"] == "shop"
    said(tmp_path, "projects", "rename", "shop", "The shop")
    said(tmp_path, "keys", "create", "--project", "shop")
    (shop,) = said(tmp_path, "projects", "list")
    assert (shop["name"], shop["keys"]) == ("The shop", 1)
    said(tmp_path, "projects", "archive", "shop")
    assert said(tmp_path, "projects", "list") == []
    assert "archived" in call(tmp_path, "projects", "list", "--all").stdout
    acts = [event["act"] for event in said(tmp_path, "projects", "log", "--project", "shop")]
    assert acts == ["project.archived", "api_key.created", "project.updated", "project.created"]
    assert "project.updated" in call(tmp_path, "projects", "log", COLUMNS="120").stdout
    for words, numbers in {
        ("--act", "project.created, api_key.created"): [1, 3],
        ("--act", "project.created", "--project", "docs"): [],
        ("--actor", "local"): [0, 1, 2, 3],
        ("--actor", "key_none"): [],
        ("--since", "2001-01-01", "--until", "2999-01-01"): [0, 1, 2, 3],
        ("--until", "2001-01-01"): [],
        ("--since", "2999-01-01"): [],
    }.items():
        assert [event["act"] for event in said(tmp_path, "projects", "log", *words)] == [acts[n] for n in numbers], (
            words
        )
    assert "nothing of that" in call(tmp_path, "projects", "log", "--actor", "key_none").stdout
    refused(call(tmp_path, "keys", "create", "--project", "shop"), "archived")


def test_limits_are_set_shown_and_lifted(tmp_path: Path) -> None:
    assert "nothing is limited" in call(tmp_path, "limits", "show").stdout
    said(tmp_path, "projects", "create", "docs")
    rate = said(tmp_path, "limits", "rate", "--project", "docs", "--model", "m", "--requests", "60")
    assert (rate["requests_per_minute"], rate["tokens_per_minute"]) == (60, None)
    budget = said(tmp_path, "limits", "budget", "12.50", "--project", "docs", "--period", "day", "--alert")
    assert (budget["budget"]["limit"]["micros"], budget["budget"]["enforced"]) == (12_500_000, False)
    said(tmp_path, "limits", "credit", "100", "--note", "transfer 1")
    said(tmp_path, "limits", "credit", "--", "-30")
    credit = said(tmp_path, "limits", "credit", "-10", "--note", "paid back")
    assert credit["budget"]["limit"]["micros"] == 60_000_000
    words = call(tmp_path, "limits", "show", COLUMNS="120").stdout
    for word in (rate["id"], budget["budget"]["id"], "12.50", "60.00 USD", "organization", "credit"):
        assert word in words
    shown = said(tmp_path, "limits", "show", "--project", "docs")
    assert ([r["id"] for r in shown["rates"]], len(shown["budgets"])) == ([rate["id"]], 1)
    alerts = [said(tmp_path, "limits", "spend-alert", amount, "--project", "docs") for amount in ("5", "7.5")]
    assert [each["budget"]["limit"]["micros"] for each in alerts] == [5_000_000, 7_500_000]
    assert "only tells" in call(tmp_path, "limits", "show", COLUMNS="120").stdout
    assert len(said(tmp_path, "limits", "show", "--project", "docs")["budgets"]) == 3
    for id in (rate["id"], budget["budget"]["id"], credit["budget"]["id"], *(each["budget"]["id"] for each in alerts)):
        said(tmp_path, "limits", "remove", id)
    assert said(tmp_path, "limits", "show") == {"rates": [], "budgets": []}


def test_limits_can_be_read_in_80_columns(tmp_path: Path) -> None:
    said(tmp_path, "projects", "create", "customer")
    for more in (("budget", "0.123456", "--alert"), ("credit", "0.123456"), ("spend-alert", "0.123456")):
        said(tmp_path, "limits", more[0], more[1], "--project", "customer", *more[2:])
    words = call(tmp_path, "limits", "show", COLUMNS="80").stdout
    assert max(map(len, words.splitlines())) <= 80
    assert [words.split().count(word) for word in ("period", "credit", "customer")] == [1, 1, 3]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("keys", "create", "--project", "p", "--expires", "soon"), "no time"),
        (("keys", "create", "--project", "p", "--expires", "2020-01-01"), "over"),
        (("keys", "create", "--project", "p", "--service-account", "x", "--admin"), "no other options"),
        (("keys", "create", "--project", "p", "--expires", "0d"), "over at once"),
        (("keys", "rotate", "no-such"), "no-such"),
        (("projects", "rename", "no-such", "x"), "no-such"),
        (("limits", "rate", "--requests", "1", "--project", "no-such"), "no-such"),
        (("limits", "rate", "--project", "p"), "no limit is given"),
        (("limits", "rate", "--requests", "1", "--project", "p", "--key", "k"), "a project and a key"),
        (("limits", "budget", "much"), "no amount"),
        (("limits", "budget", "0.0000001"), "millionths"),
        (("limits", "budget", "1", "--period", "year"), "year"),
        (("limits", "budget", "1", "--currency", "dollars"), "no amount"),
        (("limits", "credit", "--", "-5"), "cannot be"),
        (("limits", "credit", "-5"), "cannot be"),
        (("limits", "spend-alert", "0"), "never be told"),
        (("limits", "remove", "bud_no"), "bud_no"),
        (("limits", "remove", "rl_no"), "rl_no"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    refused(call(tmp_path, *words), told)


def test_amounts_are_in_the_currency_of_the_price_book(tmp_path: Path) -> None:
    euros = PriceHistory(books=(PriceBook(version="1", currency="EUR"),))
    note_prices(Home(tmp_path / "state"), KnownPrices(factory="steel", history=euros))
    said(tmp_path, "projects", "create", "docs")
    for words in (("budget", "5"), ("credit", "5"), ("spend-alert", "5")):
        assert said(tmp_path, "limits", *words)["budget"]["limit"]["currency"] == "EUR"
        refused(
            call(tmp_path, "limits", *words, "--currency", "USD", "--project", "docs"), "in EUR, and nothing in USD"
        )


@pytest.mark.parametrize("text", ["1e400", "NaN", "inf", "1,5", ""])
def test_no_amount(text: str) -> None:
    with pytest.raises(ConfigError):
        money(text, "USD")


def test_expiry() -> None:
    assert expiry("", 5.0) is None
    assert expiry("90m", 0.0) == 5400.0
    assert expiry("2w", 0.0) == 14 * 86_400


def test_alerts_of_a_budget(tmp_path: Path) -> None:
    said(tmp_path, "projects", "create", "docs")
    budget = said(tmp_path, "limits", "budget", "5", "--project", "docs")["budget"]["id"]
    assert said(tmp_path, "limits", "alert", budget, "90, 60%") == {"budget": budget, "percents": [60, 90]}
    assert said(tmp_path, "limits", "alert", budget, "never")["percents"] == []
    refused(call(tmp_path, "limits", "alert", budget, "half"), "no percents")
    refused(call(tmp_path, "limits", "alert", budget, "0"), "no threshold")
    refused(call(tmp_path, "limits", "alert", "bud_x", "50"), "no budget")


def test_people_and_what_is_kept_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    accounts = open_accounts(tmp_path / "state" / "keys.sqlite")
    accounts.projects.create("docs")
    made = said(tmp_path, "projects", "admit", "docs", "ada@example.org", "--owner")
    (member,) = accounts.users.members("docs").items
    assert (member.user.email, member.role) == ("ada@example.org", "owner")
    assert accounts.users.of_keys() == {made["id"]: member.user.id}
    assert said(tmp_path, "projects", "capture", "docs", "--pii", "mask") == {"stores": True, "pii": "mask"}
    assert accounts.capture.of("docs").pii == "mask"
    refused(call(tmp_path, "projects", "dismiss", "docs", "bob@example.org"), "is not in the project")
    said(tmp_path, "projects", "dismiss", "docs", "ada@example.org")
    robot, key, _ = accounts.projects.create_service_account("docs", "nightly")
    longer = said(tmp_path, "keys", "prolong", key.id, "30d")
    assert (
        longer["expires_at"] == accounts.keys.get(key.id).expires_at == pytest.approx(time.time() + 2_592_000, abs=300)
    )
    assert [(who["kind"], who["id"]) for who in said(tmp_path, "projects", "people", "docs")] == [
        ("service_account", robot.id)
    ]
    assert accounts.keys.get(made["id"]).revoked_at is not None
    accounts.close()


def test_a_rate_of_a_model_that_the_gateway_does_not_serve_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    home.announce(Gateway(url="http://127.0.0.1:1", pid=os.getpid(), models=("mine",), started_at=0))
    refused(call(tmp_path, "limits", "rate", "--model", "zz", "--requests", "1"), "serves no model 'zz'", "mine")
    for model in ("mine", "ft:mine:default:x:1"):
        assert said(tmp_path, "limits", "rate", "--model", model, "--requests", "1")["model"] == model


def test_before_any_run_an_amount_is_in_the_currency_that_is_declared(tmp_path: Path) -> None:
    ways = [("budget", "5"), ("credit", "5"), ("spend-alert", "5")]
    for way in ways:
        done = call(tmp_path, "limits", way[0], "--json", *way[1:])
        assert json.loads(done.stdout)["budget"]["limit"]["currency"] == "USD"
        assert "USD is assumed" in done.stderr
    assert "assumed" not in call(tmp_path, "limits", "budget", "5", "--currency", "CHF").stderr
    (tmp_path / "prices.toml").write_text('version = "1"\ncurrency = "EUR"\n[default]\ninput = 1\noutput = 1\n')
    (tmp_path / "factory.yaml").write_text(
        "name: shop\nsources: [{kind: folder, path: .}]\nproduct: {kind: llm}\nmeter: {price_book: prices.toml}\n"
    )
    for way in ways:
        done = call(tmp_path, "limits", way[0], "--json", *way[1:], BESSEMER_HOME=str(tmp_path / "other"))
        assert (json.loads(done.stdout)["budget"]["limit"]["currency"], done.stderr) == ("EUR", "")
