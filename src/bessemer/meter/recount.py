"""Holds the sums of the ledger against its entries, each for itself: a promise is worth what checks it.

Owns the comparison. Adds up in whole numbers of its own, in no way that the sums were made by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
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
            bucket = f"the {'day' if width == DAY else 'hour'} from {datetime.fromtimestamp(start, UTC):%Y-%m-%d %H:%M}"
            for name, told, found in zip(_NAMES, kept[width, start], counted[width, start], strict=True):
                if told != found:
                    yield f"{name} of {bucket} {told:,}, not {found:,}"
    ((entries,),) = query("SELECT COUNT(*) FROM entries", ())
    if entries != seen:
        yield f"{entries - seen:,} entries are in no sum"


def _empty() -> _Buckets:
    return defaultdict(lambda: [0] * len(_NAMES))


def _kept(query: Query, form: int) -> _Buckets:
    found = _empty()
    for width, start, *sums in query(f"SELECT width, start, {', '.join(_NAMES)} FROM sums WHERE form = ?", (form,)):
        for place, value in enumerate(sums):
            found[width, start][place] += value
    return found


def _counted(query: Query, form: int) -> _Buckets:
    found, last = _empty(), (-1e300, b"")
    sql = (
        f"SELECT started_at, id, {', '.join(SUMS)} FROM entries WHERE form = ? AND (started_at, id) > (?, ?)"
        f" ORDER BY started_at, id LIMIT {_AT_ONCE}"
    )
    while rows := query(sql, (form, *last)):
        for started_at, _, *amounts in rows:
            sums = found[HOUR, int(started_at // HOUR) * HOUR]
            for place, value in enumerate((1, *amounts)):
                sums[place] += value
        last = rows[-1][:2]
    for (_, start), sums in list(found.items()):
        for place, value in enumerate(sums):
            found[DAY, start // DAY * DAY][place] += value
    return found
