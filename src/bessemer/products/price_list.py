"""A price book as rows: one for each project, model and kind of request.

Owns the rows. Knows neither files nor versions.
"""

from __future__ import annotations

from bessemer.core.nouns import Noun
from bessemer.meter import PriceBook, Rates


class PriceLine(Noun):
    """One row of a price list: micro-units of the currency for one million tokens or units; empty applies to all.

    `training` is of a fine-tuning job's tokens; it has no batches and tiers.
    """

    project: str
    model: str
    kind: str
    input: int
    cached: int
    output: int
    unit: int
    training: int | None


def price_lines(book: PriceBook) -> list[PriceLine]:
    """Return every rate of a book, as it is charged: its default, its models, then what projects have agreed."""
    named = [("", model) for model in ("", *book.models)]
    for project, agreed in book.customers.items():
        models = ("", *book.models, *agreed.models) if agreed.default else agreed.models
        named += [(project, model) for model in dict.fromkeys(models)]
    lines = []
    for project, model in named:
        price, _ = book.price(model, project)
        kinds: dict[str, Rates] = {"standard": price, **({"batch": price.rates(batch=True)} if price.batch else {})}
        for kind, rates in (kinds | {tier: price.rates(tier) for tier in price.tiers}).items():
            cached = rates.input if rates.cached is None else rates.cached
            figures = {"input": rates.input, "cached": cached, "output": rates.output, "unit": rates.unit}
            training = price.training if rates is price else None
            lines.append(PriceLine(project=project, model=model, kind=kind, **figures, training=training))
    return lines
