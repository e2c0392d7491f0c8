"""The administration wire's shapes: what is asked, and how our nouns look on it.

Owns both. Source: the published OpenAPI description of OpenAI's API, administration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bessemer.serve.accounts.alerts import MOST_PERCENT
from bessemer.serve.accounts.audit import LOCAL, AuditEvent
from bessemer.serve.accounts.budgets import Budget, Spending
from bessemer.serve.accounts.pages import Page
from bessemer.serve.accounts.projects import Project, ServiceAccount
from bessemer.serve.accounts.rates import RateLimit
from bessemer.serve.accounts.users import Member, ProjectRole, Role, User
from bessemer.serve.asking import Only
from bessemer.serve.keys import Key
from bessemer.serve.privacy import Capture, Pii

Wire = dict[str, Any]
CENT_MICROS = 10_000
ALL_MODELS = "*"
"""On the wire, the model of a limit that counts all of them."""

_Seconds = Annotated[int, Field(ge=1, le=10**10)]
_Name = Annotated[str, Field(pattern=r"^\S(.{0,198}\S)?$")]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class AskedProject(_Asked):
    """A project's name; where data is kept cannot be chosen here."""

    name: _Name
    external_key_id: None = None
    geography: None = None
    residency: None = None


class AskedRetention(_Asked):
    """What is kept of a project's words: all that is asked for, or nothing; `pii` is our own."""

    retention_type: Literal["none", "organization_default", "zero_data_retention"] | None = None
    pii: Pii | None = None


class AskedServiceAccount(_Asked):
    """A service account, which gets a key."""

    name: _Name
    expires_in_seconds: _Seconds | None = None
    create_service_account_only: Literal[False] | None = None


class AskedServiceAccountUpdate(_Asked):
    """Another name; the role is always ``member``."""

    name: _Name | None = None
    role: Literal["member"] | None = None


class AskedServiceAccountKey(_Asked):
    """One more key of a service account."""

    name: Annotated[str, Field(max_length=200)] | None = None
    expires_in_seconds: _Seconds | None = None
    scopes: Annotated[list[str], Field(max_length=0)] | None = None


class AskedUser(_Asked):
    """A person, our own: OpenAI's wire makes them by invitations."""

    email: Annotated[str, Field(max_length=320)]
    name: Annotated[str, Field(max_length=200)] = ""
    role: Role = "reader"


class AskedUserUpdate(_Asked):
    """Another role in the organization."""

    role: Role


class AskedMember(_Asked):
    """Who is let into a project: somebody known by id, or anybody by address."""

    role: ProjectRole
    user_id: Annotated[str, Field(max_length=100)] | None = None
    email: Annotated[str, Field(max_length=320)] | None = None


class AskedMemberUpdate(_Asked):
    """Another role in a project."""

    role: ProjectRole


class AskedKeyUpdate(_Asked):
    """When a key ends, from now on."""

    expires_in_seconds: _Seconds | None = None
    scopes: Annotated[list[str], Field(max_length=0)] | None = None


class AskedKey(_Asked):
    """A key; `models` and `user_id`, whose it is, are our own."""

    name: Annotated[str, Field(max_length=200)]
    expires_in_seconds: _Seconds | None = None
    models: list[Annotated[str, Field(min_length=1, max_length=200)]] = []
    user_id: Annotated[str, Field(max_length=100)] | None = None


class AskedAdminKey(_Asked):
    """An administrator's key."""

    name: Annotated[str, Field(max_length=200)]
    expires_in_seconds: _Seconds | None = None


NO_LIMIT = 2**53 - 1
"""What the wire says where there is no limit: it knows numbers only, and JSON no higher whole one for sure."""


def _limit(value: int | None) -> int | None:
    return None if value == NO_LIMIT else value


_PerMinute = Annotated[Annotated[int, Field(ge=0, le=NO_LIMIT)] | None, AfterValidator(_limit)]


class AskedRateLimit(_Asked):
    """What may be asked in a minute; what is left out stays, and `NO_LIMIT` or null (our own) lifts it."""

    max_requests_per_1_minute: _PerMinute = None
    max_tokens_per_1_minute: _PerMinute = None

    batch_1_day_max_input_tokens: Annotated[Any, Only()] = None
    max_audio_megabytes_per_1_minute: Annotated[Any, Only()] = None
    max_images_per_1_minute: Annotated[Any, Only()] = None
    max_requests_per_1_day: Annotated[Any, Only()] = None

    def per_minute(self) -> dict[str, int | None]:
        """Return what was said about ``requests`` and ``tokens``."""
        told = {"requests": "max_requests_per_1_minute", "tokens": "max_tokens_per_1_minute"}
        return {unit: getattr(self, name) for unit, name in told.items() if name in self.model_fields_set}


class _Month(_Asked):
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    interval: Annotated[str, Field(pattern="^month$")]


class AskedSpendLimit(_Month):
    """What may be spent in a month, in hundredths of the currency; at which percents webhooks are told is our own."""

    threshold_amount: Annotated[int, Field(ge=0, le=10**13)]
    alert_percents: list[Annotated[int, Field(ge=1, le=MOST_PERCENT)]] | None = None


class Channel(_Asked):
    """How an alert is told: by the webhooks that asked for ``budget.threshold_reached``, our own; no mail is sent."""

    type: Literal["webhook", "email"]
    recipients: list[str] = []
    subject_prefix: str | None = None


class AskedSpendAlert(_Month):
    """What may be spent in a month before somebody is told, in hundredths of the currency."""

    threshold_amount: Annotated[int, Field(ge=1, le=10**13)]
    notification_channel: Channel


def told_page(page: Page[Any], tell: Callable[[Any], Wire]) -> Wire:
    """Return a page as the wire has it."""
    data = [tell(item) for item in page.items]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, **ends, "has_more": page.has_more}


def told_project(project: Project) -> Wire:
    """Return a project as the wire has it."""
    return {
        "id": project.id,
        "object": "organization.project",
        "name": project.name,
        "created_at": int(project.created_at),
        "archived_at": _whole(project.archived_at),
        "status": "active" if project.archived_at is None else "archived",
    }


def told_retention(capture: Capture) -> Wire:
    """Return what is kept of a project's words as the wire has it."""
    kind = "none" if capture.stores else "zero_data_retention"
    return {"object": "project.data_retention", "type": kind, "pii": capture.pii}


def told_service_account(account: ServiceAccount) -> Wire:
    """Return a service account as the wire has it."""
    return {
        "id": account.id,
        "object": "organization.project.service_account",
        "name": account.name,
        "role": "member",
        "created_at": int(account.created_at),
    }


def told_account_key(key: Key, value: str) -> Wire:
    """Return a service account's new key as the wire has it."""
    made = told_key(key, value)
    shown = {name: made[name] for name in ("id", "name", "created_at", "expires_at", "value")}
    return {**shown, "object": "organization.project.service_account.api_key"}


def told_user(user: User) -> Wire:
    """Return a person as the wire has it."""
    at = int(user.created_at)
    told = {"id": user.id, "object": "organization.user", "email": user.email, "name": user.name, "role": user.role}
    return {**told, "added_at": at, "created": at, "is_service_account": False}


def told_member(member: Member) -> Wire:
    """Return a member of a project as the wire has it."""
    user = member.user
    told = {"id": user.id, "object": "organization.project.user", "email": user.email, "name": user.name}
    return {**told, "role": member.role, "added_at": int(member.added_at)}


def told_key(key: Key, value: str = "", user: User | None = None) -> Wire:
    """Return a key as the wire has it; with its secret, when it was just made, and the person whose it is."""
    account = {"id": key.service_account, "name": key.name, "role": "member", "created_at": int(key.created_at)}
    kind = "service_account" if key.service_account else "user"
    owner: Wire = {"type": kind, **({kind: account} if key.service_account else {})}
    if user is not None:
        names = {"id": user.id, "email": user.email, "name": user.name, "role": user.role}
        owner["user"] = {**names, "created_at": int(user.created_at)}
    object = "organization.admin_api_key" if key.admin else "organization.project.api_key"
    told: Wire = {
        "id": key.id,
        "object": object,
        "name": key.name,
        "redacted_value": f"bk-{key.id}-…",
        "created_at": int(key.created_at),
        "expires_at": _whole(key.expires_at),
        "last_used_at": None,  # not kept: it would cost a write for each request
        "owner": {**owner, "role": "owner"} if key.admin else owner,
    }
    if not key.admin:
        told |= {"owner_project_access": "active", "models": key.models}
    return {**told, "value": value} if value else told


def told_rate_limit(limit: RateLimit) -> Wire:
    """Return a rate limit as the wire has it."""
    model = limit.model or ALL_MODELS
    return {
        "id": f"rl-{model}",
        "object": "project.rate_limit",
        "model": model,
        "max_requests_per_1_minute": _shown(limit.requests_per_minute),
        "max_tokens_per_1_minute": _shown(limit.tokens_per_minute),
    }


def told_spend_limit(state: Spending, percents: Iterable[int]) -> Wire:
    """Return a month's budget as the wire has it."""
    budget = state.budget
    return {
        "object": f"{budget.scope}.spend_limit",
        "currency": budget.limit.currency,
        "interval": budget.period,
        "threshold_amount": budget.limit.micros // CENT_MICROS,
        "enforcement": {"status": "enforcing" if state.left_micros <= 0 else "inactive"},
        "alert_percents": list(percents),
    }


def told_spend_alert(alert: Budget) -> Wire:
    """Return an alert as the wire has it."""
    return {
        "id": alert.id,
        "object": f"{alert.scope}.spend_alert",
        "currency": alert.limit.currency,
        "interval": "month",
        "threshold_amount": alert.limit.micros // CENT_MICROS,
        "notification_channel": {"type": "webhook", "recipients": []},
    }


def told_event(names: Mapping[str, str]) -> Callable[[AuditEvent], Wire]:
    """Return what makes an act look as the wire has it.

    Args:
        names: of projects, by id.
    """

    def tell(event: AuditEvent) -> Wire:
        api_key = {"type": "api_key", "api_key": {"id": event.actor, "type": "user"}}
        told: Wire = {
            "id": f"audit_log-{event.number}",
            "object": "organization.audit_log",
            "type": event.act,
            "effective_at": int(event.at),
            "actor": {"type": "session", "session": {}} if event.actor == LOCAL else api_key,
            event.act: {"id": event.target, "data": event.details},
        }
        project = {"id": event.project, "name": names.get(event.project, event.project)}
        return {**told, "project": project} if event.project else told

    return tell


def encoded(value: Wire) -> bytes:
    """Return JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _shown(limit: int | None) -> int:
    return NO_LIMIT if limit is None else limit


def _whole(at: float | None) -> int | None:
    return None if at is None else int(at)
