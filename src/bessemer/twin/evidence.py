"""What was measured beside what is predicted, and the errors of a family of such rows.

Owns the noun that all validations give, and the counting of errors. Knows no model and no file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from bessemer.twin.interval import Interval


@dataclass(frozen=True, slots=True)
class Row:
    """One published measurement. Without a prediction, `reason` says why there is none.

    Attributes:
        family: rows that are judged together, such as ``training, 64 GPUs or more``.
        id: of the row in its file.
        measured: what was published, in the family's unit.
        predicted: of the same.
        reason: why it cannot be answered.
    """

    family: str
    id: str
    measured: float
    predicted: Interval | None = None
    reason: str = ""


def sound(row: Row) -> Row:
    """Return the row, without its prediction and with the reason where a number beside it is none that can be.

    >>> sound(Row("a", "1", -1.0, Interval(11.0, 9.0, 12.0))).reason
    'no number above zero was measured'
    """
    if row.predicted is None:
        return row
    if not 0 < row.measured < math.inf:
        return replace(row, predicted=None, reason="no number above zero was measured")
    if not 0 < row.predicted.mid < math.inf:
        return replace(row, predicted=None, reason="its columns hold numbers that no system has")
    return row


def unreadable(error: Exception) -> str:
    """Return why a row cannot be answered whose columns hold something else than they should, on one line.

    >>> unreadable(ValueError("could not convert string to float: 'n/a'"))
    "the row cannot be read: could not convert string to float: 'n/a'"
    """
    return f"the row cannot be read: {' '.join(str(error).split())[:160]}"


@dataclass(frozen=True, slots=True)
class Errors:
    """The errors of a family, as ratios: 0.1 is ten percent.

    Attributes:
        family: its name.
        rows: how many there are.
        answered: how many have a prediction.
        mean: of the absolute relative errors.
        median: of the absolute relative errors.
        bias: mean of the signed relative errors; above 0: predicted too high.
        covered: share of the measurements that lie in their interval.
    """

    family: str
    rows: int
    answered: int
    mean: float
    median: float
    bias: float
    covered: float


def errors(rows: Iterable[Row]) -> list[Errors]:
    """Return the errors of each family, in the order of their first rows; NaN where nothing was answered.

    >>> errors([Row("a", "1", 10.0, Interval(11.0, 9.0, 12.0)), Row("a", "2", 10.0, reason="no such GPU")])[0].answered
    1
    """
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row.family, []).append(row)
    return [_errors(name, members) for name, members in families.items()]


def _errors(family: str, rows: list[Row]) -> Errors:
    pairs = [(row.measured, row.predicted) for row in rows if row.predicted is not None]
    if not pairs:
        nothing = float("nan")
        return Errors(family, len(rows), 0, nothing, nothing, nothing, nothing)
    relative = np.array([predicted.mid / measured - 1 for measured, predicted in pairs])
    covered = float(np.mean([measured in predicted for measured, predicted in pairs]))
    away = np.abs(relative)
    mean, median, bias = float(away.mean()), float(np.median(away)), float(relative.mean())
    return Errors(family, len(rows), len(pairs), mean, median, bias, covered)
