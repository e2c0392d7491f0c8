"""What accelerators cost by the hour elsewhere, and how old that price is.

Owns the price catalogue's offers. Knows no site and no clock: the day is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from bessemer.core.errors import ConfigError, NotFound
from bessemer.twin.accelerators import accelerator
from bessemer.twin.catalogue import Row, table, unknown

STALE_DAYS = 365


@dataclass(frozen=True, slots=True)
class Offer:
    """An accelerator to rent.

    Attributes:
        provider: who asks it.
        accelerator: name in the catalogue.
        usd_per_hour: for one accelerator.
        term: ``on_demand``, ``spot``, ``reserved_1y`` or ``reserved_3y``.
        month: of the price, such as ``2026-03``; empty where the source does not say.
        source: where it was read.
    """

    provider: str
    accelerator: str
    usd_per_hour: float
    term: str
    month: str
    source: str

    def warning(self, today: date) -> str:
        """Return why the price should be looked up again, or "".

        >>> Offer("A", "H100-SXM-80GB", 2.0, "spot", "2024-01", "x").warning(date(2026, 1, 1))
        'the price of A (spot) is from 2024-01: more than a year old'
        """
        if not self.month:
            return f"the price of {self.provider} ({self.term}) has no date in its source"
        if is_stale(self.month, today):
            return f"the price of {self.provider} ({self.term}) is from {self.month}: more than a year old"
        return ""


def is_stale(month: str, today: date) -> bool:
    """Return whether a price of a month such as ``2026-03`` is more than a year old.

    >>> is_stale("2024-08", date(2026, 11, 23)), is_stale("2026-03", date(2026, 11, 23))
    (True, False)
    """
    year, number = map(int, month.split("-")[:2])
    return (today - date(year, number, 1)).days > STALE_DAYS


def offers(name: str) -> list[Offer]:
    """Return who rents an accelerator out, cheapest first; nobody does one that no catalogue has."""
    try:
        wanted = accelerator(name).name
    except NotFound:
        return []
    rows = [row for row in table("prices") if row["kind"] == "accelerator_hour" and row["accelerator"] == wanted]
    return sorted((_offer(row) for row in rows), key=lambda offer: offer.usd_per_hour)


def offer(name: str, provider: str) -> Offer:
    """Return what one provider asks without a commitment, by its newest dated price.

    Raises:
        NotFound: nobody of that name rents this accelerator out.
        ConfigError: nobody is named.
    """
    if not provider:
        known = ", ".join(sorted({each.provider for each in offers(name)})) or "nobody of the catalogue"
        raise ConfigError(
            f"the site is rented, and no provider of its {name} is named",
            hint=f"Name one as provider under [money]: {known}.",
        )
    found = [each for each in offers(name) if each.provider == provider and each.term != "spot"]
    if not found:
        raise unknown(f"provider of {name}", provider, (each.provider for each in offers(name)))
    return max(found, key=lambda each: (each.term == "on_demand", each.month, each.usd_per_hour))


def newest(found: Iterable[Offer]) -> list[Offer]:
    """Return one offer for each provider and term: of the newest month."""
    last = {(each.provider, each.term): each for each in sorted(found, key=lambda one: (one.month, one.usd_per_hour))}
    return list(last.values())


def stale(found: Iterable[Offer], today: date) -> list[str]:
    """Return the warnings of the newest offers: one for each that is old, and one for all without a date."""
    last = newest(found)
    old = sorted({warning for each in last if each.month and (warning := each.warning(today))})
    undated = sorted({each.provider for each in last if not each.month})
    return old + ([f"prices without a date in their source: {', '.join(undated)}"] if undated else [])


def _offer(row: Row) -> Offer:
    return Offer(row["provider"], row["accelerator"], float(row["usd"]), row["term"], row["date"], row["source"])
