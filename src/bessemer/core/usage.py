"""Questions to the books about usage, and their answers: sums over entries in buckets of time.

Owns the shapes, in which serve asks and meter answers. Knows no database and no wire.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from bessemer.core.nouns import EnergyClass, Noun, Usage

UsageGroup = Literal["project", "key_id", "model", "service_tier", "batch", "price_version", "kind", "name"]
"""What usage can be told apart by; the names are those of an entry's subject."""

MOST_TOKENS = 2**31 - 1
"""The most tokens of one request that are believed of whoever tells them: more is a mistake or a lie."""


class UsageQuery(Noun):
    """Which usage is wanted; empty filters take all.

    Attributes:
        start: Unix seconds; the first bucket is the one in which it lies.
        end: Unix seconds; buckets that begin then or later are left out.
        width: of a bucket in seconds: a minute, an hour or a day, in UTC.
        kind: ``request`` or ``step``; empty is both.
        embeddings: only requests for vectors (True), or only those for text (False).
        batch: only requests of batches, or only others.
        charged: leave out what failed by our own fault, which nobody is charged for.
    """

    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]
    width: Literal[60, 3600, 86_400] = 86_400
    group_by: tuple[UsageGroup, ...] = ()
    kind: Literal["", "request", "step"] = "request"
    projects: tuple[str, ...] = ()
    key_ids: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    embeddings: bool | None = None
    batch: bool | None = None
    charged: bool = False


class UsageRow(Noun):
    """The sum of one group in one bucket; amounts in whole microjoules, micrograms and micro-units of one currency.

    Attributes:
        start: of the bucket, Unix seconds.
        group: the values that were grouped by; ``batch`` is "" or "1".
        energy_class: the weakest in the sum.
    """

    start: int
    group: dict[str, str]
    entries: int
    usage: Usage
    microjoules: int
    microjoules_low: int
    microjoules_high: int
    micrograms: int
    cost_micros: int
    charge_micros: int
    currency: str
    energy_class: EnergyClass

    def plus(self, other: UsageRow) -> UsageRow:
        """Return the sum of this row and another one of the same bucket, group and currency."""
        classes = list(EnergyClass)
        amounts = ("entries", "microjoules", "microjoules_low", "microjoules_high", "micrograms")
        return self.model_copy(
            update={
                "usage": Usage(
                    **{name: getattr(self.usage, name) + getattr(other.usage, name) for name in Usage.model_fields}
                ),
                "energy_class": max(self.energy_class, other.energy_class, key=classes.index),
                **{
                    name: getattr(self, name) + getattr(other, name)
                    for name in (*amounts, "cost_micros", "charge_micros")
                },
            }
        )


class CostLine(Noun):
    """What was charged for one kind of tokens, or for units.

    Attributes:
        start: of the bucket, Unix seconds.
        item: ``input``, ``cached input``, ``output``, ``units``, ``training``; ``rounding`` is what whole micro-units
            of single requests differ from quantity times price; ``as booked`` stands where the book's version is
            not at hand.
        quantity: tokens or units; requests where `item` is ``rounding``.
        unit_micros: price of one million of them; None where there is none.
        amount_micros: in micro-units of the currency.
    """

    start: int
    project: str
    key_id: str
    model: str
    service_tier: str
    batch: bool
    price_version: str
    item: str
    quantity: int
    unit_micros: int | None
    amount_micros: int
    currency: str


class UsageSource(Protocol):
    """What was used and what it was charged; reads what is booked at this moment."""

    def usage(self, query: UsageQuery, /) -> list[UsageRow]:
        """Return the sums that are not empty, by bucket and group."""
        ...

    def costs(self, query: UsageQuery, /) -> list[CostLine]:
        """Return the lines of what was charged, by bucket, project, key, model and kind of token; they sum exactly."""
        ...


class Billing(Protocol):
    """What projects are asked to pay, as JSON values."""

    def prices(self, project: str, /) -> dict[str, Any]:
        """Return the prices in force for a project, in micro-units for a million tokens."""
        ...

    def invoices(self, project: str, /) -> list[dict[str, Any]]:
        """Return what was issued to a project, the newest first; each has an `id`."""
        ...
