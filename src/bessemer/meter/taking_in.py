"""Takes records of the journal into the ledger's tables, many at once: each entry once, and its hour's sums with it.

Of two entries with one id the first counts, but one that did not end well wins over one that says "ok". All happens in
the caller's transaction.

Owns the rows. Knows no file; where a record stands and whether it is whole is the journal's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bessemer.core.nouns import Entry
from bessemer.meter.database import LedgerDatabase
from bessemer.meter.energy import MICRO
from bessemer.meter.rollups import KEYS, SUMS, Sums

COLUMNS = (
    *("id", "kind", "name", "run", "project", "key_id", "model", "service_tier", "batch", "status", "started_at"),
    *("microseconds", "input_tokens", "output_tokens", "cached_tokens", "units", "energy_class"),
    *("microjoules", "microjoules_low", "microjoules_high", "micrograms", "micrograms_low", "micrograms_high"),
    *("cost_micros", "charge_micros", "currency", "price_version", "body"),
)
AT_ONCE = 1000
_KEYS = tuple(COLUMNS.index(name) for name in KEYS)
_SUMS = tuple(COLUMNS.index(name) for name in SUMS)
_STARTED, _STATUS, _BODY = (COLUMNS.index(name) for name in ("started_at", "status", "body"))

_Row = tuple[Any, ...]


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
        self._rows: list[_Row] = []
        self._added = self._repeated = 0
        self._differing: list[str] = []

    def add(self, text: str) -> None:
        """Take an entry, as JSON."""
        if self._database.is_postgres:
            text = text.replace("\\u0000", "\\ufffd")  # the one character that it cannot keep
        self._rows.append(_row(text))
        if len(self._rows) >= AT_ONCE:
            self._write()

    def end(self) -> SyncReport:
        """Write what is left."""
        self._write()
        self._sums.write()
        return SyncReport(self._added, self._repeated, tuple(self._differing))

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        ids = json.dumps([row[0] for row in rows])
        known = {id for (id,) in self._query(self._database.dialect.known, (ids,))}
        fresh: dict[str, _Row] = {}
        again: list[_Row] = []
        for row in rows:
            if row[0] in known or row[0] in fresh:
                again.append(row)
            else:
                fresh[row[0]] = row
        if fresh:
            self._database.insert("entries", COLUMNS, list(fresh.values()))
        for row in fresh.values():
            self._count(row)
        self._added += len(fresh)
        for row in again:
            self._meet(row)

    def _meet(self, row: _Row) -> None:
        """Take an entry whose id is there already."""
        (first,) = self._query(f"SELECT {', '.join(COLUMNS)} FROM entries WHERE id = ?", (row[0],))
        if first[_STATUS] == "ok" and row[_STATUS] != "ok":
            self._count(first, -1)
            self._query("DELETE FROM entries WHERE id = ?", (row[0],))
            self._database.insert("entries", COLUMNS, [row])
            self._count(row)
        self._repeated += 1
        if json.loads(first[_BODY]) != json.loads(row[_BODY]):
            self._differing.append(row[0])

    def _count(self, row: _Row, sign: int = 1) -> None:
        self._sums.add(row[_STARTED], tuple(row[i] for i in _KEYS), sign, tuple(sign * row[i] for i in _SUMS))


def _row(text: str) -> _Row:
    entry = Entry.model_validate_json(text)
    subject, usage, measurement, carbon = entry.subject, entry.usage, entry.measurement, entry.carbon
    amounts = (measurement.joules, measurement.joules_low, measurement.joules_high)
    grams = (carbon.grams, carbon.grams_low, carbon.grams_high)
    return (
        *(entry.id, subject.kind, subject.name, subject.run, subject.project, subject.key_id, subject.model),
        *(subject.service_tier, "1" if subject.batch else "", entry.status, entry.started_at),
        round(measurement.seconds * MICRO),
        *(usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.units, measurement.energy_class.value),
        *[round(value * MICRO) for value in (*amounts, *grams)],
        *(entry.energy_cost.micros, entry.charge.micros, entry.charge.currency),
        *(entry.price_version.removesuffix(" default"), text),
    )
