"""The verbs that only look: status, doctor, receipt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bessemer.cli import environment
from bessemer.cli.output import emit, err, out, write_json
from bessemer.cli.progress import shown

if TYPE_CHECKING:
    from bessemer.products.overview import RetrainingLine

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (status, doctor, receipt):
        app.command()(verb)


def status(as_json: Json = False) -> None:
    """Say what runs, what is deployed and which runs there were."""
    from bessemer.products.overview import overview

    found = overview(environment.home(make=False))
    emit(found, as_json, lambda: _status(found))


def doctor(
    measure: Annotated[
        bool, typer.Option("--measure", help="Also measure this machine, about 15 s, so that work is planned for it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is installed and found here, and what to do about what is missing."""
    from bessemer.products.doctor import examine

    home = environment.home(make=measure)
    if measure:
        from bessemer.products import machine

        with shown(err) as sink:
            machine.measure(home, sink)
    findings = examine(home)
    emit(findings, as_json, lambda: _doctor(findings))


def receipt(
    run: Annotated[str | None, typer.Argument(help="A run; the newest receipt without it.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Show the receipt of a run again."""
    from bessemer.cli.receipt_view import draw_receipt
    from bessemer.products.overview import read_receipt

    found = read_receipt(environment.home(make=False), run)
    if as_json:
        write_json(found)
    else:
        out.print(draw_receipt(found))


def _status(found: object) -> RenderableType:
    from bessemer.products.overview import Overview

    assert isinstance(found, Overview)
    parts: list[RenderableType] = [f"[dim]home[/] {escape(str(found.home))}"]
    gateway = found.gateway
    if gateway:
        parts.append(
            f"[green]serving[/] {', '.join(gateway.models)} at {gateway.url}/v1 [dim](process {gateway.pid})[/]"
        )
    else:
        parts.append("[dim]no gateway runs; start one with[/] bessemer up")
    if not (found.runs or found.deployments):
        parts.append("[dim]nothing has run here yet; start with[/] bessemer run")
    deployed = Table("deployed", "run", "when", box=SIMPLE_HEAD, pad_edge=False)
    for deployment in found.deployments:
        deployed.add_row(escape(deployment.name), deployment.run, _when(deployment.deployed_at))
    parts += [_retraining(line) for line in found.retrainings]
    runs = Table("run", "flow", "state", "begun", box=SIMPLE_HEAD, pad_edge=False)
    for line in found.runs:
        runs.add_row(line.run, line.flow, line.status, _when(line.created_at))
    return Group(*parts, *([deployed] if found.deployments else []), *([runs] if found.runs else []))


def _retraining(line: RetrainingLine) -> RenderableType:
    """Say when a recommender is retrained, and what came of it last."""
    told, hours, events = line.retraining, line.retraining.wish.every_hours, line.retraining.wish.after_events
    when = [f"every {hours:g} h"] if hours else []
    when += [f"after {events:,} events"] if events else []
    last = {"running": f"under way since {_when(told.at)}", "failed": f"failed {_when(told.at)}: {told.said}"}
    done = f"run {told.run}, {_when(told.at)}: {told.said}" if told.run else "not yet"
    head = f"[green]retraining[/] {escape(told.product)} {' or '.join(when)}, {line.new_events:,} new since the last"
    return f"{head}; last: {escape(last.get(told.state, done))}"


def _doctor(findings: list) -> RenderableType:  # type: ignore[type-arg]
    marks = {"ok": "[green]✓[/]", "missing": "[yellow]–[/]", "warning": "[yellow]![/]"}
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        advice = f"\n[dim]→ {escape(finding.advice)}[/]" if finding.advice else ""
        table.add_row(
            marks[finding.state], f"[dim]{finding.area}[/]", escape(finding.name), escape(finding.detail) + advice
        )
    return table


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
