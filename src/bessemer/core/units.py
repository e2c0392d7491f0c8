"""Units: base units stand last in a name (`_seconds _joules _bytes _tokens _usd`); this formats them for people.

Owns money (integer micro-units and a currency), the kilowatt-hour, and the words a terminal shows for quantities.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

JOULES_PER_KILOWATT_HOUR = 3_600_000.0
"""Exact by definition: 1 kW x 3,600 s. Source: BIPM, The International System of Units, 9th edition, table 8."""

MICROS_PER_UNIT = 1_000_000


class Money(BaseModel):
    """An amount of money: whole millionths of a currency unit, never a float."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    micros: int = 0
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"

    def __add__(self, other: Money) -> Money:
        """Return the sum.

        Raises:
            ValueError: if the currencies differ.
        """
        if self.currency != other.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(micros=self.micros + other.micros, currency=self.currency)

    def __str__(self) -> str:
        """Return the amount for people: two decimals, or as many as a small amount needs.

        >>> str(Money(micros=12_500_000)), str(Money(micros=31))
        ('12.50 USD', '0.000031 USD')
        """
        if abs(self.micros) < MICROS_PER_UNIT:
            return self.exact()
        return f"{Decimal(self.micros) / MICROS_PER_UNIT:,.2f} {self.currency}"

    def exact(self) -> str:
        """Return the amount to the last micro-unit, for what has to add up: two decimals, or six.

        >>> Money(micros=12_500_000).exact(), Money(micros=1_234_567_890).exact()
        ('12.50 USD', '1,234.567890 USD')
        """
        return f"{Decimal(self.micros) / MICROS_PER_UNIT:,.{6 if self.micros % 10_000 else 2}f} {self.currency}"


def charge_micros(quantity: int, micros_per_million: int) -> int:
    """Return quantity x price in micro-units, rounded half to even once, at the end.

    Args:
        quantity: how many, for example tokens.
        micros_per_million: micro-units of the currency for one million of them.

    >>> charge_micros(1_500, 150_000)
    225
    """
    exact = Decimal(quantity) * Decimal(micros_per_million) / Decimal(1_000_000)
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def show_seconds(seconds: float) -> str:
    """Return a duration for people.

    >>> [show_seconds(s) for s in (0.0042, 9.31, 75, 4000)]
    ['4.2 ms', '9.3 s', '1 min 15 s', '1 h 06 min']
    """
    if round(seconds, 4) < 1:
        return f"{seconds * 1000:.1f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    if round(seconds) < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min"


def show_bytes(count: float) -> str:
    """Return a size for people, in decimal units.

    >>> show_bytes(98_362_432)
    '98.4 MB'
    """
    return _scaled(count, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def show_joules(joules: float) -> str:
    """Return an energy for people.

    >>> show_joules(0.0123), show_joules(14_300)
    ('12.3 mJ', '14.3 kJ')
    """
    if 0 < abs(joules) < 0.9995:
        return f"{joules * 1000:.3g} mJ"
    return _scaled(joules, 1000, ("J", "kJ", "MJ", "GJ", "TJ"))


def _scaled(value: float, step: int, names: tuple[str, ...]) -> str:
    power = 0
    while round(abs(value), 1) >= step and power < len(names) - 1:
        value /= step
        power += 1
    return f"{value:.0f} {names[power]}" if value == int(value) else f"{value:.1f} {names[power]}"
