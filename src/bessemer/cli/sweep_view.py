"""How a sweep looks on a terminal of 80 columns: one row a point, the cheapest marked, none dropped.

Owns the table. Every figure comes from the planner and is modelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bessemer.core.units import show_joules, show_seconds

if TYPE_CHECKING:
    from bessemer.products.planning import Swept
    from bessemer.twin.answer import Plan


def swept_table(found: Swept) -> RenderableType:
    """Return all points of a grid as one table with a title."""
    from bessemer.twin.sweep import best

    least, is_training = best(found.points), found.work.kind == "training"
    table = Table("", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for axis in found.axes:
        table.add_column(escape(axis.name), justify="right")
    for name in ("time" if is_training else "a token", "USD" if is_training else "USD/M tokens", "energy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bottleneck, or why it cannot be", ratio=1)
    for point in found.points:
        mark = "[bold green]*[/]" if point is least else ""
        cells = _cells(point.plan) if point.plan else ("–", "–", "–", f"[red]{escape(point.reason)}[/]")
        table.add_row(mark, *map(escape, point.values), *cells)
    told = "* cheapest" if least else "no point can be"
    title = f"\n[bold]{escape(found.work.model)}[/] at [bold]{escape(found.site.name)}[/]  [dim]modelled; {told}[/]"
    return Group(title, table)


def _cells(plan: Plan) -> tuple[str, str, str, str]:
    answer, limit = plan.answer, escape(plan.bottleneck)
    if "days" in answer:
        seconds, joules = answer["days"].mid * 86400, answer["energy_kwh"].mid * 3.6e6
        told = f"{answer['days'].mid:,.3g} d" if seconds >= 86400 else show_seconds(seconds)
        return told, f"{answer['cost_usd'].mid:,.3g}", show_joules(joules), limit
    token = answer["time_per_output_token_seconds"].mid
    usd = answer["usd_per_million_tokens"].mid
    return show_seconds(token), f"{usd:,.3g}", f"{show_joules(answer['joules_per_token'].mid)}/token", limit
