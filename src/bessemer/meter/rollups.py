"""Sums by the hour and by the day, kept beside the entries: a month of ten million entries is read in a blink.

A roll-up is changed in the transaction that takes its entry in, so the two never differ. Minutes are summed from the
entries themselves.

Owns the table ``sums`` and the questions to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from operator import add
from typing import Any

from bessemer.core.nouns import EnergyClass, Usage
from bessemer.core.usage import UsageQuery, UsageRow
from bessemer.meter.rows import SUMS

HOUR, DAY = 3600, 86_400
BILLION = 1_000_000_000
"""Quotients and remainders are summed apart: whole numbers end at 9.2e18 there, a big site's microjoules do not."""

SUMMED = ", ".join(f"SUM({name} / {BILLION}), SUM({name} % {BILLION})" for name in SUMS)

_LARGE = 2**62
"""No sum in the table reaches it, and what is added at once is below half of it: so none outgrows its column."""
_AT_ONCE = 20_000
"""From so many sums on they are written at once."""
_TOGETHER = 25
"""Sums in one statement: more take psycopg longer to read than they save on the way."""

_KEY = ("form", "width", "start", "part")
_COLUMNS = (*_KEY, "entries", *SUMS)
_ADD = (
    f" ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = sums.{name} + excluded.{name}" for name in ("entries", *SUMS))
    + " WHERE "
    + " AND ".join(f"ABS(sums.{name} + excluded.{name}) < {_LARGE}" for name in SUMS)
    + " RETURNING form, width, start"
)
"""Gives no row where a sum would outgrow its column."""

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
_Group = tuple[int, int, int]


class Sums:
    """Sums on their way into the table: those of one form and hour are added up before they are written."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._hours: dict[tuple[int, int], list[int]] = {}

    def add(self, form: int, started_at: float, amounts: Sequence[int]) -> None:
        """Add a number of entries and amounts, in the order of `SUMS`, to a form's; take them away if negative."""
        group = (form, int(started_at // HOUR))
        sums = self._hours.get(group)
        if sums is None:
            if len(self._hours) >= _AT_ONCE:
                self.write()
            self._hours[group] = list(amounts)
        else:
            self._hours[group] = list(map(add, sums, amounts))

    def write(self) -> None:
        """Write all sums."""
        hours, self._hours = self._hours, {}
        days: dict[tuple[int, int], list[int]] = {}
        for (form, hour), sums in hours.items():
            day = (form, hour * HOUR // DAY)
            days[day] = list(map(add, days[day], sums)) if day in days else sums
        rounds: dict[int, list[tuple[_Group, list[int]]]] = defaultdict(list)
        for width, found in ((HOUR, hours), (DAY, days)):
            for (form, number), sums in sorted(found.items()):
                for turn, piece in enumerate(_pieces(sums)):
                    rounds[turn].append(((form, width, number * width), piece))
        for groups in rounds.values():
            for at in range(0, len(groups), _TOGETHER):
                self._write(groups[at : at + _TOGETHER])

    def _write(self, groups: list[tuple[_Group, list[int]]]) -> None:
        part = 0
        while groups:  # a group whose sums are large goes on in its next part
            marks = ", ".join([f"({', '.join('?' * len(_COLUMNS))})"] * len(groups))
            values = [value for group, sums in groups for value in (*group, part, *sums)]
            taken = set(self._query(f"INSERT INTO sums ({', '.join(_COLUMNS)}) VALUES {marks}{_ADD}", values))
            groups = [each for each in groups if each[0] not in taken]
            part += 1


def _pieces(sums: list[int]) -> Iterator[list[int]]:
    """Yield sums that are small enough to be added to others, and make these."""
    most = _LARGE // 2 - 1
    while max(sums) > most or min(sums) < -most:
        piece = [max(-most, min(most, value)) for value in sums]
        yield piece
        sums = [value - part for value, part in zip(sums, piece, strict=True)]
    yield sums


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
