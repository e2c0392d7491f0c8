"""Administration as the official client does it: projects, keys, service accounts, limits, spend limits, audit log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from openai import OpenAI

from bessemer.core.units import Money
from bessemer.serve import Key
from bessemer.serve.accounts.audit import AuditFilter
from bessemer.serve.accounts.schemas import NO_LIMIT

from ..conftest import HELLO, Administered, administered_in, lax


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    with ExitStack() as stack:
        yield administered_in(tmp_path_factory.mktemp("administered"), stack, "USD")


def test_projects(desk) -> None:
    made = desk.admin.projects.create(name="The shop")
    assert (made.object, made.name, made.status, made.archived_at) == (
        "organization.project",
        "The shop",
        "active",
        None,
    )
    assert abs(made.created_at - time.time()) < 60
    renamed = desk.admin.projects.update(made.id, name="The old shop")
    assert renamed.name == "The old shop" == desk.admin.projects.retrieve(made.id).name
    more = [desk.admin.projects.create(name=f"p{n}").id for n in range(3)]
    listed = [project.id for project in desk.admin.projects.list(limit=2)]
    assert [id for id in listed if id in (made.id, *more)] == [made.id, *more], "over pages"
    assert len(set(listed)) == len(listed)
    archived = desk.admin.projects.archive(made.id)
    assert archived.status == "archived"
    assert made.id not in [project.id for project in desk.admin.projects.list()]
    assert made.id in [project.id for project in desk.admin.projects.list(include_archived=True)]
    with pytest.raises(openai.ConflictError):
        desk.admin.projects.update(made.id, name="x")
    with pytest.raises(openai.NotFoundError):
        desk.admin.projects.retrieve("no-such")
    with pytest.raises(openai.BadRequestError):
        desk.admin.projects.create(name=" ")
    with pytest.raises(openai.BadRequestError):
        desk.admin.projects.create(name="x", geography="EU")


def test_a_service_account_asks_until_it_is_deleted(desk) -> None:
    project = desk.admin.projects.create(name="robots").id
    accounts = desk.admin.projects.service_accounts
    made = accounts.create(project, name="nightly")
    assert (made.object, made.role) == ("organization.project.service_account", "member")
    client = desk.running.client(made.api_key.value)
    client.chat.completions.create(model="played", messages=HELLO)
    assert desk.running.meter.entries()[-1].subject.project == project
    (key,) = desk.admin.projects.api_keys.list(project)
    assert (key.id, key.owner.type, key.owner.service_account.id) == (made.api_key.id, "service_account", made.id)
    assert made.api_key.value not in key.model_dump_json()
    assert [each.id for each in accounts.list(project)] == [made.id]
    assert accounts.retrieve(made.id, project_id=project).name == "nightly"
    deleted = accounts.delete(made.id, project_id=project)
    assert (deleted.deleted, deleted.object) == (True, "organization.project.service_account.deleted")
    with pytest.raises(openai.AuthenticationError):
        client.models.list()
    with pytest.raises(openai.NotFoundError):
        accounts.retrieve(made.id, project_id=project)


def test_keys_of_a_project(desk) -> None:
    project, other = (desk.admin.projects.create(name=name).id for name in ("one", "other"))
    status, made = desk.raw(
        "POST",
        f"/v1/organization/projects/{project}/api_keys",
        {"name": "k", "models": ["another"], "expires_in_seconds": 60},
    )
    assert status == 200
    assert desk.running.client(made["value"]).models.list().data == []
    keys = desk.admin.projects.api_keys
    found = keys.retrieve(made["id"], project_id=project)
    assert (found.name, found.owner.type) == ("k", "user")
    assert abs(found.expires_at - time.time() - 60) < 30
    with pytest.raises(openai.NotFoundError):
        keys.retrieve(made["id"], project_id=other)
    with pytest.raises(openai.NotFoundError):
        keys.delete(made["id"], project_id=other)
    assert keys.delete(made["id"], project_id=project).deleted
    assert list(keys.list(project)) == []
    with pytest.raises(openai.NotFoundError):
        keys.delete(made["id"], project_id=project)
    assert desk.raw("POST", "/v1/organization/projects/misspelt/api_keys", {"name": "k"})[0] == 404


def test_keys_of_administrators(desk) -> None:
    made = desk.admin.admin_api_keys.create(name="second", expires_in_seconds=3600)
    assert isinstance(desk.accounts.keys.verify(made.value), Key)
    assert made.id in [key.id for key in desk.admin.admin_api_keys.list(limit=1)]
    assert desk.admin.admin_api_keys.retrieve(made.id).redacted_value != made.value
    assert desk.raw("GET", "/v1/organization/projects", secret=made.value)[0] == 200
    (first, *_), (last, *_) = (list(desk.admin.admin_api_keys.list(order=o, limit=1)) for o in ("asc", "desc"))
    assert (first.name, last.id) == ("root", made.id)
    with pytest.raises(openai.BadRequestError):
        desk.admin.admin_api_keys.list(order="newest")
    assert desk.admin.admin_api_keys.delete(made.id).object == "organization.admin_api_key.deleted"
    assert desk.raw("GET", "/v1/organization/projects", secret=made.value)[0] == 401


def test_rate_limits(desk) -> None:
    project = desk.admin.projects.create(name="slow").id
    limits = desk.admin.projects.rate_limits
    assert [(each.id, each.model) for each in limits.list_rate_limits(project)] == [
        ("rl-*", "*"),
        ("rl-played", "played"),
    ]
    limits.update_rate_limit("rl-played", project_id=project, max_requests_per_1_minute=5)
    changed = limits.update_rate_limit("rl-played", project_id=project, max_tokens_per_1_minute=700)
    assert (changed.max_requests_per_1_minute, changed.max_tokens_per_1_minute) == (5, 700)
    (kept,) = desk.accounts.rates.list("project", project)
    assert (kept.model, kept.requests_per_minute, kept.tokens_per_minute) == ("played", 5, 700)
    limits.update_rate_limit("rl-*", project_id=project, max_requests_per_1_minute=9)
    assert [each.max_requests_per_1_minute for each in limits.list_rate_limits(project)] == [9, 5]
    assert [each.id for each in limits.list_rate_limits(project, after="rl-*")] == ["rl-played"]
    assert [each.id for each in limits.list_rate_limits(project, before="rl-played")] == ["rl-*"]
    page = limits.list_rate_limits(project, limit=1)
    assert ([each.id for each in page.data], page.has_more) == (["rl-*"], True)
    assert [each.id for each in page] == ["rl-*", "rl-played"], "over pages"
    with pytest.raises(openai.BadRequestError):
        limits.list_rate_limits(project, before="rl-other")
    path = f"/v1/organization/projects/{project}/rate_limits/rl-*"
    assert desk.raw("POST", path, {"max_requests_per_1_minute": None})[1]["max_requests_per_1_minute"] == NO_LIMIT
    limits.update_rate_limit("rl-*", project_id=project, max_requests_per_1_minute=9)
    lifted = limits.update_rate_limit("rl-*", project_id=project, max_requests_per_1_minute=NO_LIMIT)
    assert lifted.max_requests_per_1_minute == lifted.max_tokens_per_1_minute == NO_LIMIT
    assert len(desk.accounts.rates.list("project", project)) == 1
    with pytest.raises(openai.NotFoundError):
        limits.update_rate_limit("other", project_id=project, max_requests_per_1_minute=1)
    with pytest.raises(openai.NotFoundError, match="no model 'zz'"):
        limits.update_rate_limit("rl-zz", project_id=project, max_requests_per_1_minute=1)
    for name in ("max_requests_per_1_day", "batch_1_day_max_input_tokens", "max_images_per_1_minute"):
        with pytest.raises(openai.BadRequestError, match="not supported") as refused:
            limits.update_rate_limit("rl-*", project_id=project, **{name: 5})
        assert refused.value.param == name
    with pytest.raises(openai.BadRequestError):
        limits.update_rate_limit("rl-played", project_id=project, max_images_per_1_minute=1)


def test_spend_limits(desk) -> None:
    project = desk.admin.projects.create(name="thrifty").id
    limit = desk.admin.projects.spend_limit
    with pytest.raises(openai.NotFoundError):
        limit.retrieve(project)
    made = limit.update(project, currency="USD", interval="month", threshold_amount=1250)
    assert (made.object, made.threshold_amount, made.enforcement.status) == ("project.spend_limit", 1250, "inactive")
    (budget,) = desk.accounts.budgets.list("project", project)
    assert (budget.limit, budget.period, budget.enforced) == (Money(micros=12_500_000), "month", True)
    assert limit.update(project, currency="USD", interval="month", threshold_amount=0).enforcement.status == "enforcing"
    assert limit.retrieve(project).threshold_amount == 0
    assert limit.retrieve(project).model_extra == {"alert_percents": [50, 80, 100]}
    month: Any = {"currency": "USD", "interval": "month", "threshold_amount": 9}
    told = limit.update(project, **month, extra_body={"alert_percents": [90, 60]})
    assert told.model_extra == {"alert_percents": [60, 90]} == limit.update(project, **month).model_extra, "it stays"
    assert desk.accounts.alerts.percents(budget.id) == (60, 90)
    (_, noted, *_) = desk.accounts.audit.list(wanted=AuditFilter(projects=[project])).items
    assert (noted.target, noted.details, noted.actor != "local") == (budget.id, {"alert_percents": [60, 90]}, True)
    assert limit.update(project, **month, extra_body={"alert_percents": []}).model_extra == {"alert_percents": []}
    with pytest.raises(openai.BadRequestError):
        limit.update(project, **month, extra_body={"alert_percents": [0]})
    assert limit.delete(project).deleted
    assert desk.accounts.budgets.list("project", project) == ()
    whole = desk.admin.spend_limit
    assert whole.update(currency="USD", interval="month", threshold_amount=7).object == "organization.spend_limit"
    assert whole.retrieve().threshold_amount == 7
    assert whole.delete().object == "organization.spend_limit.deleted"


def test_a_limit_in_another_currency_than_the_prices_is_refused_when_it_is_set(desk) -> None:
    project = desk.admin.projects.create(name="abroad").id
    asked: Any = {"currency": "EUR", "interval": "month", "threshold_amount": 100_000}
    for set_limit in (
        lambda: desk.admin.spend_limit.update(**asked),
        lambda: desk.admin.projects.spend_limit.update(project, **asked),
        lambda: desk.admin.spend_alerts.create(**asked, notification_channel=WEBHOOK),
    ):
        with pytest.raises(openai.BadRequestError, match="USD, and nothing in EUR can be held against") as caught:
            set_limit()
        assert (caught.value.code, caught.value.param) == ("invalid_value", "currency")
    assert not [budget for budget in desk.accounts.budgets.list() if budget.limit.currency == "EUR"]


WEBHOOK: Any = {"type": "webhook"}


def test_spend_alerts(desk) -> None:
    project, other = (desk.admin.projects.create(name=name).id for name in ("told", "untold"))
    alerts = lax(desk.admin._client).admin.organization.projects.spend_alerts
    like = {"currency": "USD", "interval": "month", "notification_channel": WEBHOOK}
    made = [alerts.create(project, threshold_amount=cents, **like) for cents in (100, 250, 300)]
    assert (made[0].object, made[0].threshold_amount, made[0].interval) == ("project.spend_alert", 100, "month")
    assert [each.id for each in alerts.list(project, limit=2)] == [each.id for each in made], "over pages"
    assert [each.threshold_amount for each in alerts.list(project, order="desc")] == [300, 250, 100]
    assert [each.id for each in alerts.list(project, before=made[2].id)] == [made[0].id, made[1].id]
    assert alerts.update(made[1].id, project_id=project, threshold_amount=200, **like).threshold_amount == 200
    assert alerts.retrieve(made[1].id, project_id=project).threshold_amount == 200
    desk.admin.projects.spend_limit.update(project, currency="USD", interval="month", threshold_amount=1)
    desk.admin.projects.spend_limit.delete(project)
    assert len(list(alerts.list(project))) == 3, "a limit comes and goes beside them"
    kept = desk.accounts.budgets.alerts("project", project)
    assert [(each.limit.micros, each.enforced) for each in kept] == [
        (cents * 10_000, False) for cents in (100, 200, 300)
    ]
    assert {desk.accounts.alerts.percents(each.id) for each in kept} == {(100,)}
    for foreign in (lambda: alerts.retrieve(made[0].id, project_id=other),
                    lambda: alerts.retrieve("x", project_id=project),
                    lambda: alerts.update(made[0].id, project_id=other, threshold_amount=1, **like),
                    lambda: alerts.delete(made[0].id, project_id=other),
                    lambda: lax(desk.admin._client).admin.organization.spend_alerts.retrieve(made[0].id)):  # fmt: skip
        with pytest.raises(openai.NotFoundError):
            foreign()
    assert alerts.delete(made[0].id, project_id=project).object == "project.spend_alert.deleted"
    assert [each.id for each in alerts.list(project)] == [each.id for each in made[1:]]
    whole = lax(desk.admin._client).admin.organization.spend_alerts.create(threshold_amount=7, **like)
    assert whole.object == "organization.spend_alert"
    assert [each.id for each in lax(desk.admin._client).admin.organization.spend_alerts.list()] == [whole.id]
    assert lax(desk.admin._client).admin.organization.spend_alerts.delete(whole.id).deleted


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"notification_channel": {"type": "email", "recipients": ["a@example.com"]}}, "notification_channel.type"),
        ({"notification_channel": {"type": "webhook", "recipients": ["a@example.com"]}}, "notification_channel"),
        ({"threshold_amount": 0}, "threshold_amount"),
        ({"interval": "day"}, "interval"),
        ({"notification_channel": None}, "notification_channel"),
    ],
)
def test_an_alert_that_would_not_be_told_is_refused(desk, wrong, param) -> None:
    body = {"currency": "USD", "interval": "month", "threshold_amount": 5, "notification_channel": WEBHOOK} | wrong
    status, told = desk.raw("POST", "/v1/organization/spend_alerts", body)
    assert (status, told["error"]["param"]) == (400, param)
    assert desk.accounts.budgets.alerts("organization", "") == ()


def test_there_are_only_so_many_alerts_as_a_request_can_bear(desk) -> None:
    project = desk.admin.projects.create(name="anxious").id
    body = {"currency": "USD", "interval": "month", "threshold_amount": 5, "notification_channel": WEBHOOK}
    path = f"/v1/organization/projects/{project}/spend_alerts"
    assert [desk.raw("POST", path, body)[0] for _ in range(21)] == [200] * 20 + [409]
    for edge in ("before", "after"):
        assert desk.raw("GET", f"{path}?{edge}=x")[1]["error"]["param"] == edge


def test_the_audit_log_says_who_did_what(desk) -> None:
    (me,) = [key.id for key in desk.admin.admin_api_keys.list() if key.name == "root"]
    before = int(time.time()) - 1
    project = desk.admin.projects.create(name="watched").id
    desk.admin.projects.update(project, name="seen")
    events = list(desk.admin.audit_logs.list(project_ids=[project], limit=1))
    assert [event.type for event in events] == ["project.updated", "project.created"], "over pages, the newest first"
    assert {event.actor.api_key.id for event in events} == {me}
    assert events[0].project.name == "seen"
    made = desk.admin.audit_logs.list(event_types=["project.created"], effective_at={"gte": before}, actor_ids=[me])
    assert project in [event.project.id for event in made]
    assert list(desk.admin.audit_logs.list(effective_at={"lt": before - 10**6})) == []
    assert list(desk.admin.audit_logs.list(actor_ids=["nobody"])) == []


def test_the_audit_log_is_searched_by_who_and_by_what(desk) -> None:
    logs = desk.admin.audit_logs
    ada, eve = (desk.accounts.users.create(f"{name}@example.org") for name in ("ada", "eve"))
    key, secret = desk.accounts.keys.create("default", admin=True, user_id=ada.id)
    with OpenAI(
        base_url=f"{desk.running.url}/v1", api_key="none", admin_api_key=secret, _strict_response_validation=True
    ) as client:
        project = client.admin.organization.projects.create(name="hers").id
    mine = desk.admin.projects.create(name="mine").id
    for wanted in ({"actor_emails": [ada.email]}, {"actor_ids": [ada.id]}, {"actor_ids": [key.id]},
                   {"actor_emails": [ada.email, eve.email], "actor_ids": [key.id]}):  # fmt: skip
        assert [event.project.id for event in logs.list(**wanted)] == [project], wanted
    for nobody in ({"actor_emails": [eve.email]}, {"actor_ids": [eve.id]},
                   {"actor_emails": [eve.email], "actor_ids": [key.id]}):  # fmt: skip
        assert list(logs.list(**nobody)) == [], nobody
    desk.admin.projects.update(mine, name="still mine")
    assert [event.type for event in logs.list(resource_ids=[mine])] == ["project.updated", "project.created"]
    assert list(logs.list(tenant_only=False, resource_ids=[project])), "as if it were left out"
    with pytest.raises(openai.BadRequestError, match="tenants"):
        logs.list(tenant_only=True)


def test_the_audit_log_is_read_back_and_forth(desk) -> None:
    logs, project = desk.admin.audit_logs, desk.admin.projects.create(name="p").id
    for number in range(4):
        desk.admin.projects.update(project, name=f"p{number}")
    ids = [event.id for event in logs.list(resource_ids=[project])]
    assert len(ids) == 5
    page = logs.list(resource_ids=[project], before=ids[3], limit=2)
    assert ([event.id for event in page.data], page.has_more) == (ids[1:3], True), "right before it, the newest first"
    page = logs.list(resource_ids=[project], before=ids[1], limit=2)
    assert ([event.id for event in page.data], page.has_more) == (ids[:1], False)
    assert [event.id for event in logs.list(resource_ids=[project], after=ids[0], before=ids[3])] == ids[1:3]
    with pytest.raises(openai.BadRequestError):
        logs.list(before="yesterday")


def test_keys_are_listed_by_whether_their_owner_is_still_there(desk) -> None:
    project = desk.admin.projects.create(name="left").id
    keys, robots = desk.admin.projects.api_keys, desk.admin.projects.service_accounts
    stays, goes = (robots.create(project, name=name) for name in ("stays", "goes"))
    robots.delete(goes.id, project_id=project)
    for access, found in (("active", [stays.api_key.id]), ("any", [stays.api_key.id]), ("inactive", [])):
        assert [key.id for key in keys.list(project, owner_project_access=access)] == found, access
    with pytest.raises(openai.BadRequestError):
        keys.list(project, owner_project_access="perhaps")


PATHS = [
    ("GET", "/v1/organization/projects"),
    ("POST", "/v1/organization/projects"),
    ("GET", "/v1/organization/projects/default"),
    ("POST", "/v1/organization/projects/default"),
    ("POST", "/v1/organization/projects/default/archive"),
    ("GET", "/v1/organization/projects/default/api_keys"),
    ("POST", "/v1/organization/projects/default/api_keys"),
    ("GET", "/v1/organization/projects/default/service_accounts"),
    ("POST", "/v1/organization/projects/default/service_accounts"),
    ("GET", "/v1/organization/projects/default/rate_limits"),
    ("POST", "/v1/organization/projects/default/rate_limits/rl-*"),
    ("POST", "/v1/organization/projects/default/spend_limit"),
    ("DELETE", "/v1/organization/spend_limit"),
    ("GET", "/v1/organization/audit_logs"),
    ("GET", "/v1/organization/admin_api_keys"),
    ("POST", "/v1/organization/admin_api_keys"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_only_administrators_come_in(desk, method, path) -> None:
    acts = len(desk.accounts.audit.list(10_000).items)
    status, told = desk.raw(method, path, {"name": "x"}, secret=desk.running.secret)
    assert (status, told["error"]["code"]) == (403, "insufficient_permissions")
    assert desk.raw(method, path, {"name": "x"}, secret="bk-wrong")[0] == 401
    assert len(desk.accounts.audit.list(10_000).items) == acts


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=1e3"])
def test_pages_have_bounds(desk, query) -> None:
    status, told = desk.raw("GET", f"/v1/organization/projects?{query}")
    assert (status, told["error"]["param"]) == (400, "limit")


@pytest.mark.parametrize("query", ["after=x", "effective_at[gt]=now"])
def test_the_audit_log_refuses_what_it_does_not_know(desk, query) -> None:
    assert desk.raw("GET", f"/v1/organization/audit_logs?{query}")[0] == 400


def test_what_is_unknown_is_refused_by_name(desk) -> None:
    status, told = desk.raw("POST", "/v1/organization/projects", {"nam": "x", "name": "y"})
    assert (status, told["error"]["code"], told["error"]["param"]) == (400, "unknown_parameter", "nam")
    assert desk.raw("POST", "/v1/organization/projects", [])[0] == 400


def test_whoever_pages_is_led_on_though_what_was_told_has_ended(desk) -> None:
    project = desk.accounts.projects.create("paged").id
    keys = [desk.accounts.keys.create(project)[0].id for _ in range(3)]
    services = [desk.accounts.projects.create_service_account(project, name)[0].id for name in "abc"]
    desk.accounts.keys.revoke(keys[0])
    desk.accounts.projects.delete_service_account(project, services[0])
    paths = {"api_keys": keys, "service_accounts": services}
    for path, ids in paths.items():
        status, page = desk.raw("GET", f"/v1/organization/projects/{project}/{path}?limit=1&after={ids[0]}")
        assert (status, [each["id"] for each in page["data"]], page["has_more"]) == (200, [ids[1]], True)
        status, page = desk.raw("GET", f"/v1/organization/projects/{project}/{path}?after=never-was")
        assert (status, page["error"]["code"]) == (404, "not_found")
    others = [desk.accounts.projects.create(f"paged {number}").id for number in range(2)]
    desk.accounts.projects.archive(others[0])
    _, page = desk.raw("GET", f"/v1/organization/projects?after={others[0]}".replace(" ", "%20"))
    assert [each["id"] for each in page["data"]][:1] == [others[1]]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "projects", {"name": "a\x00b"}),
        ("POST", "projects/default/rate_limits/rl-ft:a%00", {"max_requests_per_1_minute": 1}),
    ],
)
def test_what_no_database_takes_is_refused(desk, method, path, body) -> None:
    """Postgres takes no zero in a text; what one database refuses, both do."""
    status, told = desk.raw(method, f"/v1/organization/{path}", body)
    assert (status, told["error"]["code"]) == (400, "invalid_value")


def test_what_no_database_takes_is_found_nowhere(desk) -> None:
    status, told = desk.raw("GET", "/v1/organization/projects/a%00b")
    assert (status, told["error"]["code"]) == (404, "not_found")
    status, told = desk.raw("GET", "/v1/organization/audit_logs?project_ids=a%00b")
    assert (status, told["data"]) == (200, [])
