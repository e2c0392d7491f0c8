"""The verbs below `bessemer prices`: show, check, history."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bessemer.cli import environment
from bessemer.cli.output import emit

if TYPE_CHECKING:
    from bessemer.meter import PriceBook
    from bessemer.products.price_list import PriceLine
    from bessemer.products.prices import VersionLine

app = typer.Typer(help="Show and check what tokens are charged.", no_args_is_help=True)

Book = Annotated[
    Path | None,
    typer.Argument(help="A price book (.toml) or a factory.yaml; without it that of this home.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]


@app.command()
def show(
    book: Book = None,
    at: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="In force on that day; today.")] = None,
    as_json: Json = False,
) -> None:
    """Show the prices in force: per million tokens, for models, batches, service tiers and projects."""
    from bessemer.products.price_list import price_lines
    from bessemer.products.prices import find_prices

    history = find_prices(book, environment.home(make=False)).history
    found = history.at(at.replace(tzinfo=UTC).timestamp() if at else time.time())
    lines = price_lines(found)
    value = {"version": found.version, "stamp": found.stamp(), "currency": found.currency, "prices": lines}
    emit(value, as_json, lambda: _shown(found, lines))


@app.command()
def check(book: Book = None, as_json: Json = False) -> None:
    """Read a price book whole; say what is wrong (status 1), or what is allowed but seldom meant."""
    from bessemer.products.prices import find_prices, price_warnings

    history = find_prices(book, environment.home(make=False)).history
    warnings = price_warnings(history)
    said = f"{len(history.books)} version(s) read, {len(warnings)} warning(s)"
    emit(
        {"versions": len(history.books), "warnings": warnings},
        as_json,
        lambda: Group(said, *(f"[yellow]warning[/] {escape(line)}" for line in warnings)),
    )


@app.command()
def history(book: Book = None, as_json: Json = False) -> None:
    """List the versions of a price book, and what changed from each to the next."""
    from bessemer.products.prices import find_prices, price_versions

    lines = price_versions(find_prices(book, environment.home(make=False)).history)
    emit(lines, as_json, lambda: _versions(lines))


def _shown(book: PriceBook, lines: list[PriceLine]) -> RenderableType:
    table = Table("project", "model", "kind", "input", "cached", "output", "unit", "training")
    for line in lines:
        each = (line.input, line.cached, line.output, line.unit, line.training)
        figures = ("" if micros is None else f"{micros / 1e6:g}" for micros in each)
        table.add_row(escape(line.project or "all"), escape(line.model or "any other"), escape(line.kind), *figures)
    return Group(f"{escape(book.told)}; {book.currency} for a million tokens or units", table)


def _versions(lines: list[VersionLine]) -> Table:
    table = Table("version", "in force from", "recorded as", "changed")
    for line in lines:
        table.add_row(escape(line.version), line.in_force_from or "the beginning", escape(line.stamp), "")
        for changed in line.changed:
            table.add_row("", "", "", escape(changed))
    return table
