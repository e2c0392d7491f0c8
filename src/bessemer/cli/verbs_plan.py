"""The verbs of the planner: plan, simulate, reconcile.

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
from bessemer.cli.sweep_view import swept_table
from bessemer.cli.verbs_books import Prices, check
from bessemer.core.errors import ConfigError
from bessemer.core.units import show_joules, show_seconds

if TYPE_CHECKING:
    from bessemer.products.reconciliation import Reconciliation
    from bessemer.twin.answer import Plan
    from bessemer.twin.simulate import Simulation

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]
SiteName = Annotated[str, typer.Option("--site", help="A site of the catalogue, a TOML file, or `here`: this machine.")]
SWEEP = (
    "Plan every point: nodes, accelerator, precision, batch, … or any path such as power.usd_per_kwh; may be repeated."
)

MOST = 6
"""Defaults of a site that the terminal names; money comes first."""

TOLD = (
    "step_seconds",
    "accelerators_per_replica",
    "accepted_outputs_per_joule",
    "revenue_usd_per_megawatt_year",
    "store_full_days",
)
"""Figures whose meaning and source the terminal tells too; pages and JSON tell all."""


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (plan, simulate, reconcile):
        app.command()(verb)


def plan(
    site: SiteName = "here",
    factory: Annotated[Path | None, typer.Option(help="A factory.yaml; its `work` is planned.")] = None,
    model: Annotated[str | None, typer.Option(help="Train this model of the catalogue instead.")] = None,
    tokens: Annotated[float, typer.Option(min=1, max=1e18, help="How much that model is trained on.")] = 1e9,
    sweep: Annotated[list[str] | None, typer.Option(metavar="NAME=V1,V2", help=SWEEP)] = None,
    files: Annotated[
        list[Path] | None, typer.Option("--html", "--csv", help="Also write a .html page, a .csv.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict what work takes at a site: time, energy, money, carbon, what limits it, and what would be cheaper."""
    from bessemer.products.config import load_factory
    from bessemer.products.machine import find_site
    from bessemer.products.planning import as_values, plan_all, plan_report, sweep_all, swept_values, work_of
    from bessemer.products.terms import terms_of
    from bessemer.twin.sweep import as_csv
    from bessemer.twin.workload import Training

    for path in files or []:
        if path.suffix not in (".csv", ".html"):
            raise ConfigError(f"{path} is neither a page nor a table", hint="End its name in .html or .csv.")
    home, (config, base) = environment.home(make=False), load_factory(factory)
    work = [Training(model=model, tokens=tokens)] if model else work_of(config)
    asked = (find_site(home, site), work, datetime.now(UTC).date(), terms_of(config, base, home))
    swept = sweep_all(asked[0], work, sweep or [], *asked[2:]) if sweep or files else []
    found = plan_all(*asked) if not sweep or files else []
    for path in files or []:
        if path.suffix == ".csv":
            path.write_text(as_csv([(each.work, each.axes, each.points) for each in swept]), "utf-8")
        else:
            path.write_text(plan_report(found, swept), "utf-8")
    if sweep:
        emit([swept_values(each) for each in swept], as_json, lambda: Group(*map(swept_table, swept)))
    else:
        emit([as_values(each) for each in found], as_json, lambda: Group(*map(_plan, found)))


def simulate(
    site: SiteName,
    days: Annotated[float, typer.Option(min=0.05, max=3660, help="How long.")] = 90,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws; the same seed gives the same months.")] = 0,
    scenario: Annotated[Path | None, typer.Option(help="A TOML file: policy, load, cuts, windows.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the time lines, one row an hour.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write the months as a page.")] = None,
    as_json: Json = False,
) -> None:
    """Play out months of operation at a site: jobs, failures, repairs, services, power and money."""
    from bessemer.products.machine import find_site
    from bessemer.products.months_html import months_page
    from bessemer.products.planning import play, simulated_values
    from bessemer.twin.scenario import Scenario, load_scenario
    from bessemer.twin.simulate import as_csv

    place, asked = find_site(environment.home(make=False), site), load_scenario(scenario) if scenario else Scenario()
    found = play(place, days, seed, asked)
    if csv:
        csv.write_text(as_csv(found), "utf-8")
    if html:
        html.write_text(months_page(place, found, asked), "utf-8")
    emit(simulated_values(place, found), as_json, lambda: _simulation(site, days, seed, found))


def reconcile(
    run: Annotated[str | None, typer.Argument(help="A run; the newest that did something.", show_default=False)] = None,
    books: Annotated[
        bool,
        typer.Option("--books", help="Check the books instead; status 4 if they drifted."),
    ] = False,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Show what was predicted of a run, what happened, and how far off the planner is here; or check the books."""
    from bessemer.products import reconciliation

    if books:
        check(prices, as_json)
        return
    found = reconciliation.reconcile(environment.home(make=False), run)
    emit(found, as_json, lambda: _reconciliation(found))


def _plan(found: Plan) -> RenderableType:
    from bessemer.products.figures import reading, said, words

    title = (
        f"\n[bold]{escape(found.work.model)}[/] at [bold]{escape(found.site.name)}[/]  [dim]modelled, 80 % bounds[/]"
    )
    if any(nodes.measured for nodes in found.site.nodes):
        title += f"\n[dim]{escape(found.site.description)}[/]"
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    for name, given in found.answer.items():
        middle, measure, around = reading(name, given)
        table.add_row(words(name)[0], f"[bold]{middle}[/] {measure}".rstrip(), f"[dim]{around}[/]")
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
            f"  {'█' * max(1, round(24 * s.size / widest)):<24} {escape(words(s.name)[0])} "
            f"[dim]{said(min(s.at_low, s.at_high))} – {said(max(s.at_low, s.at_high))} USD[/]"
            for s in found.swings
            if s.size
        ]
    return Group(*parts, *_known(found))


def _known(found: Plan) -> list[RenderableType]:
    """Return what a plan rests on: meanings, defaults that it took, warnings."""
    from bessemer.products.figures import words
    from bessemer.twin.defaults import defaults

    known = [f"[dim]{escape(words(name)[0])}: {escape(found.notes[name])}[/]" for name in TOLD if name in found.notes]
    parts: list[RenderableType] = ["", *known] if known else []
    taken = [
        f"{each.path.partition('.')[2]} {each.value:g}"
        for each in sorted(defaults(found.site), key=lambda given: not given.month)
    ]
    if taken:
        told = ", ".join(taken[:MOST])
        more = f" and {len(taken) - MOST} more" if len(taken) > MOST else ""
        parts.append(f"[dim]not declared, so by default: {told}{more}; sources: bessemer sites NAME[/]")
    return [*parts, *(f"[yellow]![/] {escape(warning)}" for warning in found.warnings)]


def _scaled(name: str, value: float) -> str:
    """Return a figure with a unit in which it is neither tiny nor huge."""
    from bessemer.products.figures import said, scale

    size, unit = scale(name, value)
    return f"{said(value / size)} {unit}"


def _usd(value: float) -> str:
    return f"{value:,.0f} USD" if value >= 10 else f"{value:.2g} USD"


def _simulation(site: str, days: float, seed: int, found: Simulation) -> RenderableType:
    totals, whole = found.totals, found.totals.accelerator_hours
    began = any(record.started >= 0 for record in found.jobs)
    racks, share = _scaled("energy_kwh", totals.it_joules / 3.6e6), "these days' share"
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    for value, name in (
        (f"{totals.useful_ratio:.1%}", "of all accelerator-hours did useful work"),
        (f"{totals.goodput_ratio:.1%}", "of the hours that jobs held did useful work"),
        (f"{totals.interruptions:,}", "interruptions of jobs"),
        (f"{totals.finished:,}", f"jobs finished, {totals.unfinished:,} did not"),
        (show_seconds(totals.wait_median_seconds) if began else "–", "median wait" if began else "no job began"),
        (_scaled("energy_kwh", totals.facility_joules / 3.6e6), f"at the meter, {racks} at the racks"),
        (_usd(totals.energy_usd), "of electricity" if totals.energy_usd else "of electricity beyond the rent"),
        (_usd(totals.fixed_usd), "of all else: capital or rent, and people"),
        (_scaled("carbon_kgco2e", totals.gco2e / 1000), "of electricity"),
        (_scaled("carbon_kgco2e", totals.embodied_gco2e / 1000), f"{share} of making site and hardware, modelled"),
    ):
        table.add_row(f"[bold]{value}[/]", name)
    lost = Table("accelerator-hours that did no work", "share", box=SIMPLE_HEAD, pad_edge=False)
    for cause, hours in sorted(found.loss.items(), key=lambda item: -item[1]):
        if hours:
            lost.add_row(cause.replace("_", " "), f"{hours / whole:.2%}")
    long = f"{days:g} {'day' if days == 1 else 'days'}"
    title = f"\n[bold]{escape(site)}[/], {long}, seed {seed}  [dim]simulated, {found.events:,} events[/]"
    return Group(title, table, lost)


def _reconciliation(found: Reconciliation) -> RenderableType:
    from bessemer.products.figures import said

    table = Table("stage", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("predicted", "80 %, s", "took", "error", "energy", "took"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in found.stages:
        table.add_row(
            line.stage,
            show_seconds(line.predicted_seconds),
            f"{said(line.low_seconds)}–{said(line.high_seconds)}",
            show_seconds(line.actual_seconds),
            f"{line.error_ratio:+.0%}",
            show_joules(line.predicted_joules),
            show_joules(line.actual_joules),
        )
    told = ", ".join(
        f"{e.stage} {e.median_error_ratio:.0%}"
        + ("" if e.median_energy_error_ratio is None else f" and {e.median_energy_error_ratio:.0%}")
        + f" ({e.runs})"
        for e in found.errors
    )
    return Group(
        f"\nrun {found.run}: predicted {show_seconds(found.predicted_seconds)}, took "
        f"{show_seconds(found.actual_seconds)} ({found.error_ratio:+.0%}); {show_joules(found.predicted_joules)}, took "
        f"{show_joules(found.actual_joules)}",
        table,
        f"[dim]median error here of time and energy by kind of stage (runs): {told}[/]",
    )
