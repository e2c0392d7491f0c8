"""``/v1/organization/usage/…`` and ``/v1/organization/costs``: what was used and charged, in buckets of time.

Buckets begin at whole minutes, hours or days in UTC; the first one is that in which `start_time` lies. Requests are
told apart by project, key, user, model, batch and service tier; `user_id` is whose key it was. Own
fields: `energy` (joules and the weakest class in the sum) and, in the costs, `micros`.

Owns queries, pages and shapes. What was used is asked of a `UsageSource`. Source: the published OpenAPI description of
OpenAI's API, usage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, TypeVar

from bessemer.core.usage import CostLine, UsageGroup, UsageQuery, UsageRow, UsageSource
from bessemer.serve.refusals import Refused, invalid

_WIDTHS: Mapping[str, Literal[60, 3600, 86_400]] = {"1m": 60, "1h": 3600, "1d": 86_400}
_LIMITS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
"""Buckets of a page by width: how many unless asked otherwise, and at most."""
_COST_LIMIT = (7, 180)

_GROUPS: Mapping[str, UsageGroup] = {
    "project_id": "project",
    "api_key_id": "key_id",
    "model": "model",
    "batch": "batch",
    "service_tier": "service_tier",
}
_NONE = ("api_source",)
"""Groups that other organizations have and this gateway does not: all is one group, null."""

NOT_HERE = (
    *("audio_speeches", "audio_transcriptions", "code_interpreter_sessions", "decisions", "file_search_calls"),
    *("images", "moderations", "vector_stores", "web_search_calls"),
)
"""Kinds of use that other organizations have: there is none here, and so every bucket is empty."""

Query = Mapping[str, Sequence[str]]
R = TypeVar("R", UsageRow, CostLine)


@dataclass(frozen=True, slots=True)
class UsageDesk:
    """Answers questions about usage and costs.

    Args:
        source: what was booked.
        clock: gives Unix seconds.
        users: says whose key each is that is somebody's, by ids.
    """

    source: UsageSource
    clock: Callable[[], float] = time.time
    users: Callable[[], Mapping[str, str]] = dict

    def completions(self, query: Query) -> dict[str, Any]:
        """Return a page of buckets of requests for answers.

        Raises:
            Refused: a parameter is wrong.
        """
        return self._usage(query, embeddings=False)

    def embeddings(self, query: Query) -> dict[str, Any]:
        """Return a page of buckets of requests for vectors; raises as `completions`."""
        return self._usage(query, embeddings=True)

    def nothing(self, query: Query) -> dict[str, Any]:
        """Return a page of buckets of what is not served here, which are empty; raises as `completions`."""
        _, pages = self.wanted(query)
        return pages.told(lambda start: [])

    def costs(self, query: Query) -> dict[str, Any]:
        """Return a page of daily buckets of what was charged; raises as `completions`."""
        groups = listed(query, "group_by", (*_NONE, *_COST_GROUPS))
        wanted, pages = self.wanted(query, ("1d",), _COST_LIMIT)
        items = query.get("line_items", ())
        lines = self.source.costs(wanted.model_copy(update={"charged": True, "kind": ""}))
        kept = [line for line in lines if not items or _item(line) in items]
        users = self.users() if "user_id" in groups else {}
        rows = by_start(kept)
        return pages.told(lambda start: _costs(rows.get(start, ()), groups, users))

    def _usage(self, query: Query, *, embeddings: bool) -> dict[str, Any]:
        groups = listed(query, "group_by", (*_NONE, "user_id", *_GROUPS))
        wanted, pages = self.wanted(query)
        by = tuple(_GROUPS[name] for name in groups if name in _GROUPS)
        people = "user_id" in groups and "key_id" not in by
        asked = (*by, "key_id") if people else by
        rows = self.source.usage(wanted.model_copy(update={"group_by": asked, "embeddings": embeddings}))
        if "user_id" in groups:
            rows = by_user(rows, self.users(), keep_keys=not people)
        tell, found = _vectors if embeddings else _completions, by_start(rows)
        return pages.told(lambda start: [tell(row, groups) for row in found.get(start, ())])

    def wanted(
        self,
        query: Query,
        widths: Sequence[str] = tuple(_WIDTHS),
        limits: tuple[int, int] | None = None,
        recent: bool = False,
    ) -> tuple[UsageQuery, Pages]:
        """Return what is asked for, and the page that it is told on.

        Args:
            query: the parameters.
            widths: that buckets may have.
            limits: how many buckets a page has unless asked otherwise, and at most; None goes by the width.
            recent: without a `start_time` take the latest buckets.

        Raises:
            Refused: a parameter is wrong.
        """
        width = _one(query, "bucket_width") or "1d"
        if width not in widths:
            raise Refused(invalid("bucket_width", f"'bucket_width' is one of {', '.join(widths)}."))
        usual, most = limits or _LIMITS[width]
        seconds = _WIDTHS[width]
        count = _number(query, "limit", usual, most)
        latest = max(1, int(self.clock()) - seconds * (count - 1)) if recent else None
        start = _number(query, "start_time", latest)
        begin = start // seconds * seconds
        if page := _one(query, "page"):
            begin = _cursor(page, seconds)
        end = _number(query, "end_time", int(self.clock()) + 1)
        if end <= start:
            raise Refused(invalid("end_time", "'end_time' must be later than 'start_time'."))
        last = begin + seconds * count
        pages = Pages(begin, min(last, -(-end // seconds) * seconds), seconds, more=last < end)
        batch = _one(query, "batch")
        if batch not in ("", "true", "false"):
            raise Refused(invalid("batch", "'batch' is true or false."))
        wanted = UsageQuery(
            start=begin,
            end=pages.end,
            width=seconds,
            projects=tuple(query.get("project_ids", ())),
            key_ids=self._keys(query),
            models=tuple(query.get("models", ())),
            batch=None if not batch else batch == "true",
        )
        return wanted, pages

    def _keys(self, query: Query) -> tuple[str, ...]:
        """Return the only keys that are asked for: named themselves, or by whose they are; none is all."""
        named, people = tuple(query.get("api_key_ids", ())), query.get("user_ids", ())
        return keys_of(named, people, self.users()) if people else named


@dataclass(frozen=True, slots=True)
class Pages:
    """Where a page begins and ends, in Unix seconds."""

    begin: int
    end: int
    width: int
    more: bool

    def told(self, results: Callable[[int], list[dict[str, Any]]]) -> dict[str, Any]:
        """Return the page, empty buckets too."""
        data = [
            {"object": "bucket", "start_time": start, "end_time": start + self.width, "results": results(start)}
            for start in range(self.begin, self.end, self.width)
        ]
        return {
            "object": "page",
            "data": data,
            "has_more": self.more,
            "next_page": f"page_{self.end}" if self.more else None,
        }


def keys_of(named: Sequence[str], people: Sequence[str], users: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys of some users, of those that are named if any are."""
    theirs = [key for key, user in users.items() if user in people and (not named or key in named)]
    return tuple(theirs) or ("",)  # nobody's: no key has that id


def by_user(rows: Sequence[UsageRow], users: Mapping[str, str], keep_keys: bool) -> list[UsageRow]:
    """Return rows that name the user of their key instead of the key, or beside it; those of one user are added up."""
    found: dict[tuple[Any, ...], UsageRow] = {}
    for row in rows:
        group = {name: value for name, value in row.group.items() if keep_keys or name != "key_id"}
        named = row.model_copy(update={"group": {**group, "user_id": users.get(row.group["key_id"], "")}})
        key = (row.start, row.currency, *named.group.values())
        found[key] = found[key].plus(named) if key in found else named
    return list(found.values())


def _completions(row: UsageRow, groups: Sequence[str]) -> dict[str, Any]:
    usage = row.usage
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": usage.input_tokens,
        "input_cached_tokens": usage.cached_tokens,
        "input_uncached_tokens": usage.input_tokens - usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "num_model_requests": row.entries,
        **_told(row, groups),
        "batch": bool(row.group["batch"]) if "batch" in groups else None,
        "service_tier": (row.group["service_tier"] or "default") if "service_tier" in groups else None,
    }


def _vectors(row: UsageRow, groups: Sequence[str]) -> dict[str, Any]:
    return {
        "object": "organization.usage.embeddings.result",
        "input_tokens": row.usage.input_tokens,
        "num_model_requests": row.entries,
        **_told(row, groups),
    }


def _told(row: UsageRow, groups: Sequence[str]) -> dict[str, Any]:
    names = ("project_id", "api_key_id", "model")
    told = {name: row.group[_GROUPS[name]] if name in groups else None for name in names}
    energy = {"joules": row.microjoules / 1e6, "class": row.energy_class.value}
    user = row.group["user_id"] or None if "user_id" in groups else None
    return {**told, "user_id": user, "energy": energy}


_COST_GROUPS = ("project_id", "api_key_id", "user_id", "line_item")


def _costs(lines: Iterable[CostLine], groups: Sequence[str], users: Mapping[str, str]) -> list[dict[str, Any]]:
    def key(line: CostLine) -> tuple[str, ...]:
        who = (line.project, line.key_id, users.get(line.key_id, ""), _item(line))
        told = dict(zip(_COST_GROUPS, who, strict=True))
        return (line.currency, *(value if name in groups else "" for name, value in told.items()))

    found = []
    for (currency, *group), each in groupby(sorted(lines, key=key), key):
        some = list(each)
        micros = sum(line.amount_micros for line in some)
        told = dict(zip(_COST_GROUPS, group, strict=True))
        priced = "line_item" in groups and all(line.unit_micros is not None for line in some)
        result = {
            "object": "organization.costs.result",
            "amount": {"value": micros / 1e6, "currency": currency.lower()},
            "micros": micros,
            **{name: (value or None) if name in groups else None for name, value in told.items()},
            "quantity": sum(line.quantity for line in some) if priced else None,
            "quantity_unit": ("units" if some[0].item == "units" else "tokens") if priced else None,
        }
        found.append(result)
    return found


def by_start(rows: Iterable[R]) -> dict[int, list[R]]:
    """Return rows by the bucket that they are in: a page has many of both."""
    found: dict[int, list[R]] = {}
    for row in rows:
        found.setdefault(row.start, []).append(row)
    return found


def _item(line: CostLine) -> str:
    """Return what a line is called, for example ``pydocs, input`` or ``pydocs, output, batch``."""
    kind = "batch" if line.batch else line.service_tier
    return ", ".join(part for part in (line.model, line.item, kind) if part)


def _one(query: Query, name: str) -> str:
    return query.get(name, ("",))[-1]


def _number(query: Query, name: str, usual: int | None, most: int = 4_102_444_800) -> int:
    """Return a number of the query; times end with the year 2099."""
    given = _one(query, name)
    if not given and usual is not None:
        return usual
    if not given:
        raise Refused(invalid(name, f"'{name}' is needed: Unix seconds."))
    if not given.isascii() or not given.isdecimal() or len(given) > 10 or not 1 <= int(given) <= most:
        raise Refused(invalid(name, f"'{name}' is a number from 1 to {most}."))
    return int(given)


def listed(query: Query, name: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return the values of a parameter, each once.

    Raises:
        Refused: one is not allowed.
    """
    given = tuple(dict.fromkeys(query.get(name, ())))
    if any(each not in allowed for each in given):
        raise Refused(invalid(name, f"'{name}' takes {', '.join(sorted(allowed))}."))
    return given


def _cursor(page: str, width: int) -> int:
    number = page.removeprefix("page_")
    if not number.isascii() or not number.isdecimal() or len(number) > 10 or int(number) % width:
        raise Refused(invalid("page", "'page' is the 'next_page' of an earlier answer."))
    return int(number)
