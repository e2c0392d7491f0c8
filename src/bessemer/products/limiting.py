"""Ties limits to money: what a request may cost at most, and what the books say that one did cost.

Owns the tie between the gateway's budgets, the meter's price book and its ledger. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from bessemer.core.errors import IntegrityError, NotFound
from bessemer.core.nouns import Subject, Usage
from bessemer.core.units import MICROS_PER_UNIT
from bessemer.meter import Ledger, PriceBook, PriceHistory, open_ledger, under_way
from bessemer.products.home import Home
from bessemer.products.llm.config import LlmConfig
from bessemer.serve import Accounts, Gate, Tariff, Worker

TEMPLATE_TOKENS = 1024
"""Allowed for what a chat template writes of its own accord, such as a default system prompt: an assumption. What a
request takes beyond it shows as an overrun."""
_SOON_SECONDS = 60.0
"""Longer than it takes from being let in to being metered; so long a tariff is used, too."""
_BYTES_PER_CHARACTER = 4
"""At most, in UTF-8. Source: RFC 3629, section 3."""


def open_gate(
    accounts: Accounts, home: Home, prices: PriceHistory, product: LlmConfig | None, clock: Callable[[], float]
) -> Gate:
    """Return the gate of a home's gateway; what an earlier process left reserved is settled from the books first.

    Args:
        accounts: who may ask for how much.
        home: whose books are written.
        prices: by which requests are charged.
        product: the language model that is served, if one is; what it reads before it answers is paid for too.
        clock: gives Unix seconds.
    """
    retrieval = product.retrieval if product else None
    read = retrieval.max_characters * _BYTES_PER_CHARACTER if retrieval and retrieval.passages else 0

    def pricing(subject: Subject) -> Tariff:
        now = clock()
        until = now + _SOON_SECONDS
        books = [prices.at(now), prices.at(until + _SOON_SECONDS)]  # a request may begin under the next version
        if subject.kind == "step":  # a job may end under any
            books += prices.books
        return worst_tariff(books, subject, read + TEMPLATE_TOKENS, until)

    def charged(requests: Sequence[str]) -> Mapping[str, int]:
        return charged_of(home, requests)

    return Gate(accounts.database, pricing, Worker(home.workers), charged, clock)


def worst_tariff(books: Sequence[PriceBook], subject: Subject, own_tokens: int, until: float) -> Tariff:
    """Return prices that no charge of a subject exceeds: all of its input from a cache, or none, whatever costs more.

    Args:
        books: by which it may be charged.
        subject: whose request it is.
        own_tokens: that the product adds to the client's at most.
        until: Unix seconds; so long the tariff may be used.
    """
    fresh = Usage(input_tokens=MICROS_PER_UNIT)  # what a million tokens cost is their price
    cached = Usage(input_tokens=MICROS_PER_UNIT, cached_tokens=MICROS_PER_UNIT)
    written, units = Usage(output_tokens=MICROS_PER_UNIT), Usage(units=MICROS_PER_UNIT)
    return Tariff(
        input=max(book.charge_request(usage, subject).micros for book in books for usage in (fresh, cached)),
        output=max(book.charge_request(written, subject).micros for book in books),
        unit=max(book.charge_request(units, subject).micros for book in books),
        own_tokens=own_tokens,
        currency=books[0].currency,
        until=until,
    )


def charged_of(home: Home, requests: Sequence[str]) -> dict[str, int]:
    """Return what requests of processes that have ended were charged, in micro-units.

    One that the journal does not have was never booked: its process is dead, and nobody else writes its entry. A
    stream that was cut is left out until it is booked. While the journal is damaged nobody knows, and nothing is
    returned.
    """
    cut = under_way(home.books)  # first: what is booked from now on is in the ledger, or was here
    try:
        ledger = open_ledger(home.books, home.ledger_url)
    except IntegrityError:
        return {}
    with closing(ledger):
        found = {request: _charge(ledger, request) for request in requests}
    return {request: charge or 0 for request, charge in found.items() if charge is not None or request not in cut}


def _charge(ledger: Ledger, request: str) -> int | None:
    try:
        return ledger.entry(f"request:{request}").charge.micros
    except NotFound:
        return None
