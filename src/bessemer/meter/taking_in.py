"""Takes records of the journal into the ledger's tables, many at once: each entry once, and its hour's sums with it.

Of two entries with one id the first counts, but one that did not end well wins over one that says "ok". All happens in
the caller's transaction.

Owns the rows. Knows no file; where a record stands and whether it is whole is the journal's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from bessemer.meter.database import LedgerDatabase
from bessemer.meter.rollups import Sums
from bessemer.meter.rows import (
    BOOKED,
    COLUMNS,
    FORM,
    SUMS,
    Amounts,
    Form,
    Row,
    columns_of,
    digest_of,
    entry_of,
    read,
    unpacked,
)

AT_ONCE = 2000
_ASKED = 500
_MOST = 20_000
"""Forms that are kept in memory."""
_STATUS = len(COLUMNS) + FORM.index("status")
_FIRST, _LAST = COLUMNS.index(SUMS[0]), COLUMNS.index(SUMS[-1]) + 1


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one `Ledger.sync` did.

    Attributes:
        added: entries that were new.
        repeated: entries that were there already, for example booked again after a failed write.
        differing: ids of repeated entries whose content differs from the first; see above which counts.
        torn_bytes: bytes at ends of segments that are no whole record.
    """

    added: int = 0
    repeated: int = 0
    differing: tuple[str, ...] = ()
    torn_bytes: int = 0

    def __add__(self, other: SyncReport) -> SyncReport:
        return SyncReport(
            self.added + other.added,
            self.repeated + other.repeated,
            self.differing + other.differing,
            self.torn_bytes + other.torn_bytes,
        )


class TakingIn:
    """One transaction's entries, on their way into the tables."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database, self._query, self._sums = database, database.query, Sums(database)
        self._forms = _Forms(database)
        self._waiting: list[tuple[int, bytes, float, Amounts, bytes, str | None]] = []
        self._added = self._repeated = 0
        self._differing: list[str] = []

    def add(self, text: bytes) -> None:
        """Take an entry, as JSON."""
        if self._database.is_postgres and b"\\u0000" in text:
            text = text.replace(b"\\u0000", b"\\ufffd")  # the one character that it cannot keep
        form, id, at, amounts, exact, subject = read(text)
        self._waiting.append((self._forms.place(form), id, at, amounts, exact, subject))
        if len(self._waiting) >= AT_ONCE:
            self._write()

    def end(self) -> SyncReport:
        """Write what is left."""
        self._write()
        self._sums.write()
        return SyncReport(self._added, self._repeated, tuple(self._differing))

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        numbers = self._forms.numbers()
        rows = [
            (id, numbers[place], at, *amounts[1:], exact, subject) for place, id, at, amounts, exact, subject in waiting
        ]
        there = self._database.insert_new("entries", COLUMNS, rows) if rows else []
        again = set(there)
        for number, (place, _, at, amounts, _, _) in enumerate(waiting):
            if number not in again:
                self._sums.add(numbers[place], at, amounts)
        self._added += len(rows) - len(there)
        for number in there:
            self._meet(rows[number], self._forms.columns(waiting[number][0]))
        self._forms.forget()

    def _meet(self, row: Row, form: tuple[Any, ...]) -> None:
        """Take an entry whose id is there already."""
        sql = f"SELECT {BOOKED} FROM entries CROSS JOIN forms WHERE form = number AND id = ?"
        (first,), new = self._query(sql, (row[0],)), (*row, *form)
        if first[_STATUS] == "ok" and new[_STATUS] != "ok":
            self._sums.add(first[1], first[2], (-1, *(-value for value in first[_FIRST:_LAST])))
            self._query("DELETE FROM entries WHERE id = ?", (row[0],))
            self._database.insert("entries", COLUMNS, [row])
            self._sums.add(row[1], row[2], (1, *row[_FIRST:_LAST]))
        self._repeated += 1
        if entry_of(first) != entry_of(new):
            self._differing.append(unpacked(row[0]))


class _Forms:
    """The numbers of forms, for one transaction: before the next, another process may make the tables again."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database
        self._places: dict[Form, int] = {}
        self._numbers: list[int] = []

    def place(self, form: Form) -> int:
        """Return where in `numbers` a form's number will be."""
        return self._places.setdefault(form, len(self._places))

    def columns(self, place: int) -> tuple[Any, ...]:
        """Return the form of a place."""
        return columns_of(next(form for form, at in self._places.items() if at == place))

    def forget(self) -> None:
        """Begin anew if there are many."""
        if len(self._places) > _MOST:
            self._places, self._numbers = {}, []

    def numbers(self) -> list[int]:
        """Return the numbers of all forms that have a place; new ones are written."""
        query, digests = self._database.query, list[bytes]()
        wanted: dict[bytes, tuple[Any, ...]] = {}
        for form in islice(self._places, len(self._numbers), None):
            columns = columns_of(form)
            digests.append(digest_of(columns))
            wanted[digests[-1]] = columns
        known: dict[bytes, int] = {}
        for at in range(0, len(digests), _ASKED):
            some = digests[at : at + _ASKED]
            marks = ", ".join("?" * len(some))
            known |= {
                digest: n for n, digest in query(f"SELECT number, digest FROM forms WHERE digest IN ({marks})", some)
            }
        if new := [digest for digest in wanted if digest not in known]:
            ((last,),) = query("SELECT COALESCE(MAX(number), 0) FROM forms")
            known |= {digest: number for number, digest in enumerate(new, last + 1)}
            rows = [(known[digest], digest, *wanted[digest]) for digest in new]
            self._database.insert("forms", ("number", "digest", *FORM), rows)
        self._numbers += [known[digest] for digest in digests]
        return self._numbers
