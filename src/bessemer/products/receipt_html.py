"""Draws a receipt as one HTML page: no script, no external asset, readable in print and in the dark.

Owns the look. Every figure comes from the receipt; nothing is computed here but coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from bessemer.core.units import show_bytes, show_joules, show_seconds
from bessemer.products.receipt import Receipt, ServingPart, provenance

_STYLE = """
:root{--ink:#1b1f24;--soft:#5b6470;--line:#d9dee4;--paper:#fff;--page:#f3f5f7;--hot:#c2410c;--good:#15803d;--bad:#b91c1c}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#98a2ad;--line:#333b44;--paper:#171b20;--page:#0f1215;
--hot:#fb923c;--good:#4ade80;--bad:#f87171}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:60rem;margin:2rem auto;background:var(--paper);padding:2rem 2.5rem;border-top:4px solid var(--hot)}
h1{margin:0;font-size:1.6rem}h2{font-size:1.05rem;margin:2rem 0 .5rem;color:var(--hot)}p{margin:.3rem 0}
.soft,caption,th{color:var(--soft)}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top;font-weight:400}
th:first-child,td:first-child{text-align:left;padding-left:0}td.text,th.text{text-align:left}
.pass{color:var(--good);font-weight:600}.fail{color:var(--bad);font-weight:600}
code{font:.85em ui-monospace,monospace;word-break:break-all}tfoot td{font-weight:600}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}
.wide{overflow-x:auto}@media print{body{background:none}main{margin:0;padding:0}}
"""


def receipt_page(receipt: Receipt) -> str:
    """Return the receipt as a whole HTML document."""
    parts = (
        _head(receipt),
        _documents(receipt),
        _training(receipt),
        _gate(receipt),
        _answers(receipt),
        _speed(receipt),
        _stages(receipt),
        _lineage(receipt),
    )
    title = escape(f"{receipt.factory}: receipt {receipt.run}")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style><main>{''.join(parts)}</main></html>\n"
    )


def _head(receipt: Receipt) -> str:
    made = datetime.fromtimestamp(receipt.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    state = '<span class="pass">deployed</span>' if receipt.deployed else '<span class="fail">not deployed</span>'
    return (
        f"<h1>{escape(receipt.factory)} {state}</h1>"
        f'<p class="soft">run <code>{escape(receipt.run)}</code> · {made} · {show_seconds(receipt.wall_seconds)} · '
        f"{escape(receipt.machine)}</p>"
    )


def _documents(receipt: Receipt) -> str:
    part = receipt.documents
    rows: list[Sequence[str]] = [("read", f"{part.documents:,}"), ("kept", f"{part.kept:,}")]
    rows += [(f"dropped: {reason}", f"{count:,}") for reason, count in sorted(part.dropped.items())]
    rows.append(("examples to train on", f"{part.examples_train:,}"))
    rows.append((f"examples held out ({part.groups_heldout} groups)", f"{part.examples_heldout:,}"))
    return f"<h2>Documents</h2><p>{escape('; '.join(part.sources))}. {escape(part.fitness)}</p>" + _table(
        ("", "count"), rows
    )


def _training(receipt: Receipt) -> str:
    part = receipt.training
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


def _gate(receipt: Receipt) -> str:
    rows = [
        (
            line.metric,
            f"{line.samples:,}",
            f"{line.before:.3f} [{line.before_low:.3f}, {line.before_high:.3f}]",
            f"{line.after:.3f} [{line.after_low:.3f}, {line.after_high:.3f}]",
            "higher" if line.higher_is_better else "lower",
        )
        for line in receipt.metrics
    ]
    table = _table(("held-out metric", "samples", "base", "new", "better is"), rows)
    said = "".join(
        f'<p><span class="{"pass" if o.passed else "fail"}">{"passed" if o.passed else "failed"}</span> '
        f"{escape(o.sentence)}</p>"
        for o in receipt.verdict.outcomes
    )
    return f"<h2>Gate</h2>{table}{said}"


def _answers(receipt: Receipt) -> str:
    if not receipt.answers:
        return ""
    rows = [(a.question, a.reference, a.before, a.after) for a in receipt.answers]
    return "<h2>Held-out answers</h2>" + _table(("question", "reference", "base", "new"), rows, text=True)


def _speed(receipt: Receipt) -> str:
    part = receipt.speed
    rows = [
        (
            str(line.streams),
            show_seconds(line.time_to_first_token_seconds),
            show_seconds(line.time_per_output_token_seconds),
            f"{line.output_tokens_per_second:,.0f}",
        )
        for line in part.lines
    ]
    said = _per_1000(receipt.serving) if receipt.serving else ""
    head = ("streams", "time to first token", "per output token", "tokens/s")
    return (
        f'<h2>Serving</h2><p class="soft">{escape(part.engine)}, {escape(part.weights)} weights, '
        f"{show_bytes(part.model_bytes)}; prompts of {part.prompt_tokens} tokens; measured here.</p>"
        f"{_table(head, rows)}<p>{escape(said)}</p>"
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
        shown = f"{line.step} (cached)" if line.cached else line.step
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
    foot = ""
    if total:
        foot = (
            f"Together {show_joules(total.measurement.joules)} "
            f"[{show_joules(total.measurement.joules_low)}, {show_joules(total.measurement.joules_high)}], "
            f"{total.carbon.grams:.3g} g CO2e [{total.carbon.grams_low:.3g}, {total.carbon.grams_high:.3g}] "
            f"(grid: {total.carbon.grid}, {total.carbon.grams_per_kilowatt_hour:g} g/kWh, {total.carbon.source}), "
            f"{total.energy_cost} of electricity. Energy: {total.measurement.source}."
        )
    head = ("stage", "time", "energy", "low – high", "g CO2e", "electricity", "provenance")
    return f"<h2>What it took</h2>{_table(head, rows)}<p class='soft'>{escape(foot)}</p>"


def _lineage(receipt: Receipt) -> str:
    rows = [
        (link.step, link.what, link.key[:12], ", ".join(key[:12] for key in link.made_from)) for link in receipt.lineage
    ]
    return "<h2>Lineage</h2>" + _table(("step", "what", "key", "made from"), rows, text=True)


def _table(head: Iterable[str], rows: Iterable[Sequence[str]], *, text: bool = False) -> str:
    kind = ' class="text"' if text else ""
    top = "".join(f"<th{kind}>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
