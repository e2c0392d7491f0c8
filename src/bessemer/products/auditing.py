"""Whether the books agree: the journal with its hashes, entries with meters and engines, sums, charges, prices and
invoices.

Owns the list of checks.
"""

from __future__ import annotations

from bessemer.core.errors import IntegrityError, NotFound
from bessemer.core.nouns import Entry, Noun
from bessemer.core.usage import UsageQuery
from bessemer.meter import Ledger, PriceHistory, compare_readings, mispriced
from bessemer.meter.layout import told_of
from bessemer.products.booked import BookedUsage
from bessemer.products.home import Home
from bessemer.products.invoice_check import check_invoices

_ALWAYS = 4_102_444_800


class Check(Noun):
    """One check: what was compared, whether it holds (None: part of it could not be checked), and what was found."""

    name: str
    holds: bool | None
    found: str


def check_books(home: Home, prices: PriceHistory) -> list[Check]:
    """Return what each check of a home's books found.

    Args:
        home: whose books.
        prices: the versions of its price book; entries booked by others are counted and cannot be checked.

    Raises:
        NotFound: there are no books.
    """
    if not home.books.exists():
        raise NotFound(f"nothing is booked in {home.path}", hint="`bessemer up` serves and books.")
    ledger = Ledger(home.ledger_url or home.books / "ledger.sqlite", home.books / "journal")
    try:
        checks = [_journal(ledger)]
        usage = BookedUsage(ledger, prices)
        if checks[0].holds:
            checks += [_meters(home), _sums(ledger, usage), _charges(ledger, prices), _lines(usage)]
            checks += [_invoices(home, usage), *_hosts(usage)]
        return checks
    finally:
        ledger.close()


def _journal(ledger: Ledger) -> Check:
    try:
        report = ledger.sync()
        whole = ledger.verify()
    except IntegrityError as error:
        return Check(name="journal", holds=False, found=f"{error.message}. {error.hint}")
    differing = f", {len(report.differing)} booked twice and differently" if report.differing else ""
    torn = f", {whole.torn_bytes} bytes of records that were never finished" if whole.torn_bytes else ""
    found = f"{whole.records:,} records in {whole.segments} segments, every hash right{torn}{differing}"
    return Check(name="journal", holds=not report.differing, found=found)


def _hosts(usage: BookedUsage) -> list[Check]:
    """Say what the ledger misses of other hosts; nothing where it misses nothing."""
    missing = usage.awaited()
    return [Check(name="hosts", holds=False, found=". ".join(told_of(missing)))] if missing else []


def _meters(home: Home) -> Check:
    """Compare the entries with what the meters and the engines that they come from counted themselves."""
    try:
        found = compare_readings(home.books / "readings", home.books / "journal")
    except IntegrityError as error:
        return Check(name="meters", holds=False, found=f"{error.message}. {error.hint}")
    told = f"{found.meters:,} counted {found.microjoules / 1e6:,.3f} J for {found.entries:,} entries"
    if found.tokens:
        told += f", their engines {found.tokens:,} tokens"
    return Check(name="meters", holds=not found.drifts, found="; ".join(found.drifts[:3]) or told)


def _sums(ledger: Ledger, usage: BookedUsage) -> Check:
    """Compare the sums by the hour and by the day with the entries themselves."""
    wrong = ledger.drifts()
    rows = usage.usage(UsageQuery(start=0, end=_ALWAYS, kind=""))
    entries, tokens = sum(row.entries for row in rows), sum(row.usage.total_tokens for row in rows)
    told = f"{entries:,} entries, {tokens:,} tokens, {sum(row.microjoules for row in rows) / 1e6:,.3f} J"
    found = "; ".join(wrong[:3]) or told
    return Check(name="sums", holds=not wrong, found=found)


def _charges(ledger: Ledger, prices: PriceHistory) -> Check:
    """Compare every charge with quantity times price."""
    wrong, seen, unknown = [], 0, 0
    for entry in ledger.each():
        seen += 1
        unknown += prices.stamped(entry.price_version) is None and not _is_free(entry)
        wrong += mispriced((entry,), prices)
    examples = ", ".join(entry.id for entry in wrong[:3])
    found = f"{seen - unknown:,} recomputed"
    if wrong:
        found = f"{len(wrong):,} of {seen - unknown:,} are not quantity times price: {examples}"
    if unknown:
        found += f"; {unknown:,} not checked, by versions that are not in this price book"
    return Check(name="charges", holds=False if wrong else None if unknown else True, found=found)


def _is_free(entry: Entry) -> bool:
    """Whether an entry is charged nothing, and rightly by whatever prices: it failed, or delivered nothing."""
    return not entry.charge.micros and (entry.status == "error" or not any(entry.usage.model_dump().values()))


def _lines(usage: BookedUsage) -> Check:
    """Compare the lines of bills with the charges; rounding may be half a micro-unit for each request."""
    lines = usage.costs(UsageQuery(start=0, end=_ALWAYS, kind=""))
    rounding = [line for line in lines if line.item == "rounding"]
    far = [line for line in rounding if 2 * abs(line.amount_micros) > line.quantity + 3]
    found = f"{len(lines):,} lines" if not far else f"{len(far)} lines are further off than rounding makes them"
    return Check(name="bills", holds=not far, found=found)


def _invoices(home: Home, usage: BookedUsage) -> Check:
    """Check what was issued: the register, the files, and the sums that the ledger had."""
    wrong, said = check_invoices(home, usage)
    return Check(name="invoices", holds=not wrong, found="; ".join(wrong[:3]) or said)
