"""The verbs below `bessemer experiment`: show, estimate.

Owns how experiments and estimates look on a terminal.
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

if TYPE_CHECKING:
    from bessemer.core.experiments import ExperimentFigures
    from bessemer.core.nouns import Interval
    from bessemer.products.recommender.foreseeing import Foreseen

app = typer.Typer(help="Say which ranker wins on live users, and what another would have earned.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")]
Project = Annotated[str, typer.Option(help="By this project's users alone; all projects' unless given.")]
_COLOURS = {"challenger": "green", "incumbent": "green", "mismatch": "red"}


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Of the experiment; all of them without it.", show_default=False)] = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Say who wins, of what the gateway has shown and was told since, at any time and as often as you like."""
    from bessemer.products.recommender.looking import experiments_of

    found = experiments_of(environment.home(make=False), name, project)
    emit(found, as_json, lambda: _shown(found))


@app.command()
def estimate(
    candidate: Annotated[
        str, typer.Argument(help="challenger, a family that the last run tried such as als, or a ranker's folder.")
    ],
    factory: Annotated[Path | None, typer.Option("--factory", "-f", help="The factory.yaml that is served.")] = None,
    product: Annotated[str, typer.Option(help="Its recommender; the first one unless given.")] = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Say what another ranker would have earned, from what was shown with chance in the order (`explore`)."""
    from bessemer.products.config import load_factory
    from bessemer.products.factory import Factory
    from bessemer.products.recommender.foreseeing import foresee_candidate

    config, base = load_factory(factory)
    found = foresee_candidate(Factory(config, base, environment.home(make=False)), candidate, product, project)
    emit(found, as_json, lambda: _foreseen(found))


def _foreseen(found: Foreseen) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("items taken up of a place", "by"):
        table.add_column(column)
    lines = [
        (found.dr, "candidate, doubly robust"),
        (found.snips, "candidate, SNIPS"),
        (found.ips, "candidate, IPS"),
        (found.incumbent, "incumbent, doubly robust"),
    ]
    for interval, name in lines:
        table.add_row(f"{interval.value:.4f} \\[{interval.low:.4f}, {interval.high:.4f}]", name)
    left = f", {found.left_out:,} left out that it was trained after" if found.left_out else ""
    told = f"{found.rankings:,} rankings of {found.users:,} users{left}; worth {found.effective:,.0f} places"
    return Group(f"[bold]{escape(found.candidate)}[/] [dim]{told}[/]", table, escape(found.sentence))


def _shown(found: list[ExperimentFigures]) -> RenderableType:
    if not found:
        return "[dim]no experiment runs here; declare one: product: {kind: recommender, experiment: …}[/]"
    return Group(*(_one(each) for each in found))


def _one(found: ExperimentFigures) -> Group:
    told = found.experiment
    how = {"ab": "A/B", "interleave": "interleaved"}[told.kind]
    since = f"since {_when(found.began_at)}" if found.began_at else "nobody was shown anything yet"
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("arm")
    for column in ("users", "answers", "taken up"):
        table.add_column(column, justify="right")
    table.add_column("ranked by", overflow="fold")
    for arm in found.arms:
        counts = (f"{count:,}" for count in (arm.users, arm.answers, arm.taken_up))
        table.add_row(arm.arm, *counts, escape(", ".join(arm.policies)))
    lines = [
        f"challenger - incumbent: {found.metric}",
        f"  at all looks together {_interval(found.anytime)}, which decides",
        f"  at one look set beforehand {_interval(found.fixed)}",
        f"  arms as uneven as these come by chance in {found.chance:.2g} of all experiments",
    ]
    verdict = f"[bold {_COLOURS.get(found.winner, 'yellow')}]{found.winner}[/]"
    head = f"\n[bold]{escape(told.name)}[/] [dim]{how} on {escape(told.model)}, {since}[/]"
    return Group(
        head,
        f"challenger: {escape(told.challenger)}",
        table,
        *(f"[dim]{line}[/]" for line in lines),
        f"{verdict}: {escape(found.sentence)}",
    )


def _interval(found: Interval | None) -> str:
    if found is None:
        return "is not known yet"
    return f"{found.value:+.3f} \\[{found.low:+.3f}, {found.high:+.3f}] at {found.confidence * 100:g} %"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
