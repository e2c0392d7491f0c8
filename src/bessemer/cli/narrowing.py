"""What `usage` and `costs` are narrowed to, as the filters of the administration's wire do it: `--only user=…`.

Owns the words of the option, and of days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from bessemer.cli.verbs_keys import accounts
from bessemer.core.errors import ConfigError, NotFound

NAMES = ("key", "user", "model", "batch")
_MOST = 100_000
_TRUTH = {"yes": True, "no": False}

Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Of these only: key=ID, user=EMAIL, model=NAME (several with commas), batch=yes or no; may be repeated.",
        show_default=False,
    ),
]
Day = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="UTC; a day or a minute.", show_default=False),
]


def seconds(day: datetime) -> int:
    """Return when a day or a minute begins, Unix seconds."""
    return int(day.replace(tzinfo=UTC).timestamp())


def narrowed(project: str | None, only: Sequence[str] | None) -> dict[str, Any]:
    """Return the filters of a `UsageQuery`.

    Raises:
        ConfigError: there is no such filter, or it takes other values.
        NotFound: there is no such user.
    """
    from bessemer.serve.accounts.usage_wire import keys_of

    wanted: dict[str, list[str]] = {name: [] for name in NAMES}
    for each in only or ():
        name, _, values = each.partition("=")
        found = [value.strip() for value in values.split(",") if value.strip()]
        if name not in NAMES or not found:
            raise ConfigError(f"--only {each!r} is no filter", hint=f"Say NAME=VALUE, NAME one of {', '.join(NAMES)}.")
        wanted[name] += found
    batch = wanted["batch"]
    if len(set(batch)) > 1 or not {*batch} <= {*_TRUTH}:
        raise ConfigError(f"--only batch={','.join(batch)} is neither yes nor no", hint="Say batch=yes or batch=no.")
    named = tuple(wanted["key"])
    return {
        "projects": (project,) if project else (),
        "key_ids": keys_of(named, *_people(wanted["user"])) if wanted["user"] else named,
        "models": tuple(wanted["model"]),
        "batch": _TRUTH[batch[0]] if batch else None,
    }


def owners() -> tuple[Mapping[str, str], Callable[[str], str]]:
    """Return whose key each is, by ids, and what gives a user's address by the id."""
    with accounts(make=False) as found:
        addresses = {user.id: user.email for user in found.users.list(_MOST).items}
        return found.users.of_keys(), lambda id: addresses.get(id, id)


def _people(asked: Sequence[str]) -> tuple[list[str], Mapping[str, str]]:
    """Return the ids of users who are named by address or id, and whose key each is."""
    with accounts(make=False) as found:
        keys = found.users.of_keys()
        known = {user.email: user.id for user in found.users.list(_MOST).items}
    ids = {*known.values(), *keys.values()}  # who was deleted still is in the books
    for each in asked:
        if each not in known and each not in ids:
            raise NotFound(f"there is no user {each}", hint="`bessemer projects people PROJECT` lists who is in it.")
    return [known.get(each, each) for each in asked], keys
