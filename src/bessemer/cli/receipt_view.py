"""Draws a receipt on a terminal of 80 columns or more, about one screen long.

Owns the look. Every figure comes from the receipt.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bessemer.core.units import show_bytes, show_joules, show_seconds
from bessemer.products.receipt import Bill, FactsPart, LlmPart, MetricLine, Receipt, provenance

_BLOCKS = "▁▂▃▄▅▆▇█"


def draw_receipt(receipt: Receipt) -> RenderableType:
    """Return the receipt as something to print."""
    several = len(receipt.products) > 1
    drawn = [each for part in receipt.products for each in _product(part, named=several)]
    served = [_serving(part) for part in receipt.products if isinstance(part, LlmPart)]
    return Group(_title(receipt), *drawn, _stages(receipt), *served, _lineage(receipt))


def _product(part: LlmPart | FactsPart, *, named: bool) -> list[RenderableType]:
    """Return a product's part, under its name if there are several."""
    head = [Text.assemble((f"\n{part.name}", "bold"), f"  {part.kind}  ", _state(part.deployed))] if named else []
    facts = _llm_facts(part) if isinstance(part, LlmPart) else _facts(part.facts)
    before = "base" if isinstance(part, LlmPart) else part.compared or "before"
    outcomes = part.verdict.outcomes if part.verdict else ()
    metrics = [_metrics(part.metrics, before)] if part.metrics else []
    return [*head, facts, *metrics, *(_outcome(o.passed, o.sentence) for o in outcomes)]


def _state(deployed: bool) -> tuple[str, str]:
    return ("deployed", "bold green") if deployed else ("not deployed", "bold red")


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, said in facts:
        table.add_row(escape(name), escape(said))
    return table


def _title(receipt: Receipt) -> Text:
    state = _state(receipt.deployed)
    return Text.assemble(
        ("\nRECEIPT ", "bold"),
        (receipt.factory, "bold"),
        "  ",
        state,
        (f"  run {receipt.run} · {show_seconds(receipt.wall_seconds)} · {receipt.machine}", "dim"),
    )


def _llm_facts(part: LlmPart) -> Table:
    documents, training = part.documents, part.training
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in _largest(documents.dropped))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("documents", f"{documents.documents:,} read, [bold]{documents.kept:,}[/] kept")
    table.add_row("dropped", escape(dropped) or "none")
    table.add_row(
        "examples",
        f"{documents.examples_train:,} to train on, {documents.examples_heldout:,} held out "
        f"({documents.groups_heldout} groups never seen in training)",
    )
    table.add_row(
        "training",
        f"{training.method} on {escape(training.base)}: {training.tokens:,} tokens in "
        f"{show_seconds(training.seconds)}, {training.tokens_per_second:,.0f} tokens/s "
        f"({training.precision}, {training.device})",
    )
    table.add_row("loss", _sparkline([loss for _, loss in training.curve]))
    return table


def _largest(counts: dict[str, int], most: int = 4) -> Sequence[tuple[str, int]]:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    rest = sum(count for _, count in ordered[most:])
    return [*ordered[:most], *([("for other reasons", rest)] if rest else [])]


def _sparkline(values: Sequence[float], width: int = 48) -> str:
    """Return values as one line of blocks with its first and last number.

    >>> _sparkline([3.0, 2.0, 1.0])
    '3.00 █▅▁ 1.00'
    """
    if not values:
        return "–"
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    blocks = "".join(_BLOCKS[round((mean - low) / span * 7)] for mean in means)
    return f"{values[0]:.2f} {blocks} {values[-1]:.2f}"


def _metrics(lines: Sequence[MetricLine], before: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("held out", "samples", before, "new", "better is"):
        table.add_column(name, justify="left" if name == "held out" else "right")
    for line in lines:
        table.add_row(
            line.metric,
            f"{line.samples:,}",
            f"{line.before:.3f}{_between(line.before_low, line.before_high)}",
            f"[bold]{line.after:.3f}[/]{_between(line.after_low, line.after_high)}",
            "higher" if line.higher_is_better else "lower",
        )
    return table


def _between(low: float, high: float) -> str:
    """Return an interval; nothing where a figure has none, whose ends are the figure itself."""
    return f" [dim]{low:.3f}–{high:.3f}[/]" if high > low else ""


def _outcome(passed: bool, sentence: str) -> str:
    mark = "[green]✓[/]" if passed else "[red]✗[/]"
    return f"{mark} {escape(sentence)}"


def _stages(receipt: Receipt) -> RenderableType:
    """Return a row for each stage, those of one product below its name.

    The provenance is a column only where stages differ in it.
    """
    bills = [line.bill for line in receipt.stages if line.bill]
    known = sorted({provenance(bill.measurement) for bill in bills})
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_footer=receipt.total is not None)
    total = receipt.total
    currency = bills[0].energy_cost.currency if bills else ""
    names = ("energy", "low – high", "g CO2e", currency or "cost", *(["provenance"] if len(known) > 1 else []))
    foot = _figures(total) if total else ("",) * 5
    table.add_column("stage", footer=f"[bold]{receipt.together}[/]", no_wrap=True)
    table.add_column("time", justify="right", footer=show_seconds(_took(receipt)), no_wrap=True)
    for name, below in zip(names, foot, strict=False):
        table.add_column(name, justify="right", footer=below, no_wrap=True)
    product = ""
    order = list(dict.fromkeys(_whose(line.told) for line in receipt.stages))
    for line in sorted(receipt.stages, key=lambda line: order.index(_whose(line.told))):
        of, _, stage = line.told.rpartition(".")
        if of != product:
            table.add_row(f"[bold]{escape(of)}[/]")
        product = of
        spent = "[dim]cached[/]" if line.cached else show_seconds(line.wall_seconds)
        figures = _figures(line.bill) if line.bill else ("–",) * 5
        table.add_row(("  " if of else "") + escape(stage), spent, *figures[: len(names)])
    if not bills:
        return Group(table, Text(receipt.unmetered, style="dim"))
    first = bills[0]
    said = f"Joules are {' or '.join(known)} ({first.measurement.source}). Carbon: grid {first.carbon.grid}, "
    said += (
        f"{first.carbon.grams_per_kilowatt_hour:g} g/kWh ({first.carbon.source}). Money: {receipt.prices}. "
        f"Cached stages show what they took. {receipt.unmetered}"
    )
    return Group(table, Text(said, style="dim"))


def _whose(stage: str) -> str:
    """Return whose stage it is; empty for what several products share."""
    return stage.rpartition(".")[0]


def _took(receipt: Receipt) -> float:
    """Return the time of the stages whose energy is summed: of cached ones, that of when they were made."""
    return sum(line.wall_seconds for line in receipt.stages if line.bill)


def _figures(bill: Bill) -> tuple[str, str, str, str, str]:
    measured = bill.measurement
    return (
        show_joules(measured.joules),
        f"{show_joules(measured.joules_low)} – {show_joules(measured.joules_high)}",
        f"{bill.carbon.grams:.2g}",
        str(bill.energy_cost).removesuffix(f" {bill.energy_cost.currency}"),
        provenance(measured),
    )


def _serving(part: LlmPart) -> Table:
    speed, serving = part.speed, part.serving
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for line in speed.lines:
        table.add_row(
            f"{line.streams} stream{'s' if line.streams > 1 else ''}",
            f"first token [bold]{show_seconds(line.time_to_first_token_seconds)}[/], "
            f"each next {show_seconds(line.time_per_output_token_seconds)}, "
            f"[bold]{line.output_tokens_per_second:,.0f}[/] tokens/s (measured)",
        )
    table.add_row("engine", f"{speed.engine}, {speed.weights} weights, {show_bytes(speed.model_bytes)}")
    if serving is None:
        return table
    bill = serving.per_1000_tokens
    table.add_row(
        "1,000 tokens",
        f"generated from {serving.input_tokens:,} of prompts: {show_joules(bill.measurement.joules)} "
        f"({show_joules(bill.measurement.joules_low)} – {show_joules(bill.measurement.joules_high)}, "
        f"{provenance(bill.measurement)}), {bill.carbon.grams:.3g} g CO2e, {bill.energy_cost} of electricity; "
        f"price {serving.charge}",
    )
    return table


def _lineage(receipt: Receipt) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for link in receipt.lineage:
        table.add_row(link.step, f"[dim]{link.key[:12]}[/]", escape(link.what))
    return Group(Text("\nlineage, from what is served to its sources", style="dim"), table)
