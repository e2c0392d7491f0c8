"""Holds the sums of the ledger against its entries, each for itself: a promise is worth what checks it.

Owns the comparison. Adds up in whole numbers of its own, in no way that the sums were made by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from operator import add
from typing import Any

from bessemer.meter.rollups import DAY, HOUR
from bessemer.meter.rows import SUMS

_AT_ONCE = 10_000
_NAMES = ("entries", *SUMS)

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
_Buckets = dict[tuple[int, int], list[int]]
"""By width and beginning, what `_NAMES` says."""


def drifts(query: Query) -> Iterator[str]:
    """Yield what differs, in words: each sum that is not that of its hour's or day's entries.

    Args:
        query: asks the database; all answers must be of one moment.
    """
    seen = 0
    for (form,) in query("SELECT number FROM forms UNION SELECT form FROM sums ORDER BY 1", ()):
        kept, counted = _kept(query, form), _counted(query, form)
        seen += sum(sums[0] for (width, _), sums in counted.items() if width == DAY)
        for width, start in sorted(kept.keys() | counted.keys()):
            sums = kept[width, start], counted[width, start]
            if sums[0] != sums[1]:
                bucket = f"{'day' if width == DAY else 'hour'} from {datetime.fromtimestamp(start, UTC):%Y-%m-%d %H:%M}"
                wrong = [told for told in zip(_NAMES, *sums, strict=True) if told[1] != told[2]]
                yield from (f"{name} of the {bucket} {told:,}, not {found:,}" for name, told, found in wrong)
    ((entries,),) = query("SELECT COUNT(*) FROM entries", ())
    if entries != seen:
        yield f"{entries - seen:,} entries are in no sum"


def _empty() -> _Buckets:
    return defaultdict(lambda: [0] * len(_NAMES))


def _kept(query: Query, form: int) -> _Buckets:
    found = _empty()
    for width, start, *sums in query(f"SELECT width, start, {', '.join(_NAMES)} FROM sums WHERE form = ?", (form,)):
        found[width, start] = list(map(add, found[width, start], sums))
    return found


def _counted(query: Query, form: int) -> _Buckets:
    found, last = _empty(), (-1e300, b"")
    sql = (
        f"SELECT started_at, id, {', '.join(SUMS)} FROM entries WHERE form = ? AND (started_at, id) > (?, ?)"
        f" ORDER BY started_at, id LIMIT {_AT_ONCE}"
    )
    while rows := query(sql, (form, *last)):
        for started_at, _, *amounts in rows:
            hour = (HOUR, int(started_at // HOUR) * HOUR)
            found[hour] = list(map(add, found[hour], (1, *amounts)))
        last = rows[-1][:2]
    for (_, start), sums in list(found.items()):
        day = (DAY, start // DAY * DAY)
        found[day] = list(map(add, found[day], sums))
    return found
