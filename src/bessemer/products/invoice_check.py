"""Whether the invoices are those that were issued, and whether they sum to what the ledger said when they were.

Three things are held against each other: the register with its chain, the files, and the ledger's charges. What was
booked after an invoice was issued is no drift: the next one for that month has it.

Owns the comparison. Issues nothing; where there is no register yet, what stands there is taken in and said so.
"""

from __future__ import annotations

from bessemer.core.errors import IntegrityError
from bessemer.meter.past import charged_before
from bessemer.products.booked import BookedUsage
from bessemer.products.home import Home
from bessemer.products.invoices import Invoice, InvoiceBook, amounts_agree, month_of
from bessemer.products.register import Issued


def check_invoices(home: Home, usage: BookedUsage) -> tuple[list[str], str]:
    """Return what is wrong with the invoices of a home, and what to say if nothing is.

    Args:
        home: whose invoices.
        usage: of its books.
    """
    book = InvoiceBook(home, usage, "", lambda: 0.0)
    was_open = book.register.is_open()
    try:
        book.check_register()
        if not was_open:
            book.open()
        records = book.register.records()
        found = {key: book.issued(*key) for key in book.projects()}
    except IntegrityError as error:
        return [f"{error.message}. {error.hint}"], ""
    wrongs = [f"lines do not sum to the amount: {each[0].number}" for each in found.values() if not amounts_agree(each)]
    wrongs += _files(book, records)
    drifts, late = _sums(home, usage, records, found)
    said = [f"{len(records):,} issued"]
    if taken := sum(record.taken_in for record in records):
        said.append(f"{taken:,} of them taken in {'as they stood' if was_open else 'now, as they stand'}")
    return wrongs + drifts, "; ".join(said + late)


def _files(book: InvoiceBook, records: list[Issued]) -> list[str]:
    """Compare every file with the text that was issued."""
    wrong, known = [], {book.path(record): record for record in records}
    for path, record in known.items():
        if not path.exists():
            wrong.append(f"{path.relative_to(book.folder)} is gone: issue it again, and it is written as it was")
        elif path.read_bytes() != record.text.encode():
            wrong.append(f"{path.relative_to(book.folder)} is not what was issued")
    others = sorted(path for path in book.folder.glob("*/*.json") if path not in known)
    return wrong + [f"{path.relative_to(book.folder)} was never issued" for path in others]


def _sums(
    home: Home, usage: BookedUsage, records: list[Issued], found: dict[tuple[str, str], list[Invoice]]
) -> tuple[list[str], list[str]]:
    """Compare each month's invoices with the ledger's charges as they were then.

    Returns:
        What drifted, and what is to be said besides.
    """
    read: dict[str, int] = {}
    wrong, late, unknown = [], 0, 0
    last = {(record.project, record.month): record for record in records}
    for record in records:
        key = record.project, record.month
        read |= record.read or {}
        if last[key] is not record:
            continue
        start, end = month_of(record.month)
        invoiced, then = sum(each.amount_micros for each in found[key]), record.charged_micros
        if invoiced != then and not record.taken_in:
            wrong.append(f"{found[key][-1].number}: {invoiced:,} were invoiced, {then:,} had been charged")
            continue
        now, _ = usage.charged(record.project, start, end)
        if now != then and record.read is None:
            unknown += 1
        elif (
            now != then and (before := charged_before(home.books / "journal", read, record.project, start, end)) != then
        ):
            wrong.append(
                f"{found[key][-1].number}: the register says that {then:,} had been charged, the journal {before:,}"
            )
        late += now != invoiced
    said = [f"{late:,} months have charges that are on no invoice yet"] if late else []
    said += [f"{unknown:,} of these not compared: other hosts booked"] if unknown else []
    return wrong, said
