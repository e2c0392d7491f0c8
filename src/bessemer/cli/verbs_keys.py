"""The verbs below `bessemer keys`: create, list, prolong, revoke, rotate."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from bessemer.cli import environment
from bessemer.cli.output import emit
from bessemer.core.errors import ConfigError
from bessemer.products.known_prices import known_prices
from bessemer.serve import Accounts, Key, open_accounts

app = typer.Typer(help="Make, list, rotate and revoke the gateway's keys.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]
KeyId = Annotated[str, typer.Argument(help="From `bessemer keys list`.")]
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@contextmanager
def accounts(*, make: bool = True) -> Iterator[Accounts]:
    """Give the accounts of the home that the environment names.

    Args:
        make: make them if there are none; whoever only looks, or ends what is there, is given empty ones instead.
    """
    home = environment.home(make=make)
    with ExitStack() as stack:
        where = home.accounts
        if not make and isinstance(where, Path) and not where.exists():
            where = Path(stack.enter_context(TemporaryDirectory())) / "none.sqlite"
        known = known_prices(home)
        opened = open_accounts(where, earlier=home.keys, currency=known.currency if known else "")
        stack.callback(opened.close)
        yield opened


@app.command()
def create(
    project: Annotated[
        str, typer.Option(help="Whose usage the key counts to; made, and said to be new, if there is none.")
    ],
    admin: Annotated[bool, typer.Option("--admin", help="May administer the gateway.")] = False,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    models: Annotated[str, typer.Option(help="The only models that it may ask, with commas; all unless given.")] = "",
    expires: Annotated[str, typer.Option(help="After 90m, 12h, 30d or 2w, or on 2027-01-31; never unless given.")] = "",
    service_account: Annotated[
        str, typer.Option(help="Make a service account of this name in the project, and this key for it.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a key and show it, once."""
    asked = tuple(model.strip() for model in models.split(",") if model.strip())
    ends = expiry(expires, time.time())
    if service_account and (admin or asked or expires or name):
        raise ConfigError(
            "a service account's first key has no other options",
            hint="Make the account first, then a key with --models or --expires for its project.",
        )
    with accounts() as found:
        is_new = not found.projects.exists(project)
        if service_account:
            _, key, secret = found.projects.create_service_account(project, service_account)
        else:
            key, secret = found.keys.create(project, admin=admin, name=name, expires_at=ends, models=asked)
    show_secret(key, secret, as_json, is_new)


@app.command(name="list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Of one project only.")] = None, as_json: Json = False
) -> None:
    """List keys; the secrets themselves are not kept."""
    with accounts(make=False) as open_ones:
        found = [key for key in open_ones.keys.list() if project in (None, key.project)]
    emit(found, as_json, lambda: _table(found))


@app.command()
def revoke(key_id: KeyId, as_json: Json = False) -> None:
    """End a key at once."""
    with accounts(make=False) as found:
        found.keys.revoke(key_id)
    emit({"revoked": key_id}, as_json, lambda: escape(f"revoked {key_id}"))


@app.command()
def prolong(
    key_id: KeyId,
    expires: Annotated[str, typer.Argument(help="After 90m, 12h, 30d or 2w from now, or on 2027-01-31.")],
    as_json: Json = False,
) -> None:
    """Let a key end at another time."""
    ends = expiry(expires, time.time())
    if ends is None:
        raise ConfigError("a key's end is needed", hint="Say 90m, 12h, 30d, 2w or a day such as 2027-01-31.")
    with accounts(make=False) as found:
        key = found.keys.prolong(key_id, ends)
    emit(key, as_json, lambda: escape(f"{key_id} ends {day(ends)} UTC"))


@app.command()
def rotate(key_id: KeyId, as_json: Json = False) -> None:
    """End a key and make one like it, with the same limits and budgets; show it, once."""
    with accounts(make=False) as found:
        key, secret = found.keys.rotate(key_id)
    show_secret(key, secret, as_json)


def expiry(text: str, now: float) -> float | None:
    """Return when a key ends, in Unix seconds: after a time, or when a day begins in UTC; None for an empty text.

    >>> expiry("2h", 1000.0), expiry("1970-01-02", 0.0)
    (8200.0, 86400.0)
    """
    if not text:
        return None
    if found := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        if not int(found[1]):
            raise ConfigError(f"{text} is over at once", hint="Name a longer time.")
        return now + int(found[1]) * _SECONDS[found[2]]
    try:
        ends = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise ConfigError(f"'{text}' is no time", hint="Say 90m, 12h, 30d, 2w or a day such as 2027-01-31.") from error
    if ends <= now:
        raise ConfigError(f"{text} is over", hint="Name a later day.")
    return ends


def day(at: float) -> str:
    """Return a time as tables show it, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def show_secret(key: Key, secret: str, as_json: bool, is_new: bool = False) -> None:
    """Show a new key and its secret, and whether its project is as new as it."""
    shown = {"key": secret, "id": key.id, "project": key.project, "admin": key.admin}
    shown |= {
        "new_project": is_new,
        "models": key.models,
        "expires_at": key.expires_at,
        "service_account": key.service_account,
    }
    project = escape(key.project)
    new = f"\n[yellow]new project[/] {project}: there was none; a misspelt one ends with `bessemer projects archive`"
    told = f"{secret}\n[dim]shown once; {key.id} for project {project}[/]{new if is_new else ''}"
    emit(shown, as_json, lambda: told)


def _table(keys: list[Key]) -> Table | str:
    if not keys:
        return "[dim]there are no keys; `bessemer keys create --project P` makes one[/]"
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("id", no_wrap=True)
    for column in ("project", "name", "may ask"):
        table.add_column(column, overflow="fold")
    for column in ("made", "ends", "state"):
        table.add_column(column, no_wrap=True)
    for key in keys:
        over = key.expires_at is not None and key.expires_at <= time.time()
        table.add_row(
            key.id,
            escape(key.project),
            escape(key.name) + (" [dim](service account)[/]" if key.service_account else ""),
            escape(", ".join(key.models)) or ("all + admin" if key.admin else "all"),
            day(key.created_at).partition(" ")[0],
            day(key.expires_at).partition(" ")[0] if key.expires_at else "never",
            "[red]revoked[/]" if key.revoked_at else "[yellow]expired[/]" if over else "[green]active[/]",
        )
    return table
