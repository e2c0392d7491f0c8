"""The verb that says whether it pays: profit."""

from __future__ import annotations

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
from bessemer.cli.output import emit
from bessemer.core.units import show_joules, show_seconds

if TYPE_CHECKING:
    from bessemer.products.profit import ProductProfit, Profits


def add_to(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(profit)


def profit(
    factory: Annotated[
        Path | None, typer.Argument(help="Names the price book; the built-in example without it.", show_default=False)
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only what began on that day or later, in UTC.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")] = False,
) -> None:
    """Say what each product earned and what it cost: its answers alone, and with all that it took to make them."""
    from bessemer.products.profit import profits

    start = since.replace(tzinfo=UTC).timestamp() if since else 0
    found = profits(environment.home(make=False), factory, start)
    emit(found, as_json, lambda: _shown(found))


def _shown(found: Profits) -> RenderableType:
    if not found.products:
        return "[dim]nothing is booked yet[/]"
    tables = [_table(product) for product in found.products]
    machine = found.hardware or "no price of the machine is given: its time costs nothing here"
    said = (
        f"From {_day(found.since)} to {_day(found.until)}, idle {show_seconds(found.idle_seconds)}. Charges and energy"
        f" are as booked; machine time is an estimate. {found.prices}; {machine}. The joules of idle time are no cost"
        " here. Shared: idle time, and steps of unknown runs, by tokens served."
    )
    return Group(*tables, Text(f"\n{said}", style="dim"))


def _table(product: ProductProfit) -> Group:
    costs = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("", "machine", "energy", "cost of it", "hardware", "together"):
        costs.add_column(name, justify="right" if name else "left", no_wrap=True)
    for line in product.costs:
        classes = ", ".join(kind.value for kind in line.energy_classes)
        energy = f"{show_joules(line.joules)} {classes}".strip()
        amounts = (str(line.energy), str(line.estimated_hardware), str(line.cost))
        costs.add_row(line.kind, show_seconds(line.machine_seconds), energy, *amounts)
    tokens = f"{product.requests:,} requests, {product.input_tokens:,} / {product.output_tokens:,} tokens"
    sums = Table.grid(padding=(0, 1, 0, 0))
    sums.add_column(no_wrap=True)
    sums.add_column(justify="right", no_wrap=True)
    for name, amount in (
        (f"revenue ({tokens})", product.revenue),
        ("marginal profit, over the cost of answers", product.marginal_profit),
        ("fully loaded profit", product.loaded_profit),
    ):
        sums.add_row(name, f"[{'red' if amount.micros < 0 else 'green'}]{amount}[/]")
    return Group(f"\n[bold]{escape(product.product) or 'unknown'}[/]", costs, "", sums)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
