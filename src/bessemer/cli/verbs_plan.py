"""The verbs of the planner: sites, plan, simulate, reconcile.

Owns how a plan looks on a terminal. Every figure comes from the planner and is modelled; `reconcile` shows measured
ones beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime
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
    from bessemer.products.reconciliation import Reconciliation
    from bessemer.twin.answer import Plan
    from bessemer.twin.simulate import Simulation

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]
SiteName = Annotated[str, typer.Option("--site", help="A site of the catalogue, or a TOML file.")]
UNITS = {
    "days": "days",
    "energy_kwh": "kWh",
    "cost_usd": "USD",
    "carbon_kgco2e": "kg CO2e",
    "tokens_per_second": "tokens/s",
    "usd_per_million_tokens": "USD per million tokens",
    "step_seconds": "seconds a step",
    "mfu_ratio": "model FLOPs utilisation",
}


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (sites, plan, simulate, reconcile):
        app.command()(verb)


def sites(as_json: Json = False) -> None:
    """List the reference sites of the catalogue."""
    from bessemer.twin.site import load_site, reference_sites

    found = [load_site(name) for name in reference_sites()]

    def draw() -> RenderableType:
        table = Table("site", "accelerators", "what it is", box=SIMPLE_HEAD, pad_edge=False)
        for site in found:
            table.add_row(site.name, f"{site.accelerators:,}", escape(site.description))
        return table

    emit([site.model_dump(mode="json") for site in found], as_json, draw)


def plan(
    site: SiteName,
    factory: Annotated[Path | None, typer.Option(help="A factory.yaml; its `work` is planned.")] = None,
    model: Annotated[str | None, typer.Option(help="Train this model of the catalogue instead.")] = None,
    tokens: Annotated[float, typer.Option(min=1, help="How much that model is trained on.")] = 1e9,
    html: Annotated[Path | None, typer.Option(help="Also write the first work's plan as a page.")] = None,
    as_json: Json = False,
) -> None:
    """Predict what work takes at a site: time, energy, money, carbon, what limits it, and what would be cheaper."""
    from bessemer.products.factory import load_factory
    from bessemer.products.planning import as_values, plan_all, plan_report, work_of
    from bessemer.twin.site import load_site
    from bessemer.twin.workload import Training

    work = [Training(model=model, tokens=tokens)] if model else work_of(load_factory(factory)[0])
    found = plan_all(load_site(site), work, datetime.now(UTC).date())
    if html and found:
        html.write_text(plan_report(found[0]), "utf-8")
    emit([as_values(each) for each in found], as_json, lambda: Group(*map(_plan, found)))


def simulate(
    site: SiteName,
    days: Annotated[float, typer.Option(min=0.05, help="How long.")] = 90,
    seed: Annotated[int, typer.Option(help="Of all draws; the same seed gives the same months.")] = 0,
    scenario: Annotated[Path | None, typer.Option(help="A TOML file: policy, load, cuts, windows.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the time lines, one row an hour.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write the months as a page.")] = None,
    as_json: Json = False,
) -> None:
    """Play out months of operation at a site: jobs, failures, repairs, services, power and money."""
    from bessemer.products.months_html import months_page
    from bessemer.products.planning import play, simulated_values
    from bessemer.twin.scenario import Scenario, load_scenario
    from bessemer.twin.simulate import as_csv
    from bessemer.twin.site import load_site

    place, asked = load_site(site), load_scenario(scenario) if scenario else Scenario()
    found = play(place, days, seed, asked)
    if csv:
        csv.write_text(as_csv(found), "utf-8")
    if html:
        html.write_text(months_page(place, found, asked), "utf-8")
    emit(simulated_values(place, found), as_json, lambda: _simulation(site, days, seed, found))


def reconcile(
    run: Annotated[str | None, typer.Argument(help="A run; the newest that did something.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Show what was predicted of a run, what happened, and how far off the planner is here."""
    from bessemer.products import reconciliation

    found = reconciliation.reconcile(environment.home(), run)
    emit(found, as_json, lambda: _reconciliation(found))


def _plan(found: Plan) -> RenderableType:
    title = (
        f"\n[bold]{escape(found.work.model)}[/] at [bold]{escape(found.site.name)}[/]  [dim]modelled, 80 % bounds[/]"
    )
    table = Table.grid(padding=(0, 2))
    for _ in range(2):
        table.add_column(justify="right")
    for name, given in found.answer.items():
        table.add_row(
            f"[bold]{given.mid:,.4g}[/]", f"[dim]{given.low:,.3g} – {given.high:,.3g}[/]", UNITS.get(name, name)
        )
    parts: list[RenderableType] = [title, table, f"\n[bold]limit[/] {escape(found.limit)}"]
    if found.layout:
        cut = found.layout
        parts.append(
            f"[dim]cut[/] tensor {cut.tensor} · pipeline {cut.pipeline} · data {cut.data} · context {cut.context} · "
            f"expert {cut.expert} · micro-batch {cut.micro_batch} · recompute {cut.recompute}"
        )
    if found.changes:
        parts.append("\n[bold]cheapest changes[/]")
        parts += [f"  cost × {c.cost_ratio:.2f}, time × {c.time_ratio:.2f}  {escape(c.name)}" for c in found.changes]
    if found.swings:
        parts.append("\n[bold]what the cost depends on most[/]")
        widest = max(found.swings[0].size, 1e-12)
        parts += [
            f"  {'█' * max(1, round(24 * s.size / widest)):<24} {escape(s.name)} "
            f"[dim]{min(s.at_low, s.at_high):,.4g} – {max(s.at_low, s.at_high):,.4g} USD[/]"
            for s in found.swings
            if s.size
        ]
    parts += [f"[yellow]![/] {escape(warning)}" for warning in found.warnings]
    return Group(*parts)


def _simulation(site: str, days: float, seed: int, found: Simulation) -> RenderableType:
    totals, whole = found.totals, found.totals.accelerator_hours
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    for value, name in (
        (f"{totals.useful_ratio:.1%}", "of all accelerator-hours did useful work"),
        (f"{totals.goodput_ratio:.1%}", "of the hours that jobs held did useful work"),
        (f"{totals.interruptions:,}", "interruptions of jobs"),
        (f"{totals.finished:,}", f"jobs finished, {totals.unfinished:,} did not"),
        (show_seconds(totals.wait_median_seconds), "median wait"),
        (f"{totals.facility_joules / 3.6e9:,.0f} MWh", f"at the meter, {totals.it_joules / 3.6e9:,.0f} at the racks"),
        (f"{totals.energy_usd:,.0f} USD", "of electricity"),
        (f"{totals.gco2e / 1e6:,.0f} t CO2e", "of electricity"),
    ):
        table.add_row(f"[bold]{value}[/]", name)
    lost = Table("accelerator-hours that did no work", "share", box=SIMPLE_HEAD, pad_edge=False)
    for cause, hours in sorted(found.loss.items(), key=lambda item: -item[1]):
        if hours:
            lost.add_row(cause.replace("_", " "), f"{hours / whole:.2%}")
    title = f"\n[bold]{escape(site)}[/], {days:g} days, seed {seed}  [dim]simulated, {found.events:,} events[/]"
    return Group(title, table, lost)


def _reconciliation(found: Reconciliation) -> RenderableType:
    table = Table("stage", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("predicted", "80 % bounds", "took", "error", "energy predicted", "took"):
        table.add_column(name, justify="right")
    for line in found.stages:
        table.add_row(
            line.stage,
            show_seconds(line.predicted_seconds),
            f"{line.low_seconds:.3g} – {line.high_seconds:.3g} s",
            show_seconds(line.actual_seconds),
            f"{line.error_ratio:+.0%}",
            show_joules(line.predicted_joules),
            show_joules(line.actual_joules),
        )
    told = ", ".join(f"{e.stage} {e.median_error_ratio:.0%} ({e.runs})" for e in found.errors)
    return Group(
        f"\nrun {found.run}: predicted {show_seconds(found.predicted_seconds)}, took "
        f"{show_seconds(found.actual_seconds)} ({found.error_ratio:+.0%})",
        table,
        f"[dim]median error here by kind of stage (runs): {told}[/]",
    )
