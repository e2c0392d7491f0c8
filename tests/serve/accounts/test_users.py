"""People as the official client administers them: in projects, with keys of their own, in usage, gone at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from bessemer.core.errors import ConfigError, Conflict, NotFound
from bessemer.core.nouns import EnergyClass, Usage
from bessemer.core.usage import CostLine, UsageQuery, UsageRow
from bessemer.serve import Accounts, Key, KeyRefusal, open_accounts
from bessemer.serve.privacy import Capture

from ..conftest import Administered, administered_in

DAY = 86_400


class Booked:
    """Says of each key that it used 10 tokens in the first day, for 3 micro-units."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts

    def usage(self, query: UsageQuery) -> list[UsageRow]:
        keys = [key for key in self.accounts.keys.list() if not query.key_ids or key.id in query.key_ids]
        values = [{"key_id": key.id, "project": key.project} for key in keys]
        groups = [{name: value[name] for name in query.group_by} for value in values]
        amounts = dict.fromkeys(("microjoules_low", "microjoules_high", "micrograms", "cost_micros"), 0)
        return [
            UsageRow(start=0, group=group, entries=1, usage=Usage(input_tokens=10), microjoules=2, charge_micros=3,
                     currency="USD", energy_class=EnergyClass.MODELLED, **amounts)
            for group in groups
        ]  # fmt: skip

    def costs(self, query: UsageQuery) -> list[CostLine]:
        same = {"start": 0, "model": "m", "service_tier": "", "batch": False, "item": "input", "quantity": 10}
        money = {"unit_micros": None, "amount_micros": 3, "currency": "USD", "price_version": "v"}
        return [CostLine(project=k.project, key_id=k.id, **same, **money) for k in self.accounts.keys.list()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Administered]:
    with ExitStack() as stack:
        yield administered_in(tmp_path, stack, usage=Booked)


def key_of(desk: Administered, project: str, user: str) -> dict[str, Any]:
    """Make a key of a person."""
    status, key = desk.raw("POST", f"/v1/organization/projects/{project}/api_keys", {"name": "k", "user_id": user})
    assert status == 200, key
    return dict(key)


def test_who_is_let_in_asks_until_taken_out(desk: Administered) -> None:
    shop, docs = (desk.admin.projects.create(name=name).id for name in ("shop", "docs"))
    members = desk.admin.projects.users
    ada = members.create(shop, role="member", email="ada@example.org")
    assert (ada.object, ada.role, ada.email) == ("organization.project.user", "member", "ada@example.org")
    members.create(docs, role="owner", user_id=ada.id)
    (user,) = desk.admin.users.list()
    assert (user.id, user.object, user.email) == (ada.id, "organization.user", "ada@example.org")
    keys = {project: key_of(desk, project, ada.id) for project in (shop, docs)}
    told = desk.admin.projects.api_keys.retrieve(keys[shop]["id"], project_id=shop)
    assert (told.owner.type, told.owner.user.id, told.owner.user.email) == ("user", ada.id, "ada@example.org")
    assert [key.owner.user.id for key in desk.admin.projects.api_keys.list(shop)] == [ada.id]
    assert members.update(ada.id, project_id=shop, role="owner").role == "owner"
    assert members.retrieve(ada.id, project_id=shop).role == "owner"
    clients = {project: desk.running.client(keys[project]["value"]) for project in keys}
    assert members.delete(ada.id, project_id=shop).object == "organization.project.user.deleted"
    with pytest.raises(openai.AuthenticationError):
        clients[shop].models.list()
    assert clients[docs].models.list().data, "the other project is not touched"
    assert list(members.list(shop)) == []
    assert desk.admin.users.delete(ada.id).object == "organization.user.deleted"
    with pytest.raises(openai.AuthenticationError):
        clients[docs].models.list()
    assert list(desk.admin.users.list()) == []
    for gone in (
        lambda: desk.admin.users.retrieve(ada.id),
        lambda: members.retrieve(ada.id, project_id=docs),
        lambda: members.create(docs, role="member", user_id=ada.id),
    ):
        with pytest.raises(openai.NotFoundError):
            gone()


def test_people_are_made_listed_and_given_roles(desk: Administered) -> None:
    people = [{"email": f"u{n}@example.org", "name": f"U {n}"} for n in range(3)]
    made = [desk.raw("POST", "/v1/organization/users", each)[1]["id"] for each in people]
    assert [user.id for user in desk.admin.users.list(limit=2)] == made
    assert [user.id for user in desk.admin.users.list(emails=["u1@example.org"])] == [made[1]]
    assert desk.admin.users.retrieve(made[0]).role == "reader"
    assert desk.admin.users.update(made[0], role="owner").role == "owner"
    assert desk.raw("POST", "/v1/organization/users", {"email": "u0@example.org"})[0] == 409
    status, told = desk.raw("POST", "/v1/organization/users", {"email": "nobody"})
    assert (status, told["error"]["code"], told["error"]["param"]) == (400, "invalid_value", "email")
    project = desk.admin.projects.create(name="p").id
    status, told = desk.raw("POST", f"/v1/organization/projects/{project}/api_keys", {"name": "k", "user_id": made[0]})
    assert (status, told["error"]["code"]) == (404, "not_found"), "only members have keys"
    with pytest.raises(openai.BadRequestError):
        desk.admin.projects.users.create(project, role="member")
    assert not [each for each in desk.accounts.audit.list().items if "example.org" in each.model_dump_json()]


def test_a_service_account_gets_more_keys_and_another_name_and_a_key_another_end(desk: Administered) -> None:
    project = desk.admin.projects.create(name="robots").id
    accounts = desk.admin.projects.service_accounts
    robot = accounts.create(project, name="nightly")
    second = accounts.api_keys.create(robot.id, project_id=project, name="spare", expires_in_seconds=60)
    assert (second.object, second.name) == ("organization.project.service_account.api_key", "spare")
    assert isinstance(desk.accounts.keys.verify(second.value), Key)
    assert accounts.update(robot.id, project_id=project, name="hourly").name == "hourly"
    keys = desk.admin.projects.api_keys
    longer = keys.update(second.id, project_id=project, expires_in_seconds=7200)
    assert longer.expires_at > second.expires_at + 3600
    accounts.delete(robot.id, project_id=project)
    assert desk.accounts.keys.verify(second.value) is KeyRefusal.REVOKED
    with pytest.raises(openai.NotFoundError):
        keys.update(second.id, project_id=project, expires_in_seconds=60)
    with pytest.raises(Conflict, match="has ended"):
        desk.accounts.keys.prolong(second.id, 9e9)


def test_usage_and_costs_by_user(desk: Administered) -> None:
    project = desk.admin.projects.create(name="p").id
    ada, bob = (desk.admin.projects.users.create(project, role="member", email=f"{n}@example.org") for n in "ab")
    mine = [key_of(desk, project, ada.id)["id"], key_of(desk, project, ada.id)["id"]]
    key_of(desk, project, bob.id)
    usage, whole = desk.admin.usage, {"start_time": 1, "end_time": DAY}
    (bucket,) = usage.completions(**whole, group_by=["user_id"]).data
    assert {each.user_id: each.input_tokens for each in bucket.results}.items() >= {ada.id: 20, bob.id: 10}.items()
    assert len(bucket.results) == len({each.user_id for each in bucket.results}), "one row for each"
    (bucket,) = usage.completions(**whole, group_by=["user_id", "api_key_id"], user_ids=[ada.id]).data
    assert sorted((each.user_id, each.api_key_id) for each in bucket.results) == sorted((ada.id, key) for key in mine)
    (bucket,) = usage.completions(**whole, user_ids=["user-none"]).data
    assert bucket.results == []
    (bucket,) = usage.costs(**whole, group_by=["user_id"]).data
    assert {each.user_id: each.micros for each in bucket.results}[ada.id] == 6  # type: ignore[attr-defined]


def test_kinds_of_use_that_are_not_here_are_empty(desk: Administered) -> None:
    usage, whole = desk.admin.usage, {"start_time": 1, "end_time": 2 * DAY}
    for kind in ("audio_speeches", "audio_transcriptions", "code_interpreter_sessions", "decisions", "images",
                 "file_search_calls", "moderations", "vector_stores", "web_search_calls"):  # fmt: skip
        page = getattr(usage, kind)(**whole)
        assert [bucket.results for bucket in page.data] == [[], []], kind
        with pytest.raises(openai.BadRequestError):
            getattr(usage, kind)(start_time=1, bucket_width="2d")


def test_on_both_databases(database_url: str) -> None:
    accounts = open_accounts(database_url)
    users, project = accounts.users, accounts.projects.create("shop").id
    ada = users.add(project, email="ada@example.org").user
    key, secret = accounts.keys.create(project, user_id=ada.id)
    assert (users.of_keys(), users.members(project).items[0].user) == ({key.id: ada.id}, ada)
    rotated, again = accounts.keys.rotate(key.id)
    assert rotated.user_id == ada.id, "a rotated key stays somebody's"
    with pytest.raises(Conflict, match=r"^the user ada@example.org is in the project"):
        users.add(project, id=ada.id)
    users.remove(project, ada.id)
    assert [accounts.keys.verify(each) for each in (secret, again)] == [KeyRefusal.REVOKED] * 2
    users.delete(ada.id)
    assert users.create("ada@example.org").id != ada.id, "an address is free again"
    for wrong in (lambda: users.add("no", email="x@y"), lambda: users.add(project, id="no"), lambda: users.get("no")):
        with pytest.raises(NotFound):
            wrong()
    with pytest.raises(ConfigError):
        users.create("x" * 70 + "@example.org")
    assert accounts.capture.of(project) == Capture()
    assert accounts.capture.set(project, Capture(stores=False, pii="mask")) == accounts.capture.of(project)
    assert accounts.capture.set(project, Capture(pii="mask")) == accounts.capture.of(project)
    accounts.projects.archive(project)
    with pytest.raises(Conflict, match="archived"):
        users.add(project, email="x@example.org")
    accounts.close()
