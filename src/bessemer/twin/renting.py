"""How rented prices move over the years, and how often servers on the spot market are taken away.

Owns both estimates, from ``catalogue/price_history.csv`` and ``catalogue/spot_interruptions.csv``. Knows no site.
"""

from __future__ import annotations

import math
from functools import cache

from bessemer.twin.catalogue import table
from bessemer.twin.hazards import WIDTH
from bessemer.twin.interval import Interval


def decline(years: float) -> Interval:
    """Return by what share an accelerator-hour gets cheaper each year, over so many years; negative: dearer.

    Log prices are taken as a random walk with one drift for all series of the catalogue, each told by its first and its
    last price. The bounds hold both the walk of the years to come and how little the past tells of the drift.

    Source: estimates of drift and variance of a random walk with drift, observed at uneven times (maximum likelihood,
    with one degree of freedom less).

    >>> found = decline(5.0)
    >>> found.low < 0.2 < found.mid < 0.3 < found.high, decline(1.0).high > found.high
    (True, True)
    """
    drift, variance, seen = _walk()
    away = WIDTH * math.sqrt(variance * (1 / years + 1 / seen))
    return Interval(*(1 - math.exp(drift + way * away) for way in (0, 1, -1)))


@cache
def _walk() -> tuple[float, float, float]:
    """Return the drift of log prices a year, their variance a year, and the years that were seen."""
    moves = [
        (_year(row["end"]) - _year(row["start"]), math.log(float(row["end_usd"]) / float(row["start_usd"])))
        for row in table("price_history")
    ]
    seen = sum(years for years, _ in moves)
    drift = sum(move for _, move in moves) / seen
    variance = sum((move - drift * years) ** 2 / years for years, move in moves) / (len(moves) - 1)
    return drift, variance, seen


def _year(month: str) -> float:
    year, number = map(int, month.split("-"))
    return year + (number - 0.5) / 12


def interruptions_per_server_day() -> Interval:
    """Return how often a server on the spot market is taken away, a day; what is known differs 500-fold.

    Source: geometric mean and spread of the catalogue, each market counting once.

    >>> found = interruptions_per_server_day()
    >>> found.low < 0.01 < found.mid < 0.2 < 1 < found.high
    True
    """
    logs = [math.log(float(row["per_server_day"])) for row in table("spot_interruptions")]
    middle = sum(logs) / len(logs)
    sigma = math.sqrt(sum((each - middle) ** 2 for each in logs) / (len(logs) - 1))
    return Interval(*(math.exp(middle + way * WIDTH * sigma) for way in (0, -1, 1)))
