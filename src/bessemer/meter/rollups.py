"""Sums by the hour and by the day, kept beside the entries: a month of ten million entries is read in a blink.

A roll-up is changed in the transaction that takes its entry in, so the two never differ. Minutes are summed from the
entries themselves.

Owns the table ``sums`` and the questions to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import add, sub
from typing import Any

from bessemer.core.nouns import EnergyClass, Usage
from bessemer.core.usage import UsageQuery, UsageRow
from bessemer.meter.database import LedgerDatabase
from bessemer.meter.rows import SUMS, Amounts

HOUR, DAY = 3600, 86_400
BILLION = 1_000_000_000
"""Quotients and remainders are summed apart: whole numbers end at 9.2e18 there, a big site's microjoules do not."""

SUMMED = ", ".join(f"SUM({name} / {BILLION}), SUM({name} % {BILLION})" for name in SUMS)

_MOST = 2**61
"""More is not added at once, so that no sum outgrows its column unnoticed."""
_AT_ONCE = 20_000
"""From so many sums on they are written at once."""

_KEY = ("form", "width", "start", "part")
Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


class Sums:
    """Sums on their way into the table: those of one form and hour are added up before they are written."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database
        self._hours: dict[tuple[int, int], Sequence[int]] = {}

    def add(self, form: int, started_at: float, amounts: Amounts) -> None:
        """Add an entry's amounts to its form's, or take them away if negative."""
        group = (form, int(started_at // HOUR))
        sums = self._hours.get(group)
        if sums is not None:
            self._hours[group] = list(map(add, sums, amounts))
            return
        if len(self._hours) >= _AT_ONCE:
            self.write()
        self._hours[group] = amounts

    def write(self) -> None:
        """Write all sums."""
        hours, self._hours = self._hours, {}
        days: dict[tuple[int, int], Sequence[int]] = {}
        for (form, hour), sums in hours.items():
            day = (form, hour * HOUR // DAY)
            days[day] = list(map(add, days[day], sums)) if day in days else sums
        found = [((form, HOUR, hour * HOUR), sums) for (form, hour), sums in hours.items()]
        found += [((form, DAY, day * DAY), sums) for (form, day), sums in days.items()]
        found.sort()
        part = 0
        while found:  # what is too large for one part goes on in the next
            left: dict[tuple[int, int, int], Sequence[int]] = {}
            for number, (group, sums) in enumerate(found):
                if max(sums) > _MOST or min(sums) < -_MOST:
                    piece = [max(-_MOST, min(_MOST, value)) for value in sums]
                    found[number], left[group] = (group, piece), list(map(sub, sums, piece))
            rows = [(*group, part, *sums) for group, sums in found]
            for number in self._database.add_up("sums", _KEY, ("entries", *SUMS), rows):
                group, sums = found[number]
                left[group] = list(map(add, left[group], sums)) if group in left else sums
            found, part = list(left.items()), part + 1


def pieces(since: float) -> Iterator[tuple[str, str, str, tuple[float, ...]]]:
    """Yield the tables that together have all since then, how to count in them, and the condition: days, if need be
    with the hours before the first whole one, and the entries before the first whole hour."""
    if not since:
        yield "sums", "SUM(entries)", "width = ?", (DAY,)
        return
    hour = -int(-since // HOUR) * HOUR
    day = -(-hour // DAY) * DAY
    yield "entries", "COUNT(*)", "started_at >= ? AND started_at < ?", (since, hour)
    yield "sums", "SUM(entries)", "width = ? AND start >= ? AND start < ?", (HOUR, hour, day)
    yield "sums", "SUM(entries)", "width = ? AND start >= ?", (DAY, day)


def usage_rows(query: Query, second: str, wanted: UsageQuery) -> list[UsageRow]:
    """Return what `wanted` asks for, by bucket and group; groups without an entry are left out.

    Args:
        query: asks the database.
        second: SQL for the whole second in which an entry began.
        wanted: the question.
    """
    width = wanted.width
    by_minute = width < HOUR
    table, at, counted = ("entries", "started_at", "COUNT(*)") if by_minute else ("sums", "start", "SUM(entries)")
    bucket = f"{second} / {width} * {width}" if by_minute else "start"
    where, values = _where(wanted)
    if not by_minute:
        where, values = f" AND width = ?{where}", [width, *values]
    keys = [*wanted.group_by, "currency", "energy_class"]
    names = ", ".join([bucket, *keys])
    # The forms first: there are few, and the rest of the question has an index by form and time.
    rows = query(
        f"SELECT {names}, {counted}, {SUMMED} FROM forms CROSS JOIN {table} "
        f"WHERE form = number AND {at} >= ? AND {at} < ?{where} GROUP BY {names}",
        (wanted.start // width * width, -(-wanted.end // width) * width, *values),
    )
    found: dict[tuple[Any, ...], UsageRow] = {}
    for row in rows:
        key, energy_class = row[: len(keys)], EnergyClass(row[len(keys)])
        entries, *parts = map(int, row[len(keys) + 1 :])
        if not entries:
            continue
        made = _row(wanted, key, entries, whole(parts), energy_class)
        found[key] = found[key].plus(made) if key in found else made
    return [found[key] for key in sorted(found)]


def whole(parts: Sequence[Any]) -> dict[str, int]:
    """Return the sums by name from what `SUMMED` gives."""
    return {name: int(parts[2 * i]) * BILLION + int(parts[2 * i + 1]) for i, name in enumerate(SUMS)}


def _where(wanted: UsageQuery) -> tuple[str, list[Any]]:
    said, values = "", list[Any]()
    for name, allowed in (("project", wanted.projects), ("key_id", wanted.key_ids), ("model", wanted.models)):
        if allowed:
            said += f" AND {name} IN ({', '.join('?' * len(allowed))})"
            values += allowed
    if wanted.kind:
        said += " AND kind = ?"
        values.append(wanted.kind)
    if wanted.batch is not None:
        said += " AND batch = ?"
        values.append("1" if wanted.batch else "")
    if wanted.embeddings is not None:
        said += " AND name = 'embeddings'" if wanted.embeddings else " AND name = ''"
    return said + (" AND status <> 'error'" if wanted.charged else ""), values


def _row(
    wanted: UsageQuery, key: tuple[Any, ...], entries: int, sums: dict[str, int], energy_class: EnergyClass
) -> UsageRow:
    start, *group, currency = key
    usage = Usage(**{name: sums[name] for name in Usage.model_fields})
    amounts = {name: sums[name] for name in UsageRow.model_fields if name in sums and name not in Usage.model_fields}
    told = dict(zip(wanted.group_by, group, strict=True))
    return UsageRow(
        start=start, group=told, entries=entries, usage=usage, currency=currency, energy_class=energy_class, **amounts
    )
