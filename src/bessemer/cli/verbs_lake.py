"""The verbs over what a home keeps: documents, erase, compact, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bessemer.cli import environment
from bessemer.cli.output import emit, err
from bessemer.core.errors import ConfigError
from bessemer.core.units import show_bytes
from bessemer.products.documents import (
    DocumentLine,
    compact_lake,
    erase_documents,
    erase_project,
    list_documents,
    same_text,
)

if TYPE_CHECKING:
    from bessemer.products.pruning import Pruned

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (documents, erase, compact, prune):
        app.command()(verb)


def documents(
    name: Annotated[
        str | None, typer.Argument(help="A factory; the only one here without it.", show_default=False)
    ] = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="Only those that were dropped.")] = False,
    reason: Annotated[str | None, typer.Option(help="Only those dropped for this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the documents that a factory read, and why some were dropped."""
    total, found = list_documents(environment.home(make=False), name, dropped=dropped, reason=reason, limit=limit)
    emit({"total": total, "documents": found}, as_json, lambda: _documents(total, found))


def erase(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Documents, by the ids that `bessemer documents` shows.", show_default=False),
    ] = None,
    sessions_of: Annotated[
        str, typer.Option(metavar="PROJECT", help="What agents keep of this project's sessions and runs.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Erase documents and what was made from them from every table; older versions of those tables go too."""
    if bool(ids) == bool(sessions_of):
        raise ConfigError(
            "name documents or --sessions-of PROJECT, one of them", hint="`bessemer documents` lists ids."
        )
    home = environment.home(make=False)
    if not ids:
        gone = erase_project(home, sessions_of)
        emit(gone, as_json, lambda: "\n".join(f"erased {count} records of {told}" for told, count in gone.items())
             or "no agent keeps anything of this project")  # fmt: skip
        return
    twins = same_text(home, ids)
    found = erase_documents(home, ids)
    emit(
        found,
        as_json,
        lambda: (
            f"erased {sum(found.values())} rows from {len(found)} places; "
            "models trained on them stay until the next bessemer run"
            if found
            else "erased already: no table holds a row of it"
        ),
    )
    if twins:
        listed = " ".join(line.id[:12] for line in twins)
        told = f"{len(twins)} more have the same text, which the next run takes from them unless they are erased too"
        err.print(f"[yellow]{told}:[/] bessemer erase {listed}", soft_wrap=True)


def compact(as_json: Json = False) -> None:
    """Gather the lake's small files into large ones; contents and versions stay."""
    found = compact_lake(environment.home(make=False))
    emit(
        found,
        as_json,
        lambda: escape("\n".join(f"{table}: {said}" for table, said in found.items())) or "the lake is empty",
    )


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Give disk back: remove results that no served model, no newest run and no fine-tuned model needs."""
    from bessemer.products import pruning

    found = pruning.prune(environment.home(make=False), dry=dry_run)
    emit(found, as_json, lambda: _pruned(found, dry_run))


def _pruned(found: Pruned, dry_run: bool) -> str:
    if not (found.results or found.checkpoints):
        return "nothing to remove: all results are in use"
    steps = ", ".join(f"{count} {escape(step)}" for step, count in found.results.items())
    said = f"{'would free' if dry_run else 'freed'} {show_bytes(found.freed_bytes)}"
    parts = [f"results: {steps}"] if steps else []
    parts += [f"versions of tables: {found.versions}"] if found.versions else []
    parts += [f"checkpoints: {found.checkpoints}"] if found.checkpoints else []
    return f"{said}\n" + "\n".join(parts)


def _documents(total: int, found: list[DocumentLine]) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", no_wrap=True, min_width=12)  # whole: it is what `erase` takes
    for column in ("title", "source"):
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    table.add_column("dropped", overflow="fold")
    for line in found:
        table.add_row(line.id[:12], *map(escape, (line.title, line.source, line.dropped)))
    return Group(table, f"[dim]{len(found):,} of {total:,}[/]")
