"""The ledger: an index over journals in SQLite or Postgres, for questions. It can be deleted; `sync` makes it again.

Filling is idempotent: an entry counts once by its id, however often and in whatever pieces the journal is read. Of two
that differ the first counts, but one that did not end well wins over one that says "ok": a disk may keep a record that
it refused to confirm, and then the answer was never given.

A ledger in Postgres may be filled from several journals, each by whoever has its folder.

Owns the tables. Knows the journal's records and the entries in them, and no meter.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bessemer.core.errors import ConfigError, IntegrityError, NotFound
from bessemer.core.nouns import Boundary, EnergyClass, Entry, Usage
from bessemer.core.units import Money
from bessemer.core.usage import UsageQuery, UsageRow
from bessemer.meter.chain import Position
from bessemer.meter.database import LedgerDatabase
from bessemer.meter.energy import MICRO
from bessemer.meter.journal import JournalReport, SegmentReader, segments, verify
from bessemer.meter.layout import anchor, arrived, awaited, make_tables, told_of
from bessemer.meter.recount import drifts
from bessemer.meter.rollups import DAY, HOUR, SUMMED, pieces, usage_rows, whole
from bessemer.meter.rows import BOOKED, entry_of, packed
from bessemer.meter.taking_in import SyncReport, TakingIn
from bessemer.meter.totals import Amount, Total

logger = logging.getLogger("bessemer.meter")

GROUPS = ("kind", "name", "run", "project", "key_id", "model", "status")

_MUCH = 256 * 1024 * 1024
"""Bytes of the journal that take some seconds to take in: it is said before."""
_SEGMENT = "name, position, seq, hash"
_JOINED = "forms CROSS JOIN entries"
"""The few forms first, which SQLite then keeps to; each has its entries in order of time."""


class Booked(NamedTuple):
    """What an entry is about, in the words of its subject, and how it ended."""

    kind: str
    run: str
    name: str
    model: str
    status: str


class Ledger:
    """Answers questions about what was booked; safe to use from several threads and processes.

    Args:
        where: the database file, made if missing, or the URL of a Postgres.
        journal: the journal's folder.

    Raises:
        BackendError: the server cannot be reached.
        ConfigError: the tables there are somebody else's, or a newer version's.
        MissingDependency: psycopg is not installed.
    """

    def __init__(self, where: Path | str, journal: Path) -> None:
        self._journal = journal
        self._database = LedgerDatabase(where)
        self._query = self._database.query
        self._name, self._is_noted = "", False
        try:
            make_tables(self._database)
        except BaseException:
            self._database.close()
            raise

    def sync(self) -> SyncReport:
        """Take in what is new in the journal.

        Raises:
            IntegrityError: a record is damaged, or a segment is shorter than before. Everything else is taken in: what
                stands before it, and all other segments.
        """
        self._name = self._name or self._named()
        read = dict(self._query("SELECT name, position FROM segments WHERE journal = ?", (self._name,)))
        report = SyncReport()
        damage: list[IntegrityError] = []
        paths = segments(self._journal)
        unread = sum(path.stat().st_size - read.get(path.name, 0) for path in paths)
        if unread > _MUCH:
            told = "taking %.1f GB of the journal into the ledger, as after an upgrade: minutes for ten million entries"
            logger.warning(told, unread / 1e9)
        for path in paths:
            if path.stat().st_size != read.get(path.name, 0):
                try:
                    report += self._take_in(path)
                except IntegrityError as error:
                    damage.append(error)
        if damage:
            raise damage[0]
        if self._name and not self._is_noted:
            arrived(self._database, self._name)
            self._is_noted = True
        return report

    def awaited(self) -> tuple[str, ...]:
        """Return the journals of other hosts whose entries are missing since an upgrade made the tables again."""
        return awaited(self._database)

    def entry(self, entry_id: str) -> Entry:
        """Return one entry.

        Raises:
            NotFound: no entry has that id; `sync` may be needed.
        """
        sql = f"SELECT {BOOKED} FROM entries CROSS JOIN forms WHERE form = number AND id = ?"
        rows = self._query(sql, (packed(entry_id),))
        if not rows:
            raise NotFound(f"no entry '{entry_id}' in the ledger", hint="sync() takes in what was just booked.")
        return entry_of(rows[0])

    def entries(
        self, *, kind: str = "", run: str = "", project: str = "", model: str = "", since: float = 0, limit: int = 100
    ) -> list[Entry]:
        """Return entries, newest first; empty arguments do not filter.

        Args:
            since: earliest start, Unix seconds.
            limit: how many at most; -1 is all.
        """
        where, values = _where(kind=kind, run=run, project=project, model=model)
        with self._database.snapshot():
            if where and limit >= 0:
                since = self._lately(where, values, since, limit)
            later, most = " AND started_at >= ?" * bool(since), "" if limit < 0 else "LIMIT ?"
            given = (*values, *((since,) if since else ()), *((limit,) if most else ()))
            tables = _JOINED if where else "entries CROSS JOIN forms"
            conditions = f"WHERE form = number{where}{later}"
            sql = f"SELECT {BOOKED} FROM {tables} {conditions} ORDER BY started_at DESC, id DESC {most}"
            rows = self._query(sql, given)
        return [entry_of(row) for row in rows]

    def _lately(self, where: str, values: tuple[Any, ...], since: float, limit: int) -> float:
        """Return from when on there are at least so many entries, or `since` if there are fewer: the sums know."""
        for width in (DAY, HOUR):
            counted, asked = 0, (*values, width, (since - width) if since else -1e300)
            sql = f"SELECT start, SUM(entries) FROM forms CROSS JOIN sums WHERE form = number{where}"
            for start, entries in self._query(
                f"{sql} AND width = ? AND start > ? GROUP BY start ORDER BY 1 DESC", asked
            ):
                counted += int(entries)
                if counted >= limit:
                    since = max(since, start) if since else start
                    break
            else:
                return since
        return since

    def each(self, at_once: int = 10_000) -> Iterator[Entry]:
        """Yield all entries in the order of their ids, so many read at once."""
        sql = f"SELECT {BOOKED} FROM entries CROSS JOIN forms WHERE form = number AND id > ? ORDER BY id LIMIT ?"
        last = b""
        while rows := self._query(sql, (last, at_once)):
            yield from map(entry_of, rows)
            last = rows[-1][0]

    def spans(self, *, since: float = 0) -> Iterator[tuple[Booked, float, float]]:
        """Yield what each entry was, with start and duration, in order of start.

        Args:
            since: earliest start, Unix seconds.
        """
        columns, start, id = "kind, run, name, model, status, started_at, microseconds, id", since or -1e300, b""
        sql = (
            f"SELECT {columns} FROM entries CROSS JOIN forms WHERE form = number AND (started_at, id) > (?, ?)"
            " ORDER BY started_at, id LIMIT 4096"
        )
        while rows := self._query(sql, (start, id)):
            for kind, run, name, model, status, at, microseconds, _ in rows:
                yield Booked(kind, run, name, model, status), at, microseconds / MICRO
            start, id = rows[-1][5], rows[-1][7]

    def totals(
        self,
        group_by: Sequence[str] = (),
        *,
        kind: str = "",
        run: str = "",
        project: str = "",
        model: str = "",
        since: float = 0,
    ) -> list[Total]:
        """Return one total for each group, in order of the groups; without `group_by` one or none.

        Args:
            group_by: any of `GROUPS`.
            since: earliest start, Unix seconds.

        Raises:
            ConfigError: there is nothing of that name to group by.
        """
        if unknown := [name for name in group_by if name not in GROUPS]:
            raise ConfigError(f"cannot group by {', '.join(unknown)}", hint=f"Group by any of: {', '.join(GROUPS)}")
        names = ", ".join((*group_by, *_RESTS_ON))
        where, values = _where(kind=kind, run=run, project=project, model=model)
        groups: dict[tuple[str, ...], list[_Row]] = {}
        with self._database.snapshot():
            for table, counted, condition, bounds in pieces(since):
                asked = (
                    f"SELECT {names}, {counted}, {SUMMED} FROM forms CROSS JOIN {table}"
                    f" WHERE form = number{where} AND {condition} GROUP BY {names}"
                )
                for row in self._query(asked, (*values, *bounds)):
                    if found := _Row.read(row[len(group_by) :]):
                        groups.setdefault(tuple(row[: len(group_by)]), []).append(found)
        return [_total(dict(zip(group_by, key, strict=True)), found) for key, found in sorted(groups.items())]

    def usage(self, query: UsageQuery) -> list[UsageRow]:
        """Return sums by bucket of time and group; see `bessemer.meter.rollups`."""
        return usage_rows(self._query, self._database.dialect.second, query)

    def usage_as_read(self, query: UsageQuery) -> tuple[list[UsageRow], dict[str, int] | None]:
        """Return sums as `usage`, and how many records of each segment they rest on; None if other hosts booked."""
        with self._database.snapshot():
            rows = self._query("SELECT journal, name, seq FROM segments", ())
            alone = all(journal == self._name for journal, _, _ in rows)
            return self.usage(query), {name: seq for _, name, seq in rows} if alone else None

    def anchored(self) -> tuple[int, str] | None:
        """Return number and hash of a record that the register of invoices has, as noted here; None if none is."""
        rows = self._query("SELECT seq, hash FROM ledger_anchors WHERE journal = ?", (self._name,))
        return (int(rows[0][0]), rows[0][1]) if rows else None

    def anchor(self, seq: int, hash: str) -> None:
        """Note how far the register of invoices has grown: then its end cannot be cut off unseen."""
        if self._name or not self._database.is_postgres:
            anchor(self._database, self._name, seq, hash)

    def drifts(self) -> list[str]:
        """Return which sums are not those of the entries, in words; all entries are read."""
        with self._database.snapshot(unhurried=True):
            return list(drifts(self._query))

    def verify(self) -> JournalReport:
        """Check the whole journal, also against what this ledger has seen of it.

        Raises:
            IntegrityError: names the first bad record, or a segment that was replaced, cut or removed.
        """
        self._name = self._name or self._named()
        rows = self._query(f"SELECT {_SEGMENT} FROM segments WHERE journal = ?", (self._name,))
        seen = {row[0]: Position(*row) for row in rows}
        for name, position in seen.items():
            path = self._journal / name
            if not path.exists():
                raise IntegrityError(f"segment {name} is gone", hint="Restore it from a copy.")
            reader = SegmentReader(path)
            at = next((record.after for record in reader if record.after.offset >= position.offset), None)
            if at != position:
                raise IntegrityError(
                    f"record {position.seq} of {name} is not the one that was read before",
                    hint="Somebody rewrote the segment: restore it from a copy.",
                )
        return verify(self._journal)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _named(self) -> str:
        """Return the name of the journal in a ledger that it may share with others; it stays with the folder."""
        path = self._journal / "name"
        if not self._database.is_postgres or not self._journal.exists():
            return ""  # alone, or nothing was booked yet: looking makes nothing
        if not path.exists():
            new = path.with_name(f"name.{secrets.token_hex(8)}")
            new.write_text(secrets.token_hex(16))
            with suppress(FileExistsError):  # another process was first
                path.hardlink_to(new)
            new.unlink()
        return path.read_text()

    def _take_in(self, path: Path) -> SyncReport:
        with self._database.writing():
            sql = f"SELECT {_SEGMENT} FROM segments WHERE journal = ? AND name = ?"
            rows = self._query(sql, (self._name, path.name))
            reader = SegmentReader(path, Position(*rows[0]) if rows else None)
            damage: IntegrityError | None = None
            entries = TakingIn(self._database)
            try:
                for body in reader.bodies():
                    entries.add(body)
            except IntegrityError as error:
                damage = error  # the records before the bad one stay
            report, end = entries.end(), reader.end
            self._query("DELETE FROM segments WHERE journal = ? AND name = ?", (self._name, path.name))
            self._query(
                f"INSERT INTO segments (journal, {_SEGMENT}) VALUES (?, ?, ?, ?, ?)",
                (self._name, path.name, end.offset, end.seq, end.hash),
            )
        if damage:
            raise damage
        return report + SyncReport(torn_bytes=reader.torn_bytes)


def open_ledger(folder: Path, url: str = "") -> Ledger:
    """Return the ledger of a meter's folder, filled with what is in the journal now.

    Args:
        url: of a Postgres; SQLite in the folder unless given.

    Raises:
        BackendError: the server cannot be reached.
        ConfigError: the tables there are somebody else's, or a newer version's.
        IntegrityError: a record of the journal is damaged.
        MissingDependency: psycopg is not installed.
    """
    ledger = Ledger(url or folder / "ledger.sqlite", folder / "journal")
    try:
        ledger.sync()
        if missing := ledger.awaited():
            logger.warning("%s. %s", *told_of(missing))
    except BaseException:
        ledger.close()
        raise
    return ledger


_RESTS_ON = (
    *("energy_class", "currency", "boundary", "grid", "grams_per_kilowatt_hour", "grid_source", "price_version"),
)
"""Of what a total tells what it rests on."""


@dataclass(frozen=True, slots=True)
class _Row:
    energy_class: EnergyClass
    currency: str
    boundary: Boundary
    grid: str
    price_version: str
    count: int
    sums: dict[str, int]

    @classmethod
    def read(cls, row: Sequence[Any]) -> _Row | None:
        """Return what a row of sums says, or None if it sums nothing (any more)."""
        energy_class, currency, boundary, grid, grams_per_kilowatt_hour, source, version, count, *parts = row
        told = f"{grid}, {grams_per_kilowatt_hour:g} g/kWh, {source}"
        made = cls(EnergyClass(energy_class), currency, Boundary(boundary), told, version, int(count), whole(parts))
        return made if made.count else None


def _total(group: dict[str, str], rows: list[_Row]) -> Total:
    def summed(name: str, some: list[_Row] = rows) -> int:
        return sum(row.sums[name] for row in some)

    def amount(name: str, some: list[_Row] = rows) -> Amount:
        return Amount(*(summed(column, some) / MICRO for column in (name, f"{name}_low", f"{name}_high")))

    def money(name: str) -> tuple[Money, ...]:
        currencies = sorted({row.currency for row in rows})
        return tuple(
            Money(micros=summed(name, [row for row in rows if row.currency == currency]), currency=currency)
            for currency in currencies
        )

    classes = [cls for cls in EnergyClass if any(row.energy_class is cls for row in rows)]
    return Total(
        group=group,
        entries=sum(row.count for row in rows),
        usage=Usage(**{name: summed(name) for name in Usage.model_fields}),
        seconds=summed("microseconds") / MICRO,
        microjoules=summed("microjoules"),
        joules=amount("microjoules"),
        joules_by_class={cls: amount("microjoules", [r for r in rows if r.energy_class is cls]) for cls in classes},
        grams=amount("micrograms"),
        energy_costs=money("cost_micros"),
        charges=money("charge_micros"),
        boundaries=tuple(each for each in Boundary if any(row.boundary is each for row in rows)),
        grids=tuple(sorted({row.grid for row in rows})),
        price_versions=tuple(sorted({row.price_version for row in rows})),
    )


def _where(**equal: str) -> tuple[str, tuple[str, ...]]:
    """Return what more to ask of forms, and the values."""
    given = {name: value for name, value in equal.items() if value}
    return "".join(f" AND {name} = ?" for name in given), tuple(given.values())
