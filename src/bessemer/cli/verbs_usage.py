"""The verb that says what was used: usage, as a whole or in buckets of time.

Owns how it looks on a terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bessemer.cli import environment
from bessemer.cli.narrowing import Day, Only, narrowed, owners, seconds
from bessemer.cli.output import emit
from bessemer.core.errors import ConfigError
from bessemer.core.units import Money, show_joules, show_seconds

if TYPE_CHECKING:
    from bessemer.core.usage import UsageGroup, UsageRow
    from bessemer.products.overview import UsageLine

WIDTHS: dict[str, Literal[60, 3600, 86_400]] = {"1m": 60, "1h": 3600, "1d": 86_400}
GROUPS: dict[str, UsageGroup] = {
    "project": "project",
    "key": "key_id",
    "model": "model",
    "tier": "service_tier",
    "batch": "batch",
    "user": "key_id",
}
"""What people call a group, and what the books call it; they know of a user's keys only."""


def add_to(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(usage)


def usage(
    project: Annotated[str | None, typer.Option(help="Of one project only.")] = None,
    only: Only = None,
    bucket: Annotated[
        str, typer.Option(help="Requests by the minute, hour or day: 1m, 1h, 1d.", show_default=False)
    ] = "",
    group_by: Annotated[str, typer.Option(help=f"With commas, any of: {', '.join(GROUPS)}.", show_default=False)] = "",
    since: Day = None,
    until: Day = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")] = False,
) -> None:
    """Say what was used, by whom, and what it took: tokens, joules, carbon and money."""
    home = environment.home(make=False)
    if not (only or bucket or group_by or since or until):
        from bessemer.products.overview import usage_of

        whole = usage_of(home, project)
        emit(whole, as_json, lambda: _whole(whole))
        return
    from bessemer.core.usage import UsageQuery
    from bessemer.products.booked import open_usage
    from bessemer.products.prices import find_prices
    from bessemer.serve.accounts.usage_wire import by_user

    names = tuple(dict.fromkeys(name.strip() for name in group_by.split(",") if name.strip()))
    if bucket not in ("", *WIDTHS) or (wrong := [name for name in names if name not in GROUPS]):
        told = f"there is no bucket of {bucket!r}" if bucket not in ("", *WIDTHS) else f"nothing is called {wrong[0]!r}"
        raise ConfigError(told, hint=f"--bucket is one of {', '.join(WIDTHS)}; --group-by any of {', '.join(GROUPS)}.")
    end = seconds(until) if until else int(time.time()) + 1
    start = seconds(since) if since else max(0, end - _usual(bucket))
    if end <= start:
        raise ConfigError("--until is not later than --since", hint="Both are in UTC.")
    query = UsageQuery(
        start=start, end=end, width=WIDTHS[bucket or "1d"], **narrowed(project, only),
        group_by=tuple(dict.fromkeys(GROUPS[name] for name in names)),
    )  # fmt: skip
    with open_usage(home, find_prices(None, home).history) as source:
        rows = source.usage(query)
    users, address = owners() if "user" in names else ({}, str)
    if "user" in names:
        rows = by_user(rows, users, keep_keys="key" in names)
    emit(rows, as_json, lambda: _buckets(rows, names, bucket, address))


def _usual(bucket: str) -> int:
    """Return how far back is looked unless told: as many buckets as fit a screen."""
    return 30 * WIDTHS[bucket or "1d"]


def _buckets(
    rows: list[UsageRow], names: tuple[str, ...], bucket: str, address: Callable[[str], str]
) -> RenderableType:
    if not rows:
        return "[dim]nothing was asked in that time[/]"
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("UTC", no_wrap=True)
    if names:  # in one column: ids are long, and beside each other each would have room for four letters
        table.add_column(" · ".join(names), overflow="fold")
    for name in ("requests", "tokens\nin / out", "energy", "charged"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        at = datetime.fromtimestamp(row.start, UTC).strftime("%Y-%m-%d" if bucket in ("", "1d") else "%m-%d %H:%M")
        table.add_row(
            at,
            *([" · ".join(escape(_group(row, name, address)) for name in names)] * bool(names)),
            f"{row.entries:,}",
            f"{row.usage.input_tokens:,} / {row.usage.output_tokens:,}",
            show_joules(row.microjoules / 1e6),
            str(Money(micros=row.charge_micros, currency=row.currency)),
        )
    known = ", ".join(dict.fromkeys(row.energy_class.value for row in rows))
    return Group(table, Text(f"Joules {known}.", style="dim"))


def _group(row: UsageRow, name: str, address: Callable[[str], str]) -> str:
    if name == "user":
        return address(row.group["user_id"]) or "–"
    value = row.group[GROUPS[name]]
    return ("yes" if value else "no") if name == "batch" else value or ("default" if name == "tier" else "–")


def _used_by(row: UsageLine) -> str:
    """Return whom a line is of; of requests it needs no word."""
    who = " · ".join(part for part in (row.project, row.model) if part)
    return who if who and row.what == "requests" else f"{who}, {row.what}" if who else row.what


def _whole(rows: list[UsageLine]) -> RenderableType:
    if not rows:
        return "[dim]nothing is booked yet[/]"
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, padding=(0, 1, 0, 0))
    table.add_column("used by", min_width=9, overflow="fold")
    counted = any(row.units for row in rows)
    for name in ("entries", "tokens\nin / out", *["units"] * counted, "time", "energy", "g CO2e", "charged"):
        table.add_column(name, justify="right", no_wrap=name != "charged")  # where there is no room, below its figure
    for row in rows:
        table.add_row(
            escape(_used_by(row)),
            f"{row.entries:,}",
            f"{row.input_tokens:,} / {row.output_tokens:,}" if row.input_tokens or row.output_tokens else "–",
            *([f"{row.units:,}" if row.units else "–"] * counted),
            show_seconds(row.seconds),
            show_joules(row.joules),
            f"{row.grams:.3g}",
            " + ".join(map(str, row.charges)),
        )
    known = "; ".join(dict.fromkeys(f"{row.what} {row.energy_class} ({row.boundary})" for row in rows))
    grids = "; ".join(dict.fromkeys(grid for row in rows for grid in row.grids))
    prices = ", ".join(dict.fromkeys(version for row in rows for version in row.price_versions))
    said = f"How the joules are known and what they include: {known}. Carbon: grid {grids}. Price book: {prices}."
    return Group(table, Text(said, style="dim"))
