"""Sums by the hour, kept beside the entries as these are taken in: a month of ten million entries is read in a blink.

A roll-up is changed in the transaction that takes its entry in, so the two never differ. Minutes are summed from the
entries themselves.

Owns the table ``hours`` and the questions to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bessemer.core.nouns import EnergyClass, Usage
from bessemer.core.usage import UsageQuery, UsageRow

HOUR = 3600
BILLION = 1_000_000_000
"""Quotients and remainders are summed apart: whole numbers end at 9.2e18 there, a big site's microjoules do not."""

_LARGE = 2**62
_AT_ONCE = 20_000
_TOGETHER = 25
"""Groups in one statement: more take psycopg longer to read than they save on the way."""
"""From this sum, and this many sums, on they are written at once."""

KEYS = (
    *("kind", "name", "project", "key_id", "model", "service_tier", "batch", "status"),
    *("energy_class", "currency", "price_version"),
)
SUMS = (
    *("microseconds", "input_tokens", "output_tokens", "cached_tokens", "units"),
    *("microjoules", "microjoules_low", "microjoules_high"),
    *("micrograms", "micrograms_low", "micrograms_high", "cost_micros", "charge_micros"),
)

_COLUMNS = ("hour", "part", *KEYS, "entries", *SUMS)
_ADD = (
    f" ON CONFLICT (hour, part, {', '.join(KEYS)}) DO UPDATE SET "
    + ", ".join(f"{name} = hours.{name} + excluded.{name}" for name in ("entries", *SUMS))
    + " WHERE "
    + " AND ".join(f"ABS({table}.{name}) < {_LARGE}" for name in SUMS for table in ("hours", "excluded"))
    + f" RETURNING hour, {', '.join(KEYS)}"
)
"""Gives no row where a sum would outgrow its column."""

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


class Sums:
    """Sums on their way into ``hours``: those of one group are added up before they are written."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._groups: dict[tuple[Any, ...], list[int]] = {}

    def add(self, started_at: float, keys: tuple[Any, ...], entries: int, amounts: Sequence[int]) -> None:
        """Add amounts, in the order of `SUMS`, to the sums of an hour and group; take them away if negative."""
        group = (int(started_at // HOUR) * HOUR, *keys)
        given = [entries, *amounts]
        sums = self._groups.get(group)
        if sums is None:
            self._groups[group] = given
            if len(self._groups) >= _AT_ONCE:
                self.write()
            return
        added = [old + new for old, new in zip(sums, given, strict=True)]
        if max(map(abs, added)) >= _LARGE:
            self._write({group: sums})
            added = given
        self._groups[group] = added

    def write(self) -> None:
        """Write all sums."""
        groups, self._groups = list(self._groups.items()), {}
        for start in range(0, len(groups), _TOGETHER):
            self._write(dict(groups[start : start + _TOGETHER]))

    def _write(self, groups: Mapping[tuple[Any, ...], Sequence[int]]) -> None:
        part = 0
        while groups:  # an hour whose sums are large goes on in its next part
            marks = ", ".join([f"({', '.join('?' * len(_COLUMNS))})"] * len(groups))
            values = [value for (hour, *keys), sums in groups.items() for value in (hour, part, *keys, *sums)]
            taken = set(self._query(f"INSERT INTO hours ({', '.join(_COLUMNS)}) VALUES {marks}{_ADD}", values))
            groups = {group: sums for group, sums in groups.items() if group not in taken}
            part += 1


def usage_rows(query: Query, second: str, wanted: UsageQuery) -> list[UsageRow]:
    """Return what `wanted` asks for, by bucket and group; groups without an entry are left out.

    Args:
        query: asks the database.
        second: SQL for the whole second in which an entry began.
        wanted: the question.
    """
    start = wanted.start // wanted.width * wanted.width
    by_minute = wanted.width < HOUR
    at, counted = (second, "COUNT(*)") if by_minute else ("hour", "SUM(entries)")
    where, values = _where(wanted)
    bucket = f"{at} / {wanted.width} * {wanted.width}"
    keys = [*wanted.group_by, "currency", "energy_class"]
    sums = ", ".join(f"SUM({name} / {BILLION}), SUM({name} % {BILLION})" for name in SUMS)
    rows = query(
        f"SELECT {bucket}, {', '.join(keys)}, {counted}, {sums} FROM {'entries' if by_minute else 'hours'} "
        f"WHERE {'started_at' if by_minute else 'hour'} >= ? AND {'started_at' if by_minute else 'hour'} < ?{where} "
        f"GROUP BY {bucket}, {', '.join(keys)}",
        (start, -(-wanted.end // wanted.width) * wanted.width, *values),
    )
    found: dict[tuple[Any, ...], UsageRow] = {}
    for row in rows:
        key, energy_class = row[: len(keys)], EnergyClass(row[len(keys)])
        entries, *parts = map(int, row[len(keys) + 1 :])
        if not entries:
            continue
        sums_of = {name: parts[2 * i] * BILLION + parts[2 * i + 1] for i, name in enumerate(SUMS)}
        made = _row(wanted, key, entries, sums_of, energy_class)
        found[key] = found[key].plus(made) if key in found else made
    return [found[key] for key in sorted(found)]


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
