"""Whose keys there are, on the administration wire: of projects, of people, of service accounts, of administrators.

People are listed, changed and deleted as OpenAI's client does it. Own additions: ``POST /v1/organization/users`` makes
one (there are no invitations, as no mail is sent), and a key of a project is made with its `user_id`.

Owns these paths and acts. The shapes have their own module.
"""

from __future__ import annotations

from functools import partial

from bessemer.core.errors import NotFound
from bessemer.serve.accounts import schemas
from bessemer.serve.accounts.calls import Act, Call, deleted, ends
from bessemer.serve.accounts.schemas import Wire
from bessemer.serve.keys import Key
from bessemer.serve.refusals import Refused, invalid


def people_paths(organization: str, project: str) -> dict[str, dict[str, Act]]:
    """Return the acts of each path, by method.

    Args:
        organization: begins the organization's paths.
        project: begins a project's.
    """
    accounts, users = f"{project}/service_accounts", f"{project}/users"
    return {
        f"{project}/api_keys": {"GET": _list_keys, "POST": _create_key},
        project + "/api_keys/{id}": {"GET": _get_key, "POST": _update_key, "DELETE": _delete_key},
        accounts: {"GET": _list_service_accounts, "POST": _create_service_account},
        accounts + "/{id}": {
            "GET": _get_service_account,
            "POST": _update_service_account,
            "DELETE": _delete_service_account,
        },
        accounts + "/{id}/api_keys": {"POST": _add_service_account_key},
        users: {"GET": _list_members, "POST": _add_member},
        users + "/{id}": {"GET": _get_member, "POST": _change_member, "DELETE": _remove_member},
        f"{organization}/users": {"GET": _list_users, "POST": _create_user},
        organization + "/users/{id}": {"GET": _get_user, "POST": _update_user, "DELETE": _delete_user},
        f"{organization}/admin_api_keys": {"GET": _list_admin_keys, "POST": _create_admin_key},
        organization + "/admin_api_keys/{id}": {"GET": _get_key, "DELETE": _delete_key},
    }


def _list_keys(call: Call) -> Wire:
    call.accounts.projects.get(call.project)
    access = call.one("owner_project_access") or "any"
    if access not in ("active", "inactive", "any"):
        raise Refused(invalid("owner_project_access", "'owner_project_access' is active, inactive or any."))
    if access == "inactive":  # the keys of whoever leaves a project end with that
        return call.paged([])
    page = call.accounts.keys.page(call.limit, call.one("after"), call.project, admin=False)
    return schemas.told_page(page, partial(_told_key, call))


def _create_key(call: Call) -> Wire:
    asked = call.asked(schemas.AskedKey)
    call.accounts.projects.get(call.project)  # a key makes its project, but not by a misspelt path
    if asked.user_id:
        call.accounts.users.member(call.project, asked.user_id)
    until, user = ends(asked.expires_in_seconds), asked.user_id or ""
    key, secret = call.accounts.keys.create(
        call.project, name=asked.name, expires_at=until, models=asked.models, user_id=user
    )
    return _told_key(call, key, secret)


def _key(call: Call) -> Key:
    """Return the key that a path names: a project's, or an administrator's."""
    key = call.accounts.keys.get(call.path["id"])
    if key.revoked_at is not None or key.admin == ("project" in call.path):
        raise NotFound(f"no key has the id '{key.id}' here")
    if not key.admin and key.project != call.project:
        raise NotFound(f"no key has the id '{key.id}' here")
    return key


def _delete_key(call: Call) -> Wire:
    key = _key(call)
    call.accounts.keys.revoke(key.id)
    return deleted(schemas.told_key(key))


def _list_admin_keys(call: Call) -> Wire:
    page = call.accounts.keys.page(call.limit, call.one("after"), admin=True, newest_first=call.newest_first)
    return schemas.told_page(page, schemas.told_key)


def _create_admin_key(call: Call) -> Wire:
    asked = call.asked(schemas.AskedAdminKey)
    until = ends(asked.expires_in_seconds)
    return schemas.told_key(*call.accounts.keys.create("default", admin=True, name=asked.name, expires_at=until))


def _list_service_accounts(call: Call) -> Wire:
    page = call.accounts.projects.list_service_accounts(call.project, call.limit, call.one("after"))
    return schemas.told_page(page, schemas.told_service_account)


def _create_service_account(call: Call) -> Wire:
    asked = call.asked(schemas.AskedServiceAccount)
    until = ends(asked.expires_in_seconds)
    account, key, secret = call.accounts.projects.create_service_account(call.project, asked.name, until)
    return {**schemas.told_service_account(account), "api_key": schemas.told_account_key(key, secret)}


def _get_service_account(call: Call) -> Wire:
    return schemas.told_service_account(call.accounts.projects.get_service_account(call.project, call.path["id"]))


def _delete_service_account(call: Call) -> Wire:
    account = call.accounts.projects.delete_service_account(call.project, call.path["id"])
    return deleted(schemas.told_service_account(account))


def _get_key(call: Call) -> Wire:
    return _told_key(call, _key(call))


def _update_key(call: Call) -> Wire:
    asked, key = call.asked(schemas.AskedKeyUpdate), _key(call)
    if (until := ends(asked.expires_in_seconds)) is not None:
        key = call.accounts.keys.prolong(key.id, until)
    return _told_key(call, key)


def _told_key(call: Call, key: Key, value: str = "") -> Wire:
    """Return a key as the wire has it, with the person whose it is."""
    if not key.user_id:
        return schemas.told_key(key, value)
    return schemas.told_key(key, value, call.accounts.users.get(key.user_id))


def _update_service_account(call: Call) -> Wire:
    asked = call.asked(schemas.AskedServiceAccountUpdate)
    if asked.name is None:
        return _get_service_account(call)
    renamed = call.accounts.projects.rename_service_account(call.project, call.path["id"], asked.name)
    return schemas.told_service_account(renamed)


def _add_service_account_key(call: Call) -> Wire:
    asked = call.asked(schemas.AskedServiceAccountKey)
    until = ends(asked.expires_in_seconds)
    return schemas.told_account_key(
        *call.accounts.projects.add_key(call.project, call.path["id"], asked.name or "", until)
    )


def _list_members(call: Call) -> Wire:
    page = call.accounts.users.members(call.project, call.limit, call.one("after"))
    return schemas.told_page(page, schemas.told_member)


def _add_member(call: Call) -> Wire:
    asked = call.asked(schemas.AskedMember)
    added = call.accounts.users.add(call.project, asked.user_id or "", asked.email or "", asked.role)
    return schemas.told_member(added)


def _get_member(call: Call) -> Wire:
    return schemas.told_member(call.accounts.users.member(call.project, call.path["id"]))


def _change_member(call: Call) -> Wire:
    asked = call.asked(schemas.AskedMemberUpdate)
    return schemas.told_member(call.accounts.users.change(call.project, call.path["id"], asked.role))


def _remove_member(call: Call) -> Wire:
    return deleted(schemas.told_member(call.accounts.users.remove(call.project, call.path["id"])))


def _list_users(call: Call) -> Wire:
    page = call.accounts.users.list(call.limit, call.one("after"), call.query.get("emails", ()))
    return schemas.told_page(page, schemas.told_user)


def _create_user(call: Call) -> Wire:
    asked = call.asked(schemas.AskedUser)
    return schemas.told_user(call.accounts.users.create(asked.email, asked.name, asked.role))


def _get_user(call: Call) -> Wire:
    return schemas.told_user(call.accounts.users.get(call.path["id"]))


def _update_user(call: Call) -> Wire:
    asked = call.asked(schemas.AskedUserUpdate)
    return schemas.told_user(call.accounts.users.update(call.path["id"], asked.role))


def _delete_user(call: Call) -> Wire:
    return deleted(schemas.told_user(call.accounts.users.delete(call.path["id"])))
