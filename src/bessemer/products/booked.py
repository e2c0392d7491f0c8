"""What a home's books say of usage and charges: the ledger's sums, priced by the versions of the price book.

Owns the tie between ledger and prices. The gateway and the terminal ask the same questions here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bessemer.core.errors import NotFound
from bessemer.core.usage import CostLine, UsageQuery, UsageRow
from bessemer.meter import Ledger, PriceHistory, open_ledger
from bessemer.meter.billing import BILLED, cost_lines
from bessemer.products.home import Home


class BookedUsage:
    """Answers questions about usage; for several threads at once.

    Args:
        ledger: is filled from the journal before each question.
        prices: the versions by which charges are told apart by kind of token.
    """

    def __init__(self, ledger: Ledger, prices: PriceHistory) -> None:
        self._ledger, self._prices = ledger, prices

    def usage(self, query: UsageQuery) -> list[UsageRow]:
        """Return the sums that are not empty, by bucket and group."""
        self._ledger.sync()
        return self._ledger.usage(query)

    def costs(self, query: UsageQuery) -> list[CostLine]:
        """Return the lines of what was charged; they sum to the charges, exactly."""
        charged = query.model_copy(update={"group_by": BILLED, "charged": True})
        return cost_lines(self.usage(charged), self._prices)

    def charged(self, project: str, start: int, end: int) -> tuple[int, dict[str, int] | None]:
        """Return what a project was charged for a span of whole hours, and how far the journal was read for it.

        The first is in micro-units; the second is records by segment, or None if other hosts' entries are in it.
        """
        self._ledger.sync()
        query = UsageQuery(start=start, end=end, projects=(project,), kind="", charged=True)
        rows, read = self._ledger.usage_as_read(query)
        return sum(row.charge_micros for row in rows), read

    def anchored(self) -> tuple[int, str] | None:
        """Return the record up to which the register of invoices is known to have grown, if it is."""
        self._ledger.sync()
        return self._ledger.anchored()

    def anchor(self, seq: int, hash: str) -> None:
        """Note a record of the register of invoices."""
        self._ledger.sync()
        self._ledger.anchor(seq, hash)

    def awaited(self) -> tuple[str, ...]:
        """Return the journals of other hosts whose entries are missing since the ledger was made again."""
        self._ledger.sync()
        return self._ledger.awaited()


@contextmanager
def open_usage(home: Home, prices: PriceHistory) -> Iterator[BookedUsage]:
    """Give the usage of a home.

    Args:
        home: whose books.
        prices: of its price book.

    Raises:
        NotFound: there are no books.
    """
    if not (home.books.exists() or home.ledger_url):
        raise NotFound(f"nothing is booked in {home.path}", hint="`bessemer up` serves and books.")
    ledger = open_ledger(home.books, home.ledger_url)
    try:
        yield BookedUsage(ledger, prices)
    finally:
        ledger.close()
