"""The verbs below `bessemer keys`: create, list, revoke."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from bessemer.cli import environment
from bessemer.cli.output import emit
from bessemer.serve import Key, KeyStore

app = typer.Typer(help="Make, list and revoke the gateway's keys.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]


@app.command()
def create(
    project: Annotated[str, typer.Option(help="Whose usage the key counts to; made if it does not exist.")],
    admin: Annotated[bool, typer.Option("--admin", help="May administer the gateway.")] = False,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    as_json: Json = False,
) -> None:
    """Make a key and show it, once."""
    key, secret = KeyStore(environment.home().keys).create(project, admin=admin, name=name)
    shown = {"key": secret, "id": key.id, "project": key.project, "admin": key.admin}
    emit(shown, as_json, lambda: f"{secret}\n[dim]shown once; {key.id} for project {escape(key.project)}[/]")


@app.command(name="list")
def list_keys(as_json: Json = False) -> None:
    """List keys; the secrets themselves are not kept."""
    found = KeyStore(environment.home().keys).list()
    emit(found, as_json, lambda: _table(found))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="From `bessemer keys list`.")],
    as_json: Json = False,
) -> None:
    """End a key at once."""
    KeyStore(environment.home().keys).revoke(key_id)
    emit({"revoked": key_id}, as_json, lambda: escape(f"revoked {key_id}"))


def _table(keys: list[Key]) -> Table:
    table = Table("id", "project", "name", "admin", "made", "state")
    for key in keys:
        made = datetime.fromtimestamp(key.created_at, UTC).strftime("%Y-%m-%d %H:%M")
        state = "revoked" if key.revoked_at else "active"
        table.add_row(key.id, escape(key.project), escape(key.name), "yes" if key.admin else "", made, state)
    return table
