"""From sums of usage to lines of a bill: quantity times price, and what rounding leaves over.

Each request is rounded to whole micro-units once, so their sum differs a little from quantity times price; the
difference is a line of its own, and the lines sum to what was charged, exactly.

Owns the arithmetic. Knows no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bessemer.core.nouns import Usage
from bessemer.core.units import charge_micros
from bessemer.core.usage import CostLine, UsageGroup, UsageRow
from bessemer.meter.pricing import PriceHistory, Rates

BILLED: tuple[UsageGroup, ...] = ("project", "key_id", "model", "kind", "service_tier", "batch", "price_version")
"""What usage must be grouped by to be priced."""


def cost_lines(rows: Iterable[UsageRow], prices: PriceHistory) -> list[CostLine]:
    """Return the lines of what was charged, those of one row beside each other; they sum to the rows' charges.

    Args:
        rows: of what is charged, grouped by `BILLED`.
        prices: the versions by which it was charged; what is not among them stands ``as booked``.
    """
    return [line for row in rows for line in _lines(row, prices)]


def _lines(row: UsageRow, prices: PriceHistory) -> Iterator[CostLine]:
    left = row.charge_micros
    for item, quantity, unit in _priced(row, prices):
        if quantity:
            amount = charge_micros(quantity * unit, 1)
            left -= amount
            yield _line(row, item, quantity, unit, amount)
    if left:
        book = prices.stamped(row.group["price_version"])
        yield _line(row, "rounding" if book else "as booked", row.entries, None, left)


def _priced(row: UsageRow, prices: PriceHistory) -> list[tuple[str, int, int]]:
    """Return (item, quantity, micro-units for a million); nothing where the version is not known."""
    group, usage = row.group, row.usage
    book = prices.stamped(group["price_version"])
    if book is None:
        return []
    price, _ = book.price(group["model"], group["project"])
    if group["kind"] == "step":
        return [("training", usage.input_tokens, price.training)]
    return _by_kind(usage, price.rates(group["service_tier"], batch=bool(group["batch"])))


def _by_kind(usage: Usage, rates: Rates) -> list[tuple[str, int, int]]:
    cached = rates.input if rates.cached is None else rates.cached
    fresh = usage.input_tokens - usage.cached_tokens
    return [
        ("input", fresh, rates.input),
        ("cached input", usage.cached_tokens, cached),
        ("output", usage.output_tokens, rates.output),
        ("units", usage.units, rates.unit),
    ]


def _line(row: UsageRow, item: str, quantity: int, unit_micros: int | None, amount_micros: int) -> CostLine:
    group = row.group
    return CostLine(
        start=row.start,
        project=group["project"],
        key_id=group["key_id"],
        model=group["model"],
        service_tier=group["service_tier"],
        batch=bool(group["batch"]),
        price_version=group["price_version"],
        item=item,
        quantity=quantity,
        unit_micros=unit_micros,
        amount_micros=amount_micros,
        currency=row.currency,
    )
