"""The prices that a home's factory charges by, noted there so that they are found without its declaration.

Owns the note: the factory that wrote the books last, and its price book. Knows no charge.
"""

from __future__ import annotations

from bessemer.core.nouns import Noun
from bessemer.meter import PriceHistory
from bessemer.products.home import Home, write_whole

_FILE = "prices.json"


class KnownPrices(Noun):
    """A factory's name and the versions of its price book."""

    factory: str
    history: PriceHistory

    @property
    def currency(self) -> str:
        """Of all versions."""
        return self.history.books[0].currency


def note_prices(home: Home, prices: KnownPrices) -> None:
    """Remember by which prices a home's factory charges from now on.

    Prices are compared by their words: what a price says to be 0 is otherwise left out, and inherited.
    """
    known, words = known_prices(home), _words(prices)
    if known is None or _words(known) != words:
        write_whole(home.path / _FILE, words)


def known_prices(home: Home) -> KnownPrices | None:
    """Return the prices of the factory that ran or served in a home last; None if none did, or another version did."""
    try:
        return KnownPrices.model_validate_json((home.path / _FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _words(prices: KnownPrices) -> str:
    return prices.model_dump_json(indent=2, exclude_unset=True)
