"""Ties limits to money: what a request may cost at most, and what the books say that one did cost.

Owns the tie between the gateway's budgets, the meter's price book and its ledger. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from bessemer.core.errors import IntegrityError, NotFound
from bessemer.core.nouns import Subject, Usage
from bessemer.core.units import Money
from bessemer.meter import Ledger, PriceBook, PriceHistory, open_ledger
from bessemer.products.home import Home
from bessemer.products.llm.config import LlmConfig
from bessemer.serve import Accounts, Gate, Worker

TEMPLATE_TOKENS = 1024
"""Allowed for what a chat template writes of its own accord, such as a default system prompt: an assumption. What a
request takes beyond it shows as an overrun."""
_SOON_SECONDS = 60.0
"""Longer than it takes from being let in to being metered."""
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

    def worst(subject: Subject, most: Usage) -> Money:
        now = clock()
        books = [prices.at(now), prices.at(now + _SOON_SECONDS)]  # a request may begin under the next version
        if subject.kind == "step":  # a job may end under any
            books += prices.books
        return max((worst_charge(book, subject, most, read + TEMPLATE_TOKENS) for book in books), key=_micros)

    def charged(requests: Sequence[str]) -> Mapping[str, int]:
        return charged_of(home, requests)

    return Gate(accounts.database, worst, Worker(home.workers), charged, clock)


def worst_charge(prices: PriceBook, subject: Subject, most: Usage, own_tokens: int) -> Money:
    """Return the most that a request can be charged: with all of its input from a cache, or none, whatever costs more.

    Args:
        prices: the price book in force.
        subject: whose request it is.
        most: tokens that the client's words can come to.
        own_tokens: that the product adds to them at most.
    """
    input_tokens = most.input_tokens + own_tokens
    fresh = most.model_copy(update={"input_tokens": input_tokens})
    cached = fresh.model_copy(update={"cached_tokens": input_tokens})
    return max((prices.charge_request(usage, subject) for usage in (fresh, cached)), key=_micros)


def _micros(money: Money) -> int:
    return money.micros


def charged_of(home: Home, requests: Sequence[str]) -> dict[str, int]:
    """Return what requests of processes that have ended were charged, in micro-units.

    One that the journal does not have was never booked: its process is dead, and nobody else writes its entry. While
    the journal is damaged nobody knows, and nothing is returned.
    """
    try:
        ledger = open_ledger(home.books, home.ledger_url)
    except IntegrityError:
        return {}
    with closing(ledger):
        return {request: _charge(ledger, request) for request in requests}


def _charge(ledger: Ledger, request: str) -> int:
    try:
        return ledger.entry(f"request:{request}").charge.micros
    except NotFound:
        return 0
