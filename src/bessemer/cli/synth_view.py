"""Draws synthetic datasets: each column beside the real one, the pairs that are kept least, privacy, use, the verdict.

Owns the look. Every figure comes from the reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bessemer.core.tabular import Table as Rows
from bessemer.core.units import show_seconds
from bessemer.evals.tables.judging import TableReport
from bessemer.evals.tables.profiles import profile
from bessemer.lake.writing.writer import Writing
from bessemer.products.synthetic.quick import Made

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN_COLUMNS = 24
_WORST_PAIRS = 3


def draw_made(made: Made) -> RenderableType:
    """Return a synthetic dataset and what it came to."""
    parts: list[RenderableType] = []
    for name in made.tables:
        parts += [_head(made, name), _columns(made, name), _figures(made.reports[name]), _pairs(made.reports[name])]
    outcomes = [_outcome(o.passed, o.sentence) for o in made.verdict.outcomes]
    took = f"{show_seconds(made.fit_seconds)} to fit, {show_seconds(made.sample_seconds)} to sample (measured)"
    notes = [f"[yellow]note[/] {escape(note)}" for table in made.card.tables for note in table.notes]
    return Group(*parts, *outcomes, Text(f"privacy: {made.card.privacy}", style="dim"), Text(took, style="dim"), *notes)


def _head(made: Made, name: str) -> Text:
    state = ("passed its gate", "bold green") if made.verdict.passed else ("did not pass its gate", "bold red")
    sampled, train = made.tables[name], made.parts.train[name]
    held = made.parts.holdout[name].rows
    rejected = sum(sampled.rejected.values())
    told = f"  {sampled.table.rows:,} rows, learnt from {train.rows:,}, {held:,} held out"
    told += f", {rejected:,} rejected" if rejected else ""
    return Text.assemble(("\nSYNTHETIC ", "bold"), (name, "bold"), "  ", state, (told, "dim"))


def _columns(made: Made, name: str) -> RenderableType:
    report, real, other = made.reports[name], made.parts.train[name], made.tables[name].table
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, right in (("column", False), ("kind", False), ("real", False), ("synthetic", False), ("kept", True)):
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    names = list(real.columns)
    for column in names[:_SHOWN_COLUMNS]:
        found = real.columns[column]
        if found.config.kind == "id":
            table.add_row(escape(column), "id", "[dim]made anew[/]", "", "–")
            continue
        bars = profile(found, other.columns[column])
        kept = report.shapes.get(column)
        table.add_row(
            escape(column), found.config.kind, f"[cyan]{_bars(bars.real)}[/]", f"[magenta]{_bars(bars.synthetic)}[/]",
            "–" if kept is None else f"{kept:.3f}",
        )  # fmt: skip
    more = len(names) - _SHOWN_COLUMNS
    return Group(table, f"[dim]and {more} more columns: --json[/]") if more > 0 else table


def _bars(shares: Sequence[float]) -> str:
    """Return shares as blocks.

    >>> _bars([0.0, 0.25, 0.5])
    ' ▄█'
    """
    most = max(shares, default=0.0) or 1.0
    return "".join(_BLOCKS[max(1, round(share / most * 8)) if share else 0] for share in shares)


def _figures(report: TableReport) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("figure", "synthetic", "rows held out", "what it says"):
        table.add_column(column, justify="left" if column in ("figure", "what it says") else "right")
    real = {metric.name: metric.value for metric in report.real.metrics}
    target = report.target and f"a learner of '{report.target}' reaches ({report.target_metric})"
    said = {
        "column_shapes": "columns look alike: 1 is all",
        "pair_trends": "pairs of columns go together alike: 1 is all",
        "exact_copies": "rows that equal a real one: 0 is asked",
        "closest_record": "distance to the closest real row, median",
        "nearer_to_data": "nearer to rows learnt from than to others: 0.5 is ideal",
        "membership": "rows learnt from are told from others: 0.5 is chance",
        "learnt": target or "a learner reaches",
    }
    for metric in report.report.metrics:
        if metric.name in said:
            ends = f" [dim]{metric.interval.low:.2f}–{metric.interval.high:.2f}[/]" if metric.interval else ""
            beside = f"{real[metric.name]:.3f}" if metric.name in real else "–"
            row = (metric.name, f"[bold]{metric.value:.3f}[/]{ends}", beside, f"[dim]{escape(said[metric.name])}[/]")
            table.add_row(*row)
    return table


def _pairs(report: TableReport) -> RenderableType:
    worst = sorted(report.trends, key=lambda trend: trend.value)[:_WORST_PAIRS]
    told = ", ".join(f"{trend.one} and {trend.other} {trend.value:.3f}" for trend in worst)
    return Text(f"kept least: {told}" if told else "", style="dim")


def _outcome(passed: bool, sentence: str) -> str:
    return f"{'[green]✓[/]' if passed else '[red]✗[/]'} {escape(sentence)}"


def draw_preview(tables: Mapping[str, Rows], rows: Mapping[str, list[dict[str, Any]]]) -> RenderableType:
    """Return the kinds of columns and a few rows that were made."""
    parts: list[RenderableType] = []
    for name, found in tables.items():
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=escape(name), title_justify="left")
        for column, config in found.schema.columns.items():
            table.add_column(f"{escape(column)}\n[dim]{config.kind}[/]", overflow="ellipsis")
        for row in rows[name]:
            table.add_row(*("[dim]–[/]" if value is None else escape(str(value)) for value in row.values()))
        parts.append(table)
    return Group(*parts, Text("made up, not judged, not written: `create` does both", style="dim"))


def draw_texts(found: Writing) -> RenderableType:
    """Return a few rows that a model wrote, and why others were rejected."""
    parts: list[RenderableType] = []
    for row in found.rows:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        for name, value in row.items():
            table.add_row(escape(name), escape(str(value)))
        parts += [table, ""]
    told = [f"[yellow]rejected[/] {count:,} {escape(reason)}" for reason, count in found.reasons.items()]
    return Group(*parts, *told, Text("not judged, not kept: `bessemer run` does both", style="dim"))
