"""Profit and loss of each product: what its answers earned, against what they took and what it took to make it.

    marginal cost = energy and machine time of its answers
    loaded cost   = marginal + its data, its training, its other steps, its failed steps, its part of what is shared

Shared are idle time and steps of runs that nobody knows any more: spread over the products by the tokens that they
served, equally where none served any. The machine's time goes at each moment equally to whoever was at work.

Owns what counts as whose. Charges and energy costs are as they were booked; machine time is an estimate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bessemer.core.errors import Unsupported
from bessemer.core.nouns import EnergyClass, Noun
from bessemer.core.units import Money
from bessemer.flow import open_store
from bessemer.meter import Booked, Ledger, PriceHistory, Total, load_price_history, occupancy, open_ledger
from bessemer.products.config import load_factory
from bessemer.products.home import Home

Kind = Literal["answers", "data", "training", "other steps", "failed steps", "shared"]

_STEPS: Mapping[str, Kind] = {"ingest": "data", "curate": "data", "pairs": "data", "train": "training"}
"""What a step of a line is for; what is not named is an other step: the base, compiling, evaluating, timing."""

_SHARED = ""


class CostLine(Noun):
    """What one kind of work took.

    Attributes:
        machine_seconds: that it had the machine for itself, in sum.
        joules: of the meter; idle time has none, because no entry of the books is about it.
        energy_classes: how the joules are known.
        energy: what they cost, as booked.
        estimated_hardware: of the machine's time at the price book's price.
    """

    kind: Kind
    machine_seconds: float
    joules: float
    energy_classes: tuple[EnergyClass, ...]
    energy: Money
    estimated_hardware: Money

    @property
    def cost(self) -> Money:
        """Energy and hardware together."""
        return self.energy + self.estimated_hardware


class ProductProfit(Noun):
    """One product: what it earned, by answers and by training, and what it cost; without a name where nobody knows."""

    product: str
    requests: int
    input_tokens: int
    output_tokens: int
    revenue: Money
    costs: tuple[CostLine, ...]
    marginal_cost: Money
    loaded_cost: Money
    marginal_profit: Money
    loaded_profit: Money


class Profits(Noun):
    """All products, by name; the totals are those of their lines.

    Attributes:
        since: of the first entry, Unix seconds.
        until: when the last ended.
        idle_seconds: between them, when nothing was at work.
        prices: where the money comes from.
        hardware: where the price of the machine comes from; empty if the price book has none.
    """

    since: float
    until: float
    idle_seconds: float
    products: tuple[ProductProfit, ...]
    prices: str
    hardware: str


@dataclass(slots=True)
class _Sum:
    seconds: float = 0.0
    hardware: float = 0.0
    joules: float = 0.0
    energy: int = 0
    classes: set[EnergyClass] = field(default_factory=set)

    def add(self, other: _Sum, part: float = 1.0) -> None:
        self.seconds += other.seconds * part
        self.hardware += other.hardware * part
        self.joules += other.joules * part
        self.energy += round(other.energy * part)
        self.classes |= other.classes


def profits(home: Home, factory: Path | None = None, since: float = 0) -> Profits:
    """Return profit and loss of every product that was served or made in a home.

    Args:
        home: whose books are read.
        factory: names the price book; the built-in example's without.
        since: earliest start of what counts, Unix seconds.

    Raises:
        Unsupported: the books are not all in the price book's currency.
    """
    config, base = load_factory(factory)
    named = config.meter.price_book
    prices = load_price_history(base / named if named else None)
    if not (home.books.exists() or home.ledger_url):
        return _profits({}, {}, {}, prices, (0.0, 0.0, 0.0))
    with closing(open_ledger(home.books, home.ledger_url)) as ledger:
        return of_ledger(ledger, _flows(home), prices, since)


def of_ledger(ledger: Ledger, flows: Mapping[str, str], prices: PriceHistory, since: float = 0) -> Profits:
    """Return profit and loss from a ledger.

    Args:
        ledger: filled.
        flows: run -> the product that it makes.
        prices: by which the machine's time is valued.
        since: earliest start of what counts, Unix seconds.

    Raises:
        Unsupported: the ledger is not all in the prices' currency.
    """
    sums: dict[tuple[str, Kind], _Sum] = defaultdict(_Sum)
    served = {total.group["model"]: total for total in ledger.totals(("model",), kind="request", since=since)}
    steps = ledger.totals(("kind", "run", "name", "model", "status"), kind="step", since=since)
    revenue: dict[str, int] = defaultdict(int)
    for whose, total in (
        *(((model, "answers"), total) for model, total in served.items()),
        *((_of(Booked(**total.group), flows), total) for total in steps),
    ):
        _energy(sums[whose], total, prices.books[0].currency)
        revenue[whose[0]] += total.charge.micros
    first, idle = float("inf"), 0.0
    for share in occupancy(ledger.spans(since=since)):
        whose = _of(share.of, flows) if share.of else (_SHARED, "shared")
        found = sums[whose]
        found.seconds += share.seconds
        found.hardware += prices.at(share.started_at).hardware_cost(share.seconds)
        first = min(first, share.started_at)
        idle += 0.0 if share.of else share.seconds
    last = first + sum(found.seconds for found in sums.values()) if sums else 0.0
    return _profits(sums, served, revenue, prices, (first if sums else 0.0, last, idle))


def _flows(home: Home) -> dict[str, str]:
    """Return run -> flow, which is called like what it makes; a database that does not exist is not made for it."""
    path = home.database_url.removeprefix("sqlite:///")
    if path != home.database_url and not Path(path).exists():
        return {}
    with closing(open_store(home.database_url)) as store:
        return {run.id: run.flow for run in store.runs()}


def _of(booked: Booked, flows: Mapping[str, str]) -> tuple[str, Kind]:
    if booked.kind == "request":
        return booked.model, "answers"
    product = booked.model or flows.get(booked.run, _SHARED)  # a fine-tuning job's steps name the model that it makes
    if product == _SHARED:
        return _SHARED, "shared"
    return product, _STEPS.get(booked.name, "other steps") if booked.status == "ok" else "failed steps"


def _energy(found: _Sum, total: Total, currency: str) -> None:
    if others := {money.currency for money in (*total.energy_costs, *total.charges)} - {currency}:
        raise Unsupported(
            f"the books have {', '.join(sorted(others))}, the price book {currency}",
            hint="Look at a time after the currency was changed, with --since, or name the other price book.",
        )
    found.joules += total.joules.value
    found.energy += total.energy_cost.micros
    found.classes |= set(total.joules_by_class)


def _profits(
    sums: Mapping[tuple[str, Kind], _Sum],
    served: Mapping[str, Total],
    revenue: Mapping[str, int],
    prices: PriceHistory,
    times: tuple[float, float, float],
) -> Profits:
    names = sorted({product for product, _ in sums} - {_SHARED}) or ([_SHARED] if sums else [])
    tokens = {name: served[name].usage.total_tokens if name in served else 0 for name in names}
    parts = _parts(tokens)
    shared = sums.get((_SHARED, "shared"), _Sum())
    products = []
    for name in names:
        own = {kind: found for (product, kind), found in sums.items() if product == name}
        own["shared"] = _Sum()
        own["shared"].add(shared, parts[name])
        products.append(_product(name, served.get(name), revenue.get(name, 0), own, prices.books[0].currency))
    book = prices.books[-1]
    told = (book.hardware.source or "its owner's price of the machine") if book.hardware else ""
    since, until, idle = times
    return Profits(
        since=since, until=until, idle_seconds=idle, products=tuple(products), prices=book.told, hardware=told
    )


def _parts(tokens: Mapping[str, int]) -> dict[str, float]:
    total = sum(tokens.values())
    return {name: count / total if total else 1 / len(tokens) for name, count in tokens.items()}


def _product(name: str, served: Total | None, revenue: int, own: Mapping[Kind, _Sum], currency: str) -> ProductProfit:
    def money(micros: float) -> Money:
        return Money(micros=round(micros), currency=currency)

    costs = tuple(
        CostLine(
            kind=kind,
            machine_seconds=own[kind].seconds,
            joules=own[kind].joules,
            energy_classes=tuple(each for each in EnergyClass if each in own[kind].classes),
            energy=money(own[kind].energy),
            estimated_hardware=money(own[kind].hardware),
        )
        for kind in Kind.__args__  # type: ignore[attr-defined]
        if kind in own
    )
    marginal = _cost(line for line in costs if line.kind == "answers")
    loaded = _cost(costs)
    return ProductProfit(
        product=name,
        requests=served.entries if served else 0,
        input_tokens=served.usage.input_tokens if served else 0,
        output_tokens=served.usage.output_tokens if served else 0,
        revenue=money(revenue),
        costs=costs,
        marginal_cost=money(marginal),
        loaded_cost=money(loaded),
        marginal_profit=money(revenue - marginal),
        loaded_profit=money(revenue - loaded),
    )


def _cost(lines: Iterable[CostLine]) -> int:
    return sum(line.cost.micros for line in lines)
