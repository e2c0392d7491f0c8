"""The verbs below `bessemer projects`: create, list, rename, archive, admit, dismiss, people, capture, log."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from bessemer.cli.narrowing import Day, seconds
from bessemer.cli.output import emit
from bessemer.cli.verbs_keys import accounts, day, show_secret
from bessemer.core.errors import ConfigError, NotFound
from bessemer.serve import Accounts
from bessemer.serve.accounts.audit import AuditFilter, Comparison
from bessemer.serve.accounts.users import Member
from bessemer.serve.privacy import Capture, Pii

app = typer.Typer(
    help="Make, list, rename and archive projects; say who is in them, and what is kept.",
    no_args_is_help=True,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]
ProjectId = Annotated[str, typer.Argument(help="From `bessemer projects list`.")]
_MOST = 100_000
_PII: dict[str, Pii | None] = {"": None, "keep": "keep", "mask": "mask"}


@app.command()
def create(name: Annotated[str, typer.Argument(help="For people; also its id.")], as_json: Json = False) -> None:
    """Make a project."""
    with accounts() as found:
        project = found.projects.create(name)
    emit(project, as_json, lambda: escape(f"made project {project.id}"))


@app.command(name="list")
def list_projects(
    include_all: Annotated[bool, typer.Option("--all", help="Archived ones too.")] = False, as_json: Json = False
) -> None:
    """List projects and how many keys each has."""
    with accounts(make=False) as open_ones:
        found = open_ones.projects.list(_MOST, include_archived=include_all).items
        keys = open_ones.keys.page(_MOST).items
    counts = {project.id: sum(key.project == project.id for key in keys) for project in found}

    def draw() -> Table | str:
        if not found:
            return "[dim]there are no projects; `bessemer projects create NAME` makes one[/]"
        table = Table(box=SIMPLE_HEAD)
        table.add_column("id", overflow="fold")
        for column in ("name", "made (UTC)", "state"):
            table.add_column(column)
        table.add_column("keys", justify="right")
        for project in found:
            state = "[yellow]archived[/]" if project.archived_at else "[green]active[/]"
            told = (escape(project.id), escape(project.name), day(project.created_at), state)
            table.add_row(*told, str(counts[project.id]))
        return table

    emit([{**project.model_dump(), "keys": counts[project.id]} for project in found], as_json, draw)


@app.command()
def rename(
    project: ProjectId, name: Annotated[str, typer.Argument(help="The new one.")], as_json: Json = False
) -> None:
    """Give a project another name; its id stays."""
    with accounts(make=False) as found:
        renamed = found.projects.rename(project, name)
    emit(renamed, as_json, lambda: escape(f"project {renamed.id} is called {renamed.name}"))


@app.command()
def archive(project: ProjectId, as_json: Json = False) -> None:
    """End a project for good: its keys are refused from now on."""
    with accounts(make=False) as found:
        archived = found.projects.archive(project)
    emit(archived, as_json, lambda: escape(f"archived {archived.id}"))


@app.command()
def admit(
    project: ProjectId,
    email: Annotated[str, typer.Argument(help="Of the person; anybody whom nobody knows yet is made.")],
    owner: Annotated[bool, typer.Option("--owner", help="As an owner of the project; a member unless given.")] = False,
    as_json: Json = False,
) -> None:
    """Let a person into a project, make a key of the person's own, and show it, once."""
    with accounts(make=False) as found:
        member = found.users.add(project, email=email, role="owner" if owner else "member")
        key, secret = found.keys.create(project, name=email, user_id=member.user.id)
    show_secret(key, secret, as_json)


@app.command()
def dismiss(
    project: ProjectId,
    who: Annotated[str, typer.Argument(help="A person's e-mail address, or a service account's id.")],
    as_json: Json = False,
) -> None:
    """Take a person or a service account out of a project; the keys that it has there end at once."""
    with accounts(make=False) as found:
        if "@" in who:
            found.users.remove(project, _member(found, project, who).user.id)
        else:
            found.projects.delete_service_account(project, who)
    emit({"dismissed": who, "project": project}, as_json, lambda: escape(f"{who} is out of {project}"))


@app.command()
def people(project: ProjectId, as_json: Json = False) -> None:
    """List who is in a project: people, and service accounts."""
    with accounts(make=False) as found:
        members = found.users.members(project, _MOST).items
        robots = found.projects.list_service_accounts(project, _MOST).items

    def draw() -> Table | str:
        if not members and not robots:
            return "[dim]nobody is in it; `bessemer projects admit PROJECT EMAIL` lets somebody in[/]"
        table = Table(box=SIMPLE_HEAD)
        for column in ("who", "name", "role", "since (UTC)"):
            table.add_column(column, overflow="fold")
        for member in members:
            table.add_row(escape(member.user.email), escape(member.user.name), member.role, day(member.added_at))
        for robot in robots:
            table.add_row(robot.id, escape(robot.name), "service account", day(robot.created_at))
        return table

    told = [{"kind": "user", **member.user.model_dump(), "role": member.role} for member in members]
    emit([*told, *({"kind": "service_account", **robot.model_dump()} for robot in robots)], as_json, draw)


def _member(found: Accounts, project: str, email: str) -> Member:
    for member in found.users.members(project, _MOST).items:
        if member.user.email == email:
            return member
    raise NotFound(f"{email} is not in the project '{project}'", hint="`bessemer projects people` lists who is.")


@app.command()
def capture(
    project: ProjectId,
    store: Annotated[bool | None, typer.Option("--store/--no-store", help="May anything be kept?")] = None,
    pii: Annotated[str, typer.Option(help="keep, or mask: personal data that can be told by its form.")] = "",
    as_json: Json = False,
) -> None:
    """Show or say what may be kept of a project's words: of answers with `store`, and of feedback."""
    if pii not in _PII:
        raise ConfigError(f"'{pii}' is no rule for personal data", hint="Say --pii keep or --pii mask.")
    with accounts(make=False) as found:
        now = found.capture.of(found.projects.get(project).id)
        wanted = Capture(stores=now.stores if store is None else store, pii=_PII[pii] or now.pii)
        kept = now if wanted == now else found.capture.set(project, wanted)

    def draw() -> str:
        what = "what clients ask for" if kept.stores else "nothing"
        masks = ", personal data masked" if kept.stores and kept.pii == "mask" else ""
        return escape(f"of {project} is kept: {what}{masks}")

    emit(kept, as_json, draw)


@app.command()
def log(
    project: Annotated[str, typer.Option(help="Of one project only.")] = "",
    act: Annotated[str, typer.Option(help="Such as api_key.created; several with commas.")] = "",
    actor: Annotated[str, typer.Option(help="Id of the key that asked for it, or local; several with commas.")] = "",
    since: Day = None,
    until: Day = None,
    limit: Annotated[int, typer.Option(min=1, help="How many acts, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the audit log: who did what to projects, keys, limits and budgets."""
    times: list[tuple[Comparison, float]] = [("gte", seconds(since))] if since else []
    times += [("lt", seconds(until))] if until else []
    wanted = AuditFilter(_words(project), _words(act), _words(actor), times=tuple(times))
    with accounts(make=False) as open_ones:
        found = open_ones.audit.list(limit, wanted=wanted).items

    def draw() -> Table | str:
        if not found:
            return "[dim]nothing of that was done[/]" if wanted != AuditFilter() else "[dim]nothing was done yet[/]"
        table = Table(box=SIMPLE_HEAD)
        table.add_column("at (UTC)", no_wrap=True)
        for column, least in (("who", 5), ("did", 12), ("to", 12), ("project and details", 16)):
            table.add_column(column, overflow="fold", min_width=least)
        for event in found:
            details = [f"{name}={_told(value)}" for name, value in event.details.items() if value or value == 0]
            told = (event.actor, event.act, event.target, ", ".join([event.project, *details]).removeprefix(", "))
            table.add_row(day(event.at), *(escape(word) for word in told))
        return table

    emit(found, as_json, draw)


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
