"""What tokens are charged and what energy costs: a versioned price book and its arithmetic, in whole micro-units.

    charge = round((fresh x input + cached x cached + output x output + units x unit) / 1,000,000)    half to even, once

A request that ended as an ``error`` is booked with its tokens and joules and charged nothing. A request is charged by
the version of the book that was in force when it began; batches, service tiers and projects may have their own prices,
which need to say only what differs.

Owns the price book and its versions. Knows no request beyond its usage and model.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from bessemer.core.config import Config, explain, refusal
from bessemer.core.digest import digest
from bessemer.core.errors import ConfigError
from bessemer.core.model_names import names_of
from bessemer.core.nouns import Entry, EntryStatus, Subject, Usage
from bessemer.core.units import JOULES_PER_KILOWATT_HOUR, Money, charge_micros
from bessemer.meter.energy import MICRO

Micros = Annotated[int, Field(ge=0)]


class Rates(Config):
    """Micro-units of the book's currency for one million tokens. `cached` None is the price of fresh input.

    `unit` is for one million of what is delivered and is no token: ranked items, accepted rows.
    """

    input: Micros = 0
    output: Micros = 0
    cached: Micros | None = None
    unit: Micros = 0

    def charge(self, usage: Usage) -> int:
        """Return what a usage is charged, in micro-units, rounded half to even, once."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.input_tokens - usage.cached_tokens
        exact = fresh * self.input + usage.cached_tokens * cached + usage.output_tokens * self.output
        return charge_micros(exact + usage.units * self.unit, 1)


class Price(Rates):
    """The standard rates of a model, and those of batches and service tiers, which have the standard of what they lack.

    Attributes:
        batch: of requests that came in a batch, whatever their tier.
        tiers: by the name of the service tier, for example ``flex`` or ``priority``.
        training: of one million tokens that a fine-tuning job of a client is trained on.
    """

    batch: Rates | None = None
    tiers: dict[str, Rates] = Field(default_factory=dict)
    training: Micros = 0

    def rates(self, service_tier: str = "", *, batch: bool = False) -> Rates:
        """Return what applies to a request."""
        named = self.batch if batch else self.tiers.get(service_tier)
        return Rates(**_said(named, self)) if named else self

    def over(self, standard: Price) -> Price:
        """Return this price, with what it does not say from another."""
        said = _said(self, standard)
        said["training"] = self.training if "training" in self.model_fields_set else standard.training
        said["tiers"] = {**standard.tiers, **self.tiers}
        for name in self.tiers.keys() & standard.tiers.keys():
            said["tiers"][name] = Rates(**_said(self.tiers[name], standard.tiers[name]))
        said["batch"] = self.batch or standard.batch
        if self.batch and standard.batch:
            said["batch"] = Rates(**_said(self.batch, standard.batch))
        return Price(**said)


def _said(own: Rates, standard: Rates) -> dict[str, Any]:
    """Return the rates that either says, the first rather than the second.

    Cached input goes with fresh input: whoever says the one and not the other has the price of fresh input for both.
    """
    first, second = (each.model_dump(include=set(Rates.model_fields), exclude_unset=True) for each in (own, standard))
    if "input" in first:
        second.pop("cached", None)
    return {**second, **first}


class Customer(Config):
    """Prices that one project has agreed, a model's rather than the default; of what they lack it has the book's."""

    default: Price | None = None
    models: dict[str, Price] = Field(default_factory=dict)


class Electricity(Config):
    """What the operator pays for energy."""

    micros_per_kilowatt_hour: Micros = 0
    source: str = ""


class Hardware(Config):
    """What the operator pays for the machine, busy or not: a rent, or what it loses in value."""

    micros_per_hour: Micros = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """A charge with where it came from.

    Attributes:
        charge: the amount.
        price_version: version and digest of the book, and ``default`` if the model has no price of its own.
        by_default: whether the default price was used.
    """

    charge: Money
    price_version: str
    by_default: bool


class PriceBook(Config):
    """Prices by model, a default for all others, and the price of electricity. Its digest is part of its version.

    Attributes:
        version: changes whenever a figure does.
        in_force_from: the day, at midnight UTC, from which requests are charged by it; None is from the beginning.
        customers: overrides by project.
        example: True marks placeholder figures that nobody should be billed by.
    """

    version: Annotated[str, Field(min_length=1, pattern=r"^[^@ ]+$")] = "unpriced"
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    example: bool = False
    source: str = ""
    electricity: Electricity = Electricity()
    hardware: Hardware | None = None
    default: Price = Price()
    models: dict[str, Price] = Field(default_factory=dict)
    in_force_from: date | None = None
    customers: dict[str, Customer] = Field(default_factory=dict)
    _inherits: bool = PrivateAttr(default=True)

    def digest(self) -> str:
        """Return the SHA-256 of what the book says and of how it is read.

        What it leaves out does not count, so old books keep theirs where they are read as they were (see `earlier`).
        """
        if self._inherits and self._reads_otherwise():
            return digest({"left_out": "inherited", **self.model_dump(mode="json", exclude_unset=True)})
        return digest(_without_unsaid(self.model_dump(mode="json")))

    def earlier(self) -> PriceBook:
        """Return the book as it was read until 2026-11-29, with the digest that it had, so that old charges are judged.

        What the price of a batch, a tier or a project left out was free, and a fine-tuned model was any other one.
        """
        book = PriceBook.model_validate(self.model_dump())
        book._inherits = False
        return book

    def _reads_otherwise(self) -> bool:
        """Whether anything could be charged otherwise than it was as the book was read earlier."""
        price = self.default
        named = [rates for rates in (price.batch, *price.tiers.values()) if rates]
        return bool(self.models or self.customers) or any(
            Rates(**_said(rates, price)).model_dump() != rates.model_dump() for rates in named
        )

    def stamp(self) -> str:
        """Return ``version@digest``, what an entry records so that its charge can be checked later."""
        return f"{self.version}@{self.digest()[:12]}"

    def price(self, model: str, project: str = "") -> tuple[Price, bool]:
        """Return the price of a model for a project, and whether it is the book's default.

        A fine-tuned model without a price of its own has its base's.
        """
        names = names_of(model) if self._inherits else (model,)
        agreed, own = self.customers.get(project, Customer()), _first(self.models, names)
        standard, special = own or self.default, _first(agreed.models, names) or agreed.default
        if special is None:
            return standard, own is None
        return special.over(standard) if self._inherits else special, False

    def quote(
        self, usage: Usage, model: str, project: str = "", *, service_tier: str = "", batch: bool = False
    ) -> Quote:
        """Return what a usage is charged.

        Cached tokens are a part of the input tokens, at their own price.

        Raises:
            ConfigError: more tokens are cached than there is input.
        """
        if usage.cached_tokens > usage.input_tokens or min(usage.model_dump().values()) < 0:
            raise ConfigError(f"usage does not add up: {usage}", hint="cached_tokens are a part of input_tokens")
        price, by_default = self.price(model, project)
        micros = price.rates(service_tier, batch=batch).charge(usage)
        charge = Money(micros=micros, currency=self.currency)
        return Quote(charge, self.stamp() + (" default" if by_default else ""), by_default)

    def quote_request(self, usage: Usage, subject: Subject) -> Quote:
        """Return what a usage is charged that a subject had: its model, project, tier and batch."""
        tier, batch = subject.service_tier, subject.batch
        return self.quote(usage, subject.model, subject.project, service_tier=tier, batch=batch)

    def charge(self, usage: Usage, model: str, status: EntryStatus = "ok") -> Money:
        """Return what a request is charged: a quote's amount, or nothing if it failed by our own fault (``error``)."""
        quoted = self.quote(usage, model).charge
        return Money(currency=self.currency) if status == "error" else quoted

    def charge_request(self, usage: Usage, subject: Subject, status: EntryStatus = "ok") -> Money:
        """Return what a subject is charged; nothing if it failed by our own fault.

        A step is charged for its tokens at the price of training; only those of clients' jobs are booked with tokens.
        """
        if status == "error":
            return Money(currency=self.currency)
        if subject.kind == "request":
            return self.quote_request(usage, subject).charge
        price, _ = self.price(subject.model, subject.project)
        return Money(micros=charge_micros(usage.input_tokens * price.training, 1), currency=self.currency)

    @property
    def told(self) -> str:
        """Where this book's money comes from, in one line for people."""
        kind = "an example with placeholder prices" if self.example else self.source or "its owner's prices"
        power = self.electricity.micros_per_kilowatt_hour / MICRO
        return f"price book {self.version} ({kind}), electricity {power:g} {self.currency}/kWh"

    def exact_energy_cost(self, microjoules: int, power_usage_effectiveness: float = 1.0) -> Fraction:
        """Return what an energy at the meter costs the operator, in micro-units, not yet rounded."""
        kilowatt_hours = Fraction(microjoules) / int(JOULES_PER_KILOWATT_HOUR * MICRO)
        return kilowatt_hours * Fraction(power_usage_effectiveness) * self.electricity.micros_per_kilowatt_hour

    def hardware_cost(self, seconds: float) -> float:
        """Return what a time of the machine costs the operator, in micro-units, not rounded."""
        return (self.hardware or Hardware()).micros_per_hour * seconds / 3600

    def energy_cost(self, joules: float, power_usage_effectiveness: float = 1.0) -> Money:
        """Return what an energy at the meter costs the operator, rounded half to even."""
        exact = self.exact_energy_cost(round(joules * MICRO), power_usage_effectiveness)
        return Money(micros=round(exact), currency=self.currency)


class PriceHistory(Config):
    """The versions of a price book, the earliest first. All are in one currency and no two are named alike.

    Attributes:
        books: at least one; each but the first says from which day it is in force, later than the one before.
    """

    books: Annotated[tuple[PriceBook, ...], Field(min_length=1)] = (PriceBook(),)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        names: set[str] = set()
        for at, book in enumerate(self.books):
            if book.version in names:
                raise refusal(("books", at, "version"), f"two books are version '{book.version}'; name each its own")
            names.add(book.version)
            if book.currency != self.books[0].currency:
                raise refusal(("books", at, "currency"), "all versions need one currency")
            before = self.books[at - 1].in_force_from or date.min
            if at and (book.in_force_from is None or book.in_force_from <= before):
                raise refusal(("books", at, "in_force_from"), "needs a day later than that of the version before it")
        return self

    def at(self, when: float) -> PriceBook:
        """Return the book in force at a time, in Unix seconds; before the first day it is the first book."""
        in_force = self.books[0]
        for book in self.books[1:]:
            if _midnight(book) <= when:
                in_force = book
        return in_force

    def stamped(self, price_version: str) -> PriceBook | None:
        """Return the book that an entry's price version names, None if it is not among these."""
        return self._by_stamp.get(price_version.removesuffix(" default"))

    @cached_property
    def _by_stamp(self) -> dict[str, PriceBook]:
        read = [*(book.earlier() for book in self.books), *self.books]
        return {book.stamp(): book for book in read}


def load_price_history(path: Path | None = None) -> PriceHistory:
    """Return all versions of a price book from TOML: one book, or several as ``[[books]]``; without a path the example.

    Raises:
        ConfigError: the file is missing or says something else than prices.
    """
    shipped = files("bessemer.meter") / "price.toml"
    try:
        text = path.read_text(encoding="utf-8") if path else shipped.read_text(encoding="utf-8")
        said = tomllib.loads(text)
        model: type[Config] = PriceHistory if "books" in said else PriceBook
        read = model.model_validate(said)
        return read if isinstance(read, PriceHistory) else PriceHistory.model_validate({"books": [read]})
    except OSError as error:
        raise ConfigError(f"cannot read the price book {path}: {error.strerror}", hint="Give a TOML file.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the price book {path} is not TOML: {error}", hint="Mend that line.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, where))}: {sentence}" for where, sentence in explain(error, model))
        raise ConfigError(f"the price book {path}: {wrong}", hint="The shipped price.toml shows every key.") from error


def load_price_book(path: Path | None = None, at: float | None = None) -> PriceBook:
    """Return the version of a price book that is in force at a time, in Unix seconds, or now; see `load_price_history`.

    Raises:
        ConfigError: the file is missing or says something else than prices.
    """
    return load_price_history(path).at(time.time() if at is None else at)


def mispriced(entries: Iterable[Entry], prices: PriceBook | PriceHistory) -> list[Entry]:
    """Return the requests booked under a known version whose charge is not quantity times price.

    One that failed is to be charged nothing.
    """
    history = prices if isinstance(prices, PriceHistory) else PriceHistory(books=(prices,))
    found = []
    for entry in entries:
        book = history.stamped(entry.price_version)
        if book and entry.charge != book.charge_request(entry.usage, entry.subject, entry.status):
            found.append(entry)
    return found


def _first(prices: Mapping[str, Price], names: Sequence[str]) -> Price | None:
    return next((prices[name] for name in names if name in prices), None)


def _midnight(book: PriceBook) -> float:
    day = book.in_force_from or date.min
    return datetime.combine(day, datetime.min.time(), UTC).timestamp()


_LATER = frozenset({"batch", "tiers", "training", "in_force_from", "customers", "hardware", "unit"})
"""Keys that books did not have at first: unsaid, they leave a book's digest as it was."""


def _without_unsaid(said: Any) -> Any:
    if not isinstance(said, dict):
        return said
    return {key: _without_unsaid(value) for key, value in said.items() if value or key not in _LATER}
