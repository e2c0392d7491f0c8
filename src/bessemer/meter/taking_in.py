"""Takes records of the journal into the ledger's tables, many at once: each entry once, and its hour's sums with it.

Of two entries with one id the first counts, but one that did not end well wins over one that says "ok". All happens in
the caller's transaction.

Owns the rows. Knows no file; where a record stands and whether it is whole is the journal's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bessemer.meter.database import LedgerDatabase
from bessemer.meter.rollups import Sums
from bessemer.meter.rows import BOOKED, COLUMNS, FORM, SUMS, Form, Row, digest_of, entry_of, read, unpacked

AT_ONCE = 1000
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
        self._database, self._query, self._sums = database, database.query, Sums(database.query)
        self._forms = Forms(database)
        self._waiting: list[tuple[Form, bytes, float, tuple[int, ...], bytes, str | None]] = []
        self._added = self._repeated = 0
        self._differing: list[str] = []

    def add(self, text: bytes) -> None:
        """Take an entry, as JSON."""
        if self._database.is_postgres and b"\\u0000" in text:
            text = text.replace(b"\\u0000", b"\\ufffd")  # the one character that it cannot keep
        self._waiting.append(read(text))
        if len(self._waiting) >= AT_ONCE:
            self._write()

    def end(self) -> SyncReport:
        """Write what is left."""
        self._write()
        self._sums.write()
        return SyncReport(self._added, self._repeated, tuple(self._differing))

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        numbers = self._forms.numbers({each[0] for each in waiting})
        rows = [
            (id, numbers[form], at, *sums, exact, subject)
            for form, id, at, sums, exact, subject in waiting
        ]  # fmt: skip
        there = self._database.insert_new("entries", COLUMNS, rows) if rows else []
        again = set(there)
        add = self._sums.add
        for number, row in enumerate(rows):
            if number not in again:
                add(row[1], row[2], (1, *waiting[number][3]))
        self._added += len(rows) - len(there)
        for number in there:
            self._meet(waiting[number][0], rows[number])

    def _meet(self, form: Form, row: Row) -> None:
        """Take an entry whose id is there already."""
        sql = f"SELECT {BOOKED} FROM entries CROSS JOIN forms WHERE form = number AND id = ?"
        (first,) = self._query(sql, (row[0],))
        new = (*row, *form)
        if first[_STATUS] == "ok" and new[_STATUS] != "ok":
            self._sums.add(first[1], first[2], [-1, *(-value for value in first[_FIRST:_LAST])])
            self._query("DELETE FROM entries WHERE id = ?", (row[0],))
            self._database.insert("entries", COLUMNS, [row])
            self._sums.add(row[1], row[2], (1, *row[_FIRST:_LAST]))
        self._repeated += 1
        if entry_of(first) != entry_of(new):
            self._differing.append(unpacked(row[0]))


class Forms:
    """The numbers of forms, of one transaction: another may have made the tables again."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database, self._known = database, dict[Form, int]()

    def numbers(self, forms: set[Form]) -> dict[Form, int]:
        """Return the numbers of at least these forms; a new one is written."""
        if missing := forms - self._known.keys():
            if len(self._known) > _MOST:
                self._known = {}
                missing = forms
            self._find(list(missing))
        return self._known

    def _find(self, missing: Sequence[Form]) -> None:
        query, new = self._database.query, {digest_of(form): form for form in missing}
        digests = list(new)
        for at in range(0, len(digests), _ASKED):
            some = digests[at : at + _ASKED]
            marks = ", ".join("?" * len(some))
            for number, digest in query(f"SELECT number, digest FROM forms WHERE digest IN ({marks})", some):
                self._known[new.pop(digest)] = number
        if new:
            ((last,),) = query("SELECT COALESCE(MAX(number), 0) FROM forms")
            rows = [(last + place, digest, *form) for place, (digest, form) in enumerate(new.items(), 1)]
            self._database.insert("forms", ("number", "digest", *FORM), rows)
            self._known |= {form: row[0] for form, row in zip(new.values(), rows, strict=True)}
