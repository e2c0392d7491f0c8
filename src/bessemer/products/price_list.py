"""A price book as rows: one for each project, model and kind of request.

Owns the rows. Knows neither files nor versions.
"""

from __future__ import annotations

from bessemer.core.nouns import Noun
from bessemer.meter import PriceBook, Rates


class PriceLine(Noun):
    """One row of a price list: micro-units of the currency for one million tokens or units; empty applies to all."""

    project: str
    model: str
    kind: str
    input: int
    cached: int
    output: int
    unit: int


def price_lines(book: PriceBook) -> list[PriceLine]:
    """Return every rate of a book: its default, its models, then what projects have agreed."""
    priced = [("", "", book.default), *(("", model, price) for model, price in book.models.items())]
    for project, agreed in book.customers.items():
        priced += [(project, "", agreed.default)] if agreed.default else []
        priced += [(project, model, price) for model, price in agreed.models.items()]
    lines = []
    for project, model, price in priced:
        kinds: dict[str, Rates] = {"standard": price, **({"batch": price.batch} if price.batch else {}), **price.tiers}
        for kind, rates in kinds.items():
            cached = rates.input if rates.cached is None else rates.cached
            figures = {"input": rates.input, "cached": cached, "output": rates.output, "unit": rates.unit}
            lines.append(PriceLine(project=project, model=model, kind=kind, **figures))
    return lines
