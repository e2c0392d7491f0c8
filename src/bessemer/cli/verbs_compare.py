"""The verb that compares owning with renting.

Owns how a comparison looks on a terminal. Every figure is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bessemer.cli.output import emit
from bessemer.core.errors import ConfigError

if TYPE_CHECKING:
    from bessemer.twin.compare import Comparison, Offered

NAME_WIDTH = 25
CLOUDS = "clouds"
"""May be named beside the sites; clouds are always compared with."""


UNDATED = "prices without a date in their source: "


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(compare)


def compare(
    sites: Annotated[
        list[str], typer.Argument(help="Sites of the catalogue, or TOML files; `clouds` may follow.", metavar="SITE...")
    ],
    factory: Annotated[Path | None, typer.Option(help="A factory.yaml; each piece of its `work` is compared.")] = None,
    model: Annotated[str | None, typer.Option(help="A model of the catalogue, to serve or to train.")] = None,
    tokens: Annotated[float, typer.Option(min=0, max=1e18, help="Train that model on so many; 0: serve it.")] = 0,
    years: Annotated[int, typer.Option(min=0, help="Compared over; 0: the site's life.")] = 0,
    csv: Annotated[Path | None, typer.Option(help="Also write the comparisons, one row a way.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value instead of words.")] = False,
) -> None:
    """Compare owning sites with renting their accelerators from clouds: on demand, reserved, on the spot market."""
    from bessemer.products.comparing import compare_all, comparison_values
    from bessemer.products.config import load_factory
    from bessemer.products.planning import work_of
    from bessemer.twin.compare import as_csv
    from bessemer.twin.site import load_site
    from bessemer.twin.workload import Serving, Training

    work: list[Training | Serving] = work_of(load_factory(factory)[0]) if factory else []
    if model:
        work.append(Training(model=model, tokens=tokens) if tokens else Serving(model=model))
    owned = [load_site(site) for site in sites if site != CLOUDS]
    if not owned:
        raise ConfigError("no site is named that could be owned", hint="bessemer compare dgx-h100 clouds")
    today = datetime.now(UTC).date()
    found = [each for site in owned for each in compare_all(site, work, today, years)]
    if csv:
        csv.write_text(as_csv(found), "utf-8")
    emit([comparison_values(each) for each in found], as_json, lambda: Group(*map(_comparison, found)))


def _comparison(found: Comparison) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", max_width=NAME_WIDTH, no_wrap=True, overflow="ellipsis")
    unit = {"million tokens": "USD/Mtok", "training run": "USD/run"}.get(found.unit)
    for name in ("USD/hour", "80 % bounds", f"{found.years} years", *([unit] if unit else []), "month", "use"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found.offered:
        per = each.usd_per_unit
        name = f"{each.name}, {each.term.replace('_', ' ')}"
        style = "bold" if each.term == "owned" else ""
        bounds = f"{_short(each.usd_per_useful_hour.low)}–{_short(each.usd_per_useful_hour.high)}"
        middle = each.usd_per_useful_hour.mid
        cells = [escape(name), "∞" if math.isinf(middle) else f"{middle:.2f}", bounds, _short(each.present_usd.mid)]
        table.add_row(*cells, *([_short(per.mid)] if per else []), *_even(each), style=style)
    told = [f"[dim]{escape(note)}[/]" for note in found.notes]
    legend = "USD/hour: of a useful accelerator-hour, levelised; month, use: from these on owning is cheaper (–: never)"
    if any(math.isinf(each.usd_per_useful_hour.high) for each in found.offered):
        legend += "; ∞: servers may be taken away so often that hardly anything is done"
    warnings = [f"[yellow]![/] {escape(line)}" for line in _warnings(found.offered)]
    return Group("", table, "", f"[dim]estimated; {legend}[/]", *told, *warnings)


def _even(each: Offered) -> tuple[str, str]:
    if each.term == "owned":
        return "", ""
    month, ratio = each.break_even_month, each.break_even_ratio
    use = "–" if math.isinf(ratio) else f"{ratio:.0%}" if ratio else "any"
    return ("–" if math.isinf(month) else f"{month:.0f}"), use


def _short(value: float) -> str:
    """Return a number in about four characters.

    >>> [_short(each) for each in (0.0381, 1.25, 17.3, 420.0, 64_400.0, 1.2e7, float("inf"))]
    ['0.038', '1.25', '17', '420', '64 k', '12 M', '∞']
    """
    if math.isinf(value):
        return "∞"
    for least, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= least:
            return f"{_short(value / least)}{name}"
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _warnings(offered: Iterable[Offered]) -> list[str]:
    """Return the warnings, those of prices without a date as one."""
    lines, undated = [], set()
    for each in offered:
        for told in filter(None, each.warning.split("; ")):
            if "no date" in told:
                undated.add(each.name)
            elif told.startswith(UNDATED):
                undated.update(told.removeprefix(UNDATED).split(", "))
            else:
                lines.append(told)
    return lines + ([UNDATED + ", ".join(sorted(undated))] if undated else [])
