"""``/v1/organization/…``: administration on OpenAI's wire, for administrators' keys.

Each endpoint is one call of `Accounts` in the name of the key that asks, so the audit log knows who did what. Own
additions: ``POST …/projects/{id}/api_keys`` and ``POST …/users`` make keys and people (OpenAI's has no such calls), and
the limit ``rl-*`` counts the requests to all models.

Owns paths and errors. The shapes have their own module.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bessemer.core.errors import BessemerError, ConfigError, Conflict, NotFound
from bessemer.core.units import Money
from bessemer.serve.accounts import schemas
from bessemer.serve.accounts.audit import AuditFilter, Comparison
from bessemer.serve.accounts.budgets import Budget
from bessemer.serve.accounts.calls import Act, Call, deleted
from bessemer.serve.accounts.office import Accounts
from bessemer.serve.accounts.people_wire import people_paths
from bessemer.serve.accounts.rates import RateLimit, Scope
from bessemer.serve.accounts.schemas import CENT_MICROS, Wire
from bessemer.serve.accounts.usage_wire import NOT_HERE, UsageDesk
from bessemer.serve.config import GatewayConfig
from bessemer.serve.door import authenticate_admin, read_body
from bessemer.serve.privacy import Capture
from bessemer.serve.refusals import Refusal, Refused, invalid, shorten, unsupported

_COMPARISONS: tuple[Comparison, ...] = ("gt", "gte", "lt", "lte")


class AdminDesk:
    """The endpoints of administration.

    Args:
        config: how large a body may be.
        accounts: what is administered.
        models: that are served.
        usage: says what was used and charged; without it these paths are missing.
    """

    def __init__(
        self, config: GatewayConfig, accounts: Accounts, models: Sequence[str], usage: UsageDesk | None = None
    ) -> None:
        self._config, self._accounts, self._models, self._usage = config, accounts, tuple(models), usage

    def routes(self) -> list[Route]:
        """Return the paths."""
        projects = "/v1/organization/projects"
        one = projects + "/{project}"
        table: dict[str, dict[str, Act]] = {
            projects: {"GET": _list_projects, "POST": _create_project},
            one: {"GET": _get_project, "POST": _update_project},
            f"{one}/archive": {"POST": lambda c: schemas.told_project(c.accounts.projects.archive(c.project))},
            f"{one}/data_retention": {"GET": _get_retention, "POST": _set_retention},
            f"{one}/rate_limits": {"GET": self._list_rate_limits},
            one + "/rate_limits/{id}": {"POST": self._update_rate_limit},
            f"{one}/spend_limit": {"GET": _get_spend, "POST": _set_spend, "DELETE": _delete_spend},
            "/v1/organization/spend_limit": {"GET": _get_spend, "POST": _set_spend, "DELETE": _delete_spend},
            **_alert_paths(one),
            **_alert_paths("/v1/organization"),
            "/v1/organization/audit_logs": {"GET": _list_events},
            **people_paths("/v1/organization", one),
        }
        if desk := self._usage:
            usage = "/v1/organization/usage"
            table |= {
                f"{usage}/completions": {"GET": lambda c: desk.completions(c.query)},
                f"{usage}/embeddings": {"GET": lambda c: desk.embeddings(c.query)},
                "/v1/organization/costs": {"GET": lambda c: desk.costs(c.query)},
                **{f"{usage}/{kind}": {"GET": lambda c: desk.nothing(c.query)} for kind in NOT_HERE},
            }
        return [
            Route(path, self._answering(act), methods=[method])
            for path, acts in table.items()
            for method, act in acts.items()
        ]

    def _answering(self, act: Act) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            key, config = authenticate_admin(self._accounts.keys, request.scope), self._config
            body = await read_body(request.scope, request.receive, config.max_body_bytes, config.body_timeout_seconds)
            given = request.query_params
            query = {name.removesuffix("[]"): given.getlist(name) for name in given}
            call = Call(self._accounts.by(key.id), request.path_params, query, body)
            try:
                told = await run_in_threadpool(act, call)
            except (NotFound, Conflict, ConfigError) as error:
                raise Refused(_refusal(error)) from error
            return Response(schemas.encoded(told), media_type="application/json")

        return answer

    def _list_rate_limits(self, call: Call) -> Wire:
        call.accounts.projects.get(call.project)
        known = {limit.model: limit for limit in call.accounts.rates.list("project", call.project)}
        none = {model: RateLimit(id="", scope="project", model=model) for model in ("", *self._models)}
        return call.paged([schemas.told_rate_limit(limit) for limit in {**none, **known}.values()], 100)

    def _update_rate_limit(self, call: Call) -> Wire:
        asked, rates = call.asked(schemas.AskedRateLimit), call.accounts.rates
        mark, _, model = call.path["id"].partition("rl-")
        if mark or not model:
            raise NotFound(f"there is no rate limit '{call.path['id']}'")
        model = "" if model == schemas.ALL_MODELS else model
        none = RateLimit(id="", scope="project", model=model)
        earlier = next((limit for limit in rates.list("project", call.project) if limit.model == model), none)
        if not earlier.id and model and model not in self._models and not model.startswith("ft:"):
            raise NotFound(f"there is no model '{shorten(model)}' here, so that a limit on it would never bite")
        now = {"requests": earlier.requests_per_minute, "tokens": earlier.tokens_per_minute, **asked.per_minute()}
        if any(limit is not None for limit in now.values()):
            return schemas.told_rate_limit(rates.set("project", call.project, model, **now))
        if earlier.id:
            rates.remove(earlier.id)
        return schemas.told_rate_limit(none)


def _refusal(error: BessemerError) -> Refusal:
    status, code = {NotFound: (404, "not_found"), Conflict: (409, "conflict")}.get(type(error), (400, "invalid_value"))
    return Refusal(status, f"{error.message[:1].upper()}{error.message[1:]}.", code, error.about or None)


def _list_projects(call: Call) -> Wire:
    archived = call.one("include_archived").lower() == "true"
    page = call.accounts.projects.list(call.limit, call.one("after"), archived)
    return schemas.told_page(page, schemas.told_project)


def _create_project(call: Call) -> Wire:
    name = call.asked(schemas.AskedProject).name
    return schemas.told_project(call.accounts.projects.create(name, f"proj_{secrets.token_hex(12)}"))


def _get_project(call: Call) -> Wire:
    return schemas.told_project(call.accounts.projects.get(call.project))


def _update_project(call: Call) -> Wire:
    name = call.asked(schemas.AskedProject).name
    return schemas.told_project(call.accounts.projects.rename(call.project, name))


def _get_retention(call: Call) -> Wire:
    return schemas.told_retention(call.accounts.capture.of(call.accounts.projects.get(call.project).id))


def _set_retention(call: Call) -> Wire:
    asked, now = call.asked(schemas.AskedRetention), call.accounts.capture.of(call.project)
    stores = now.stores if asked.retention_type is None else asked.retention_type != "zero_data_retention"
    capture = Capture(stores=stores, pii=asked.pii or now.pii)
    return schemas.told_retention(call.accounts.capture.set(call.project, capture))


def _spender(call: Call) -> tuple[Scope, str]:
    if "project" not in call.path:
        return "organization", ""
    return "project", call.accounts.projects.get(call.project).id


def _month(call: Call) -> Budget:
    found = [b for b in call.accounts.budgets.list(*_spender(call)) if b.period == "month" and b.enforced]
    if not found:
        raise NotFound("there is no spend limit here")
    return found[0]


def _get_spend(call: Call) -> Wire:
    return _told_spend(call, _month(call))


def _told_spend(call: Call, budget: Budget) -> Wire:
    percents = call.accounts.alerts.percents(budget.id)
    return schemas.told_spend_limit(call.accounts.budgets.spending(budget), percents)


def _set_spend(call: Call) -> Wire:
    asked = call.asked(schemas.AskedSpendLimit)
    amount = Money(micros=asked.threshold_amount * CENT_MICROS, currency=asked.currency)
    budget = call.accounts.budgets.set(*_spender(call), "month", amount)
    if asked.alert_percents is not None:
        call.accounts.alerts.set(budget.id, asked.alert_percents)
    return _told_spend(call, budget)


def _delete_spend(call: Call) -> Wire:
    budget = call.accounts.budgets.remove(_month(call).id)
    return {"object": f"{budget.scope}.spend_limit.deleted", "deleted": True}


def _alert_paths(whose: str) -> dict[str, dict[str, Act]]:
    """Return the paths of the spend alerts of a project, or of the organization."""
    return {
        f"{whose}/spend_alerts": {"GET": _list_alerts, "POST": _set_alert},
        whose + "/spend_alerts/{id}": {
            "GET": lambda c: schemas.told_spend_alert(_alert(c)),
            "POST": _set_alert,
            "DELETE": _delete_alert,
        },
    }


def _alert(call: Call) -> Budget:
    for each in call.accounts.budgets.alerts(*_spender(call)):
        if each.id == call.path["id"]:
            return each
    raise NotFound("there is no such spend alert here")


def _list_alerts(call: Call) -> Wire:
    found = [schemas.told_spend_alert(each) for each in call.accounts.budgets.alerts(*_spender(call))]
    return call.paged(found[::-1] if call.newest_first else found)


def _set_alert(call: Call) -> Wire:
    asked = call.asked(schemas.AskedSpendAlert)
    if asked.notification_channel.type == "email":
        message = "This gateway sends no mail. Use {'type': 'webhook'}, and a webhook for 'budget.threshold_reached'."
        raise Refused(unsupported("notification_channel.type", message))
    if asked.notification_channel.recipients or asked.notification_channel.subject_prefix:
        raise Refused(invalid("notification_channel", "A webhook has no recipients and no subject: leave them out."))
    amount = Money(micros=asked.threshold_amount * CENT_MICROS, currency=asked.currency)
    alert = call.accounts.budgets.set_alert(*_spender(call), amount, call.path.get("id", ""))
    return schemas.told_spend_alert(alert)


def _delete_alert(call: Call) -> Wire:
    alert = call.accounts.budgets.remove(_alert(call).id)
    return deleted(schemas.told_spend_alert(alert))


def _list_events(call: Call) -> Wire:
    after, before = (_event_number(call, name) for name in ("after", "before"))
    page = call.accounts.audit.list(call.limit, after, before, _wanted_events(call))
    known = call.accounts.projects.list(10**6, include_archived=True).items
    return schemas.told_page(page, schemas.told_event({project.id: project.name for project in known}))


def _event_number(call: Call, name: str) -> int:
    number = call.one(name).removeprefix("audit_log-") or "0"
    if not number.isdecimal() or len(number) > 18:
        raise Refused(invalid(name, f"'{name}' is the id of an audit log."))
    return int(number)


def _wanted_events(call: Call) -> AuditFilter:
    if call.one("tenant_only").lower() not in ("", "false"):
        raise Refused(unsupported("tenant_only", "There are no tenants above the organization here: leave it out."))
    times = []
    for comparison in _COMPARISONS:
        if at := call.one(f"effective_at[{comparison}]"):
            if not at.isdecimal() or len(at) > 15:
                raise Refused(invalid("effective_at", "'effective_at' is in whole Unix seconds."))
            times.append((comparison, float(at)))
    return AuditFilter(
        projects=call.query.get("project_ids", ()),
        acts=call.query.get("event_types", ()),
        actors=call.query.get("actor_ids", ()),
        emails=call.query.get("actor_emails", ()),
        targets=call.query.get("resource_ids", ()),
        times=times,
    )
