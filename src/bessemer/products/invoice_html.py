"""Draws an invoice as one HTML page that prints on paper: no script, no external asset.

Owns what stands where. Every figure comes from the invoice.
"""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from bessemer.core.units import Money, show_joules
from bessemer.products.invoices import Invoice, InvoiceLine
from bessemer.products.page import page, table

PRINT = (
    "@page{size:A4;margin:18mm}@media print{.wide{overflow:visible}tr{break-inside:avoid}"
    "thead{display:table-header-group}}"
)


def invoice_page(invoice: Invoice) -> str:
    """Return the invoice as a whole HTML document."""
    said = invoice.kind if invoice.kind != "draft" else "draft, no invoice yet"
    corrects = (
        f"<p>In addition to {escape(', '.join(invoice.corrects))}: the difference only.</p>" if invoice.corrects else ""
    )
    head = (
        f"<h1>{escape(said.capitalize())} {escape(invoice.number)}</h1>"
        f"<p>{escape(invoice.seller)} to project <b>{escape(invoice.project)}</b></p>"
        f"<p class='soft'>{_day(invoice.start)} to {_day(invoice.end - 1)} (UTC), "
        f"drawn on {_day(invoice.issued_at)}</p>"
        f"{corrects}"
    )
    rows = [
        (_what(line), f"{line.quantity:,}", _price(line, invoice), _money(line.amount_micros, invoice))
        for line in invoice.lines
    ]
    rows.append(("Total", "", "", _money(invoice.amount_micros, invoice)))
    lines = table(("what", "quantity", "price", "amount"), rows)
    known = f" ({invoice.energy_class.value})" if invoice.energy_class else ""
    trained = f", and training on {invoice.trained_tokens:,} tokens" if invoice.trained_tokens else ""
    taken = (
        f"<h2>What it took</h2><p>{invoice.requests:,} requests, {invoice.input_tokens:,} tokens read, "
        f"{invoice.output_tokens:,} written{trained}: {show_joules(invoice.joules)} "
        f"[{show_joules(invoice.joules_low)}, {show_joules(invoice.joules_high)}]{known}, "
        f"{invoice.grams:.3g} g CO2e of electricity.</p>"
    )
    versions = ", ".join(sorted({line.price_version for line in invoice.lines}))
    foot = (
        "<p class='soft'>Prices are for a million tokens or units, without taxes. Each request is rounded to a "
        "millionth of the currency once; the lines called rounding are what that makes. "
        f"Price book: {escape(versions)}.</p>"
    )
    return page(f"{said} {invoice.number}", head + lines + taken + foot, PRINT)


def _what(line: InvoiceLine) -> str:
    kind = "batch" if line.batch else line.service_tier
    return ", ".join(part for part in (line.model, line.item, kind) if part)


def _price(line: InvoiceLine, invoice: Invoice) -> str:
    return _money(line.unit_micros, invoice) if line.unit_micros is not None else ""


def _money(micros: int, invoice: Invoice) -> str:
    return Money(micros=micros, currency=invoice.currency).exact()


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
