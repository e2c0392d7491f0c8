"""Draws a receipt as one HTML page: no script, no external asset, readable in print and in the dark.

Owns what stands where. Every figure comes from the receipt; nothing is computed here but coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from bessemer.core.units import show_bytes, show_joules, show_seconds
from bessemer.products.home import write_whole
from bessemer.products.page import page, table
from bessemer.products.receipt import FactsPart, LlmPart, Receipt, ServingPart, provenance


def write_receipt(folder: Path, receipt: Receipt) -> None:
    """Write a receipt into a run's folder, as JSON and as a page, each of them whole."""
    write_whole(folder / "receipt.json", receipt.model_dump_json(indent=2))
    write_whole(folder / "receipt.html", receipt_page(receipt))


def receipt_page(receipt: Receipt) -> str:
    """Return the receipt as a whole HTML document."""
    several = len(receipt.products) > 1
    drawn = [_product(part, named=several) for part in receipt.products]
    parts = (_head(receipt), *drawn, _stages(receipt), _lineage(receipt))
    return page(f"{receipt.factory}: receipt {receipt.run}", "".join(parts))


def _product(part: LlmPart | FactsPart, *, named: bool) -> str:
    """Return a product's part, under its name if there are several."""
    head = f"<h2>{escape(part.name)} <small>{escape(part.kind)}</small> {_state(part.deployed)}</h2>" if named else ""
    if isinstance(part, LlmPart):
        return head + _documents(part) + _training(part) + _gate(part, "base") + _answers(part) + _speed(part)
    return head + table(("", ""), part.facts, text=True) + _gate(part, part.compared or "before")


def _state(deployed: bool) -> str:
    return '<span class="pass">deployed</span>' if deployed else '<span class="fail">not deployed</span>'


def _head(receipt: Receipt) -> str:
    made = datetime.fromtimestamp(receipt.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"<h1>{escape(receipt.factory)} {_state(receipt.deployed)}</h1>"
        f'<p class="soft">run <code>{escape(receipt.run)}</code> · {made} · {show_seconds(receipt.wall_seconds)} · '
        f"{escape(receipt.machine)}</p>"
    )


def _documents(llm: LlmPart) -> str:
    part = llm.documents
    rows: list[Sequence[str]] = [("read", f"{part.documents:,}"), ("kept", f"{part.kept:,}")]
    rows += [(f"dropped: {reason}", f"{count:,}") for reason, count in sorted(part.dropped.items())]
    rows.append(("examples to train on", f"{part.examples_train:,}"))
    rows.append((f"examples held out ({part.groups_heldout} groups)", f"{part.examples_heldout:,}"))
    return f"<h2>Documents</h2><p>{escape('; '.join(part.sources))}. {escape(part.fitness)}</p>" + table(
        ("", "count"), rows
    )


def _training(llm: LlmPart) -> str:
    part = llm.training
    said = (
        f"{part.method} on {part.base}: {part.tokens:,} tokens in {part.steps} steps, {show_seconds(part.seconds)}, "
        f"{part.tokens_per_second:,.0f} tokens/s ({part.precision}, {part.device}). "
        "The curve is the training loss in nats per token."
    )
    return f"<h2>Training</h2><p>{escape(said)}</p>{_curve(part.curve)}"


def _curve(points: Sequence[tuple[int, float]]) -> str:
    """Return the loss over steps as an SVG line with its first and last value written at its ends."""
    if len(points) < 2:
        return ""
    steps, losses = [p[0] for p in points], [p[1] for p in points]
    low, high = min(losses), max(losses)
    span, width = (high - low) or 1.0, (steps[-1] - steps[0]) or 1

    def place(step: int, loss: float) -> tuple[float, float]:
        return 45 + 640 * (step - steps[0]) / width, 12 + 130 * (high - loss) / span

    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    last_x, last_y = place(*points[-1])
    return (
        f'<svg viewBox="0 0 740 170" role="img" aria-label="training loss from {losses[0]:.2f} to {losses[-1]:.2f}">'
        f'<line x1="45" y1="142" x2="690" y2="142" stroke="var(--line)"/>'
        f'<text x="40" y="16" text-anchor="end">{high:.2f}</text>'
        f'<text x="40" y="146" text-anchor="end">{low:.2f}</text>'
        f'<polyline points="{path}" fill="none" stroke="var(--hot)" stroke-width="2"/>'
        f'<text x="{last_x + 6:.1f}" y="{last_y + 4:.1f}">{losses[-1]:.2f}</text>'
        f'<text x="45" y="160">step {steps[0]}</text>'
        f'<text x="690" y="160" text-anchor="end">step {steps[-1]}</text></svg>'
    )


def _gate(part: LlmPart | FactsPart, before: str) -> str:
    rows = [
        (
            line.metric,
            f"{line.samples:,}",
            f"{line.before:.3f} [{line.before_low:.3f}, {line.before_high:.3f}]",
            f"{line.after:.3f} [{line.after_low:.3f}, {line.after_high:.3f}]",
            "higher" if line.higher_is_better else "lower",
        )
        for line in part.metrics
    ]
    shown = table(("held-out metric", "samples", before, "new", "better is"), rows)
    said = "".join(
        f'<p><span class="{"pass" if o.passed else "fail"}">{"passed" if o.passed else "failed"}</span> '
        f"{escape(o.sentence)}</p>"
        for o in (part.verdict.outcomes if part.verdict else ())
    )
    return f"<h2>Gate</h2>{shown if rows else ''}{said}" if rows or said else ""


def _answers(part: LlmPart) -> str:
    if not part.answers:
        return ""
    rows = [(a.question, a.reference, a.before, a.after) for a in part.answers]
    return "<h2>Held-out answers</h2>" + table(("question", "reference", "base", "new"), rows, text=True)


def _speed(llm: LlmPart) -> str:
    part = llm.speed
    rows = [
        (
            str(line.streams),
            show_seconds(line.time_to_first_token_seconds),
            show_seconds(line.time_per_output_token_seconds),
            f"{line.output_tokens_per_second:,.0f}",
        )
        for line in part.lines
    ]
    said = _per_1000(llm.serving) if llm.serving else ""
    head = ("streams", "time to first token", "per output token", "tokens/s")
    return (
        f'<h2>Serving</h2><p class="soft">{escape(part.engine)}, {escape(part.weights)} weights, '
        f"{show_bytes(part.model_bytes)}; prompts of {part.prompt_tokens} tokens; measured here.</p>"
        f"{table(head, rows)}<p>{escape(said)}</p>"
    )


def _per_1000(serving: ServingPart) -> str:
    bill = serving.per_1000_tokens
    return (
        f"1,000 generated tokens with their prompts take {show_joules(bill.measurement.joules)} "
        f"[{show_joules(bill.measurement.joules_low)}, {show_joules(bill.measurement.joules_high)}] "
        f"({provenance(bill.measurement)}), {bill.carbon.grams:.3g} g CO2e and {bill.energy_cost} of electricity; "
        f"the price book ({serving.price_version}) asks {serving.charge}, prompts of {serving.input_tokens:,} tokens "
        "included."
    )


def _stages(receipt: Receipt) -> str:
    rows = []
    for line in receipt.stages:
        shown = f"{line.told} (cached)" if line.cached else line.told
        bill = line.bill
        figures = (
            (
                show_joules(bill.measurement.joules),
                f"{show_joules(bill.measurement.joules_low)} – {show_joules(bill.measurement.joules_high)}",
                f"{bill.carbon.grams:.3g}",
                str(bill.energy_cost),
                provenance(bill.measurement),
            )
            if bill
            else ("–",) * 5
        )
        rows.append((shown, show_seconds(line.wall_seconds), *figures))
    total = receipt.total
    foot = receipt.unmetered
    if total:
        foot = (
            f"{receipt.together.capitalize()} {show_joules(total.measurement.joules)} "
            f"[{show_joules(total.measurement.joules_low)}, {show_joules(total.measurement.joules_high)}], "
            f"{total.carbon.grams:.3g} g CO2e [{total.carbon.grams_low:.3g}, {total.carbon.grams_high:.3g}] "
            f"(grid: {total.carbon.grid}, {total.carbon.grams_per_kilowatt_hour:g} g/kWh, {total.carbon.source}), "
            f"{total.energy_cost} of electricity ({receipt.prices}). Energy: {total.measurement.source}. {foot}"
        )
    head = ("stage", "time", "energy", "low – high", "g CO2e", "electricity", "provenance")
    return f"<h2>What it took</h2>{table(head, rows)}<p class='soft'>{escape(foot)}</p>"


def _lineage(receipt: Receipt) -> str:
    rows = [
        (link.step, link.what, link.key[:12], ", ".join(key[:12] for key in link.made_from)) for link in receipt.lineage
    ]
    return "<h2>Lineage</h2>" + table(("step", "what", "key", "made from"), rows, text=True)
