"""What a client is told of limits: ``x-ratelimit-*`` headers, and 429 with what to do about it.

Owns the words. A client that can only wait is told how long (under 120 s: the official client waits no longer than
that by itself); one whose budget is spent is told not to ask again.

Source: OpenAI's API reference, rate limits; the official Python client, which obeys ``retry-after`` and
``x-should-retry``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from bessemer.core.units import Money
from bessemer.serve.accounts.budgets import Budget, Spending
from bessemer.serve.accounts.rates import Level
from bessemer.serve.refusals import LONGEST_WAIT_SECONDS, Refusal, again_after

Headers = tuple[tuple[str, str], ...]

_NEVER: Headers = (("x-should-retry", "false"),)
_MAX_ENDS = 65_536
_ENDS: dict[str, dict[int, bytes]] = {"requests": {}, "tokens": {}}
"""The last header of a limit, by milliseconds."""


def rate_headers(levels: Sequence[Level]) -> Headers:
    """Return the headers of the limits that are nearest to their end, for requests and for tokens."""
    told: list[tuple[str, str]] = []
    for unit in ("requests", "tokens"):
        of_unit = [level for level in levels if level.unit == unit]
        if not of_unit:
            continue
        at = min(of_unit, key=lambda level: level.left)
        left = at.left if at.left >= 0 else at.left + at.needed  # a refused request took nothing
        told += [
            (f"x-ratelimit-limit-{unit}", str(at.limit)),
            (f"x-ratelimit-remaining-{unit}", str(max(0, math.floor(left)))),
            (f"x-ratelimit-reset-{unit}", _reset(at.limit, left)),
        ]
    return tuple(told)


def rate_lines(unit: str, limit: int, left: int) -> bytes:
    """Return the headers of one limit, as they stand on the wire; see `rate_headers`.

    >>> rate_lines("tokens", 600, 590)[-35:]
    b'590\\r\\nx-ratelimit-reset-tokens: 1s\\r\\n'
    """
    millis = -((left - limit) * 60_000 // limit) if limit else 0
    ends = _ENDS[unit]
    end = ends.get(millis)
    return b"%s%d%s" % (_beginning(unit, limit), left, end or _ended(unit, ends, millis))


def refuse_rate(short: Level, levels: Sequence[Level]) -> Refusal:
    """Return the refusal of a request that a rate limit has not got enough for."""
    what = f"{short.limit} {short.unit} per minute; this request counts as {short.needed}"
    if math.isinf(short.wait_seconds):
        message, extra = f"The request is larger than the rate limit: {what}.", _NEVER
    else:
        seconds = min(LONGEST_WAIT_SECONDS, max(1, math.ceil(short.wait_seconds)))
        message = f"The rate limit is reached: {what}. Ask again in {seconds} s."
        extra = again_after(seconds)
    return Refusal(429, message, "rate_limit_exceeded", None, short.unit, (*extra, *rate_headers(levels)))


def refuse_money(at: Spending, worst_micros: int, levels: Sequence[Level]) -> Refusal:
    """Return the refusal of a request whose worst case a budget has not got enough left for."""
    budget, headers = at.budget, rate_headers(levels)
    name, currency = _named(budget), budget.limit.currency
    worst = Money(micros=worst_micros, currency=currency)
    unspent = Money(micros=max(0, budget.limit.micros - at.spent_micros), currency=currency)
    of = f"The {name} of this {budget.scope}"
    if worst_micros <= unspent.micros:
        message = f"What is left of the {name} of this {budget.scope} is reserved by requests under way. Ask again."
        return Refusal(429, message, "rate_limit_exceeded", None, "requests", (("retry-after", "1"), *headers))
    message = f"{of} is spent."
    if unspent.micros:
        left, most = unspent.exact(), worst.exact()  # which is more must be seen
        message = f"{of} has {left} left, and this request may cost up to {most}: ask for fewer tokens."
    return Refusal(429, message, "insufficient_quota", None, "insufficient_quota", (*_NEVER, *headers))


def refuse_currency(budget: Budget, currency: str) -> Refusal:
    """Return the refusal of all requests under a budget that prices in this currency cannot be held against."""
    message = f"The {_named(budget)} of this {budget.scope} is in {budget.limit.currency}, and prices are in {currency}"
    message += f": an administrator has to remove {budget.id} and set it anew."
    return Refusal(429, message, "budget_currency_mismatch", None, "insufficient_quota", _NEVER)


def _named(budget: Budget) -> str:
    return "prepaid credit" if budget.period == "credit" else f"budget ({budget.period}, {budget.limit.exact()})"


def _reset(limit: int, left: float) -> str:
    """Return how long it takes a bucket of a minute's limit to be full again."""
    if not limit:
        return "0s"
    return duration(_told(math.ceil((limit - left) * 60_000 / limit)) / 1000)


def _told(millis: int) -> int:
    """Return milliseconds as exactly as they are told: of more than a second hundredths."""
    return millis if millis < 1000 else -(-millis // 10) * 10


@lru_cache(maxsize=1024)
def _beginning(unit: str, limit: int) -> bytes:
    return f"x-ratelimit-limit-{unit}: {limit}\r\nx-ratelimit-remaining-{unit}: ".encode()


def _ended(unit: str, ends: dict[int, bytes], millis: int) -> bytes:
    if len(ends) >= _MAX_ENDS:
        ends.clear()
    end = ends[millis] = f"\r\nx-ratelimit-reset-{unit}: {duration(_told(millis) / 1000)}\r\n".encode()
    return end


def duration(seconds: float) -> str:
    """Return a duration in the words of OpenAI's headers.

    >>> [duration(s) for s in (0, 0.25, 7.66, 90)]
    ['0s', '250ms', '7.66s', '1m30s']
    """
    if 0 < seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds * 100) / 100, 60)
    told = f"{rest:.2f}".rstrip("0").rstrip(".")
    return f"{minutes:.0f}m{told}s" if minutes else f"{told}s"
