"""What tokens are charged and what energy costs: a versioned price book and its arithmetic, in whole micro-units.

    charge = round((fresh x input + cached x cached + output x output) / 1,000,000)      half to even, once

A request that ended as an ``error`` is booked with its tokens and joules and charged nothing.

Owns the price book. Knows no request beyond its usage and model.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from bessemer.core.config import Config, explain
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Entry, EntryStatus, Usage
from bessemer.core.units import JOULES_PER_KILOWATT_HOUR, Money, charge_micros
from bessemer.meter.energy import MICRO

Micros = Annotated[int, Field(ge=0)]


class Price(Config):
    """Micro-units of the book's currency for one million tokens. `cached` None is the price of fresh input."""

    input: Micros = 0
    output: Micros = 0
    cached: Micros | None = None


class Electricity(Config):
    """What the operator pays for energy."""

    micros_per_kilowatt_hour: Micros = 0
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
        example: True marks placeholder figures that nobody should be billed by.
    """

    version: Annotated[str, Field(min_length=1, pattern=r"^[^@ ]+$")] = "unpriced"
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    example: bool = False
    source: str = ""
    electricity: Electricity = Electricity()
    default: Price = Price()
    models: dict[str, Price] = Field(default_factory=dict)

    def stamp(self) -> str:
        """Return ``version@digest``, what an entry records so that its charge can be checked later."""
        return f"{self.version}@{self.digest()[:12]}"

    def quote(self, usage: Usage, model: str) -> Quote:
        """Return what a usage is charged.

        Cached tokens are a part of the input tokens, at their own price.

        Raises:
            ConfigError: more tokens are cached than there is input.
        """
        if usage.cached_tokens > usage.input_tokens or min(usage.model_dump().values()) < 0:
            raise ConfigError(f"usage does not add up: {usage}", hint="cached_tokens are a part of input_tokens")
        price = self.models.get(model)
        by_default = price is None
        price = price or self.default
        cached = price.input if price.cached is None else price.cached
        fresh = usage.input_tokens - usage.cached_tokens
        exact = fresh * price.input + usage.cached_tokens * cached + usage.output_tokens * price.output
        charge = Money(micros=charge_micros(exact, 1), currency=self.currency)
        return Quote(charge, self.stamp() + (" default" if by_default else ""), by_default)

    def charge(self, usage: Usage, model: str, status: EntryStatus = "ok") -> Money:
        """Return what a request is charged: a quote's amount, or nothing if it failed by our own fault (``error``)."""
        quoted = self.quote(usage, model).charge
        return Money(currency=self.currency) if status == "error" else quoted

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

    def energy_cost(self, joules: float, power_usage_effectiveness: float = 1.0) -> Money:
        """Return what an energy at the meter costs the operator, rounded half to even."""
        exact = self.exact_energy_cost(round(joules * MICRO), power_usage_effectiveness)
        return Money(micros=round(exact), currency=self.currency)


def load_price_book(path: Path | None = None) -> PriceBook:
    """Return a price book from TOML; without a path the shipped example.

    Raises:
        ConfigError: the file is missing or says something else than prices.
    """
    shipped = files("bessemer.meter") / "price.toml"
    try:
        text = path.read_text(encoding="utf-8") if path else shipped.read_text(encoding="utf-8")
        return PriceBook.model_validate(tomllib.loads(text))
    except OSError as error:
        raise ConfigError(f"cannot read the price book {path}: {error.strerror}", hint="Give a TOML file.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the price book {path} is not TOML: {error}", hint="Mend that line.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, where))}: {sentence}" for where, sentence in explain(error, PriceBook))
        raise ConfigError(f"the price book {path}: {wrong}", hint="The shipped price.toml shows every key.") from error


def mispriced(entries: Iterable[Entry], book: PriceBook) -> list[Entry]:
    """Return the requests booked under this version of the book whose charge is not quantity times price.

    One that failed is to be charged nothing.
    """
    return [
        entry
        for entry in entries
        if entry.subject.kind == "request"
        and entry.price_version.removesuffix(" default") == book.stamp()
        and entry.charge != book.charge(entry.usage, entry.subject.model, entry.status)
    ]
