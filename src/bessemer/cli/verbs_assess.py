"""The verb `assess`: where a factory stands, what is missing, what growing is worth.

Owns how an assessment looks on a terminal.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bessemer.cli import environment
from bessemer.cli.output import emit
from bessemer.core.units import show_joules, show_seconds

if TYPE_CHECKING:
    from bessemer.products.assessment import Assessment

COLORS = {"measured": "green", "modelled": "cyan", "assumed": "yellow"}


def add_to(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(assess)


def assess(
    factory: Annotated[Path | None, typer.Option("--factory", "-f", help="A factory.yaml; else the example.")] = None,
    site: Annotated[
        list[str] | None, typer.Option(help="Where production would be; may be given again.", show_default="dgx-h100")
    ] = None,
    requests_per_day: Annotated[
        float | None, typer.Option(min=1, help="Of production; else from the books.", show_default=False)
    ] = None,
    answer_usd: Annotated[
        float | None,
        typer.Option(min=0, help="Worth of an accepted answer; else the price book's charge.", show_default=False),
    ] = None,
    budget_usd: Annotated[float | None, typer.Option(min=0, help="For the next stage.", show_default=False)] = None,
    html: Annotated[Path | None, typer.Option(help="Also write it as a page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")] = False,
) -> None:
    """Say where a factory stands by its own books, what is missing before the next stage, and what growing is worth."""
    from bessemer.products.assessment import Asked, assessment_page
    from bessemer.products.assessment import assess as assessed
    from bessemer.products.config import load_factory

    config, base = load_factory(factory)
    asked = Asked(
        sites=tuple(site or ("dgx-h100",)),
        requests_per_day=requests_per_day,
        answer_usd=answer_usd,
        budget_usd=budget_usd,
    )
    found = assessed(environment.home(make=False), config, base, asked, time.time())
    if html:
        html.write_text(assessment_page(found), "utf-8")
    emit(found, as_json, lambda: _assessment(found))


def _assessment(found: Assessment) -> RenderableType:
    at = found.standing
    parts: list[RenderableType] = [f"\n[bold]{escape(at.factory)}[/] stands at: [bold]{at.stage}[/]"]
    facts = Table.grid(padding=(0, 2))
    for fact in at.facts:
        mark = f"[{COLORS[fact.provenance]}]{fact.provenance}[/]"
        facts.add_row(fact.name.replace("_", " "), f"{fact.value:,.4g}", mark, f"[dim]{escape(fact.source)}[/]")
    parts.append(facts)
    if found.missing:
        parts.append(f"\n[bold]missing before {found.missing[0].stage}[/]")
        parts += [
            f"  [yellow]–[/] {escape(need.name)}: {escape(need.detail)}\n    [dim]→ {escape(need.advice)}[/]"
            for need in found.missing
        ]
    wanted = found.demand
    parts.append(
        f"\n[bold]growing[/] to {wanted.requests_per_day:,.0f} requests a day [dim]({wanted.sources[0]})[/], "
        f"{wanted.usd_per_accepted:.3g} USD for an accepted answer [dim]({escape(wanted.sources[1])})[/]"
    )
    parts.append(_prospects(found))
    for name, days in found.days_until_full.items():
        parts.append(f"[dim]storage at {escape(name)} is full in {days:,.0f} days[/]" if days is not None else "")
    seconds, joules = (sum(getattr(line, unit) for line in found.next_run) for unit in ("seconds", "joules"))
    parts.append(f"next run here, nothing cached: {show_seconds(seconds)}, {show_joules(joules)} [dim](predicted)[/]")
    return Group(*(part for part in parts if part))


def _prospects(found: Assessment) -> RenderableType:
    table = Table("site, scenario", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("all paid", "with stops", "right to stop"):
        table.add_column(name, justify="right")
    table.add_column("stages: when, cost")
    for each in found.prospects:
        name = f"{each.site}, {each.scenario}"
        if each.problem:
            table.add_row(escape(name), "", "", "", f"[yellow]{escape(each.problem)}[/]")
            continue
        stages = "\n".join(
            f"{s.stage} in {s.in_years:g} y, {s.estimated_usd:,.0f}" + ("" if s.value_usd > 0 else " [red]stop[/]")
            for s in each.stages
        )
        stages += f"\nthen {each.cash_flow[-1][1]:+,.0f} a year, until year {each.cash_flow[-1][0]:g}"
        figures = (f"{usd:,.0f}" for usd in (each.committed_usd, each.staged_usd, each.option_usd))
        table.add_row(escape(name), *figures, stages)
    return Group(table, "[dim]estimated, expected present values in USD; the catalogue says what is assumed[/]")
