"""What customers ask of their bills: the prices in force for them, and what was issued to them.

Owns the answers of ``/v1/prices`` and ``/v1/invoices``. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bessemer.meter import PriceHistory
from bessemer.products.booked import BookedUsage
from bessemer.products.home import Home
from bessemer.products.invoices import InvoiceBook
from bessemer.products.price_list import price_lines


class HomeBilling:
    """The bills of a home.

    Args:
        home: where the invoices are.
        prices: the versions of its price book.
        usage: of its books.
        clock: gives Unix seconds.
    """

    def __init__(self, home: Home, prices: PriceHistory, usage: BookedUsage, clock: Callable[[], float]) -> None:
        self._prices, self._clock = prices, clock
        self._invoices = InvoiceBook(home, usage, "", clock)

    def prices(self, project: str) -> dict[str, Any]:
        """Return the prices in force for a project, in micro-units for a million tokens; nobody else's."""
        book = self._prices.at(self._clock())
        lines = [line for line in price_lines(book) if line.project in ("", project)]
        return {
            "object": "price_book",
            "version": book.version,
            "currency": book.currency,
            "example": book.example,
            "data": [line.model_dump(mode="json") for line in lines],
        }

    def invoices(self, project: str) -> list[dict[str, Any]]:
        """Return what was issued to a project, the newest first."""
        months = [month for whose, month in self._invoices.projects() if whose == project]
        found = [invoice for month in months for invoice in self._invoices.issued(project, month)]
        return [
            {"object": "invoice", "id": each.number, **each.model_dump(mode="json")}
            for each in sorted(found, key=lambda each: (each.start, len(each.corrects)), reverse=True)
        ]
