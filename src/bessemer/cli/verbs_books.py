"""The verbs of the books: costs, invoice.

Owns how they look on a terminal.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bessemer.cli import environment
from bessemer.cli.narrowing import Only, narrowed, owners
from bessemer.cli.output import emit
from bessemer.cli.verbs_keys import day
from bessemer.core.errors import ConfigError
from bessemer.core.units import Money, show_joules

if TYPE_CHECKING:
    from bessemer.core.usage import CostLine
    from bessemer.products.auditing import Check
    from bessemer.products.invoices import Invoice, InvoiceLine

DRIFTED = 4
GROUPS = {"project": "project", "key": "key_id", "user": "", "model": "model", "day": ""}
"""What costs are told apart by, and what a line calls it where it has it."""

_MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]?[/]"}

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]
Prices = Annotated[
    Path | None,
    typer.Option(help="The price book (.toml) or factory.yaml; without it this home's.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (costs, invoice):
        app.command()(verb)


def costs(
    month: Annotated[str, typer.Option(help="YYYY-MM; this one without.", show_default=False)] = "",
    project: Annotated[str | None, typer.Option(help="Of one project only.")] = None,
    only: Only = None,
    group_by: Annotated[
        str, typer.Option(help=f"With commas, any of: {', '.join(GROUPS)}; project,model without.", show_default=False)
    ] = "",
    focus: Annotated[Path | None, typer.Option(help="Also write it as FOCUS 1.2: a .csv or .parquet.")] = None,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Say what was charged in a month, by kind of token, to the micro-unit; `--json` has each day and key."""
    from bessemer.core.usage import UsageQuery
    from bessemer.products.booked import open_usage
    from bessemer.products.focus import Bill, focus_rows, write_focus
    from bessemer.products.invoices import month_of
    from bessemer.products.prices import find_prices

    names = tuple(dict.fromkeys(name.strip() for name in group_by.split(",") if name.strip())) or ("project", "model")
    if wrong := [name for name in names if name not in GROUPS]:
        raise ConfigError(f"nothing is called {wrong[0]!r}", hint=f"--group-by takes any of {', '.join(GROUPS)}.")
    start, end = month_of(month or _this_month())
    home = environment.home(make=False)
    priced = find_prices(prices, home)
    with open_usage(home, priced.history) as usage:
        found = usage.costs(UsageQuery(start=start, end=end, kind="", **narrowed(project, only)))
    if focus:
        write_focus(focus, focus_rows(found, Bill(priced.factory, start, end)))
    emit(found, as_json, lambda: _costs(found, names))


def invoice(
    project: Annotated[str, typer.Option(help="Whom it is for.")],
    month: Annotated[str, typer.Option(help="YYYY-MM; this one without.", show_default=False)] = "",
    issue: Annotated[bool, typer.Option("--issue", help="Issue it for good, once the month is over.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write it as a page that prints.")] = None,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Draw what a project is charged for a month, or issue it; what came later is issued as the difference."""
    from bessemer.products.booked import open_usage
    from bessemer.products.home import write_whole
    from bessemer.products.invoice_html import invoice_page
    from bessemer.products.invoices import InvoiceBook
    from bessemer.products.prices import find_prices

    home = environment.home(make=False)
    priced = find_prices(prices, home)
    with open_usage(home, priced.history) as usage:
        book = InvoiceBook(home, usage, priced.factory, time.time)
        found = (book.issue if issue else book.draw)(project, month or _this_month())
    if html:
        write_whole(html, invoice_page(found))
    emit(found, as_json, lambda: _invoice(found))


def check(prices: Path | None, as_json: bool) -> None:
    """Check the books and say what was found; leave with a status of its own if something drifted."""
    from bessemer.products.auditing import check_books
    from bessemer.products.prices import find_prices

    home = environment.home(make=False)
    found = check_books(home, find_prices(prices, home).history)
    emit(found, as_json, lambda: _checks(found))
    if any(each.holds is False for each in found):
        raise typer.Exit(DRIFTED)


def _checks(checks: list[Check]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for check in checks:
        table.add_row(_MARKS[check.holds], check.name, escape(check.found))
    return table


def _costs(lines: list[CostLine], names: tuple[str, ...]) -> RenderableType:
    if not lines:
        return "[dim]nothing was charged[/]"
    users, address = owners() if "user" in names else ({}, str)

    def of(line: CostLine) -> tuple[str, ...]:
        who = {"user": address(users.get(line.key_id, "")) or "nobody's key", "day": day(line.start)[:10]}
        return tuple(who[name] if name in who else str(getattr(line, GROUPS[name])) or "–" for name in names)

    sums: dict[tuple[str, ...], dict[str, list[CostLine]]] = {}
    for line in sorted(lines, key=lambda line: (*of(line), line.batch, line.service_tier, line.item)):
        found = sums.setdefault(of(line), {})
        found.setdefault(_what(line), []).append(line)
    parts: list[RenderableType] = []
    for (first, *others), kinds in sums.items():
        table = _lines("quantity", "charged")
        for what, some in kinds.items():
            quantity = f"{sum(line.quantity for line in some):,}" if some[0].unit_micros is not None else ""
            table.add_row(escape(what), quantity, _money(sum(line.amount_micros for line in some), some[0].currency))
        parts += [Text.assemble((first, "bold"), *(f"  {other}" for other in others)), table, ""]
    totals = {line.currency: 0 for line in lines}
    for line in lines:
        totals[line.currency] += line.amount_micros
    return Group(*parts, "together " + " + ".join(_money(micros, name) for name, micros in totals.items()))


def _invoice(found: Invoice) -> RenderableType:
    models: dict[str, list[InvoiceLine]] = {}
    for line in found.lines:
        models.setdefault(line.model, []).append(line)
    parts: list[RenderableType] = [
        f"[bold]{' '.join(filter(None, (found.kind, escape(found.number))))}[/]  {escape(found.seller)} to"
        f" {escape(found.project)}, {day(found.start)[:7]}"
    ]
    parts += [f"[dim]in addition to {escape(', '.join(found.corrects))}[/]"] if found.corrects else []
    for model, some in models.items():
        table = _lines("quantity", "a million", "amount")
        for line in some:
            unit = _money(line.unit_micros, found.currency) if line.unit_micros is not None else ""
            amount = _money(line.amount_micros, found.currency)
            table.add_row(escape(_what(line)), f"{line.quantity:,}", unit, amount)
        parts += ["", Text(model), table]
    known = f", {found.energy_class.value}" if found.energy_class else ""
    trained = f" and training on {found.trained_tokens:,} tokens" if found.trained_tokens else ""
    took = f"{found.requests:,} requests{trained} took {show_joules(found.joules)}{known}, {found.grams:.3g} g CO2e"
    return Group(*parts, f"\n[bold]total {_money(found.amount_micros, found.currency)}[/]", f"[dim]{took}[/]")


def _lines(*numbers: str) -> Table:
    """Return a table of one model's lines; of the same widths for each, so that they stand below each other."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", min_width=20)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True, min_width=16)
    return table


def _what(line: CostLine | InvoiceLine) -> str:
    return ", ".join(filter(None, (line.item, "batch" if line.batch else line.service_tier)))


def _money(micros: int, currency: str) -> str:
    return Money(micros=micros, currency=currency).exact()


def _this_month() -> str:
    return datetime.now(UTC).strftime("%Y-%m")
