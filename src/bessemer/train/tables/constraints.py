"""Constraints: what is checked in data and in what is made, and what is changed so that a model cannot break it.

The greater column of an inequality is modelled as its distance from the lesser one, fixed combinations as one column
of combinations. What that does not cover is checked row by row, and rows that break it are rejected with the reason.

Owns the meaning of each constraint. Knows no distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import (
    Column,
    ColumnConfig,
    Constraint,
    FixedCombinations,
    Inequality,
    Positive,
    Range,
    Table,
    TableSchema,
)
from bessemer.train.tables.marginals import Floats

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Gap:
    """An inequality whose greater column is modelled as a distance; `typical` stands for a lesser one that is missing.

    `least` and `most` are the ends of the greater column.
    """

    low: str
    high: str
    typical: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Combination:
    """Columns that are modelled as one; `values` is (combinations, columns) of numbers or codes."""

    name: str
    columns: tuple[str, ...]
    values: Floats


@dataclass(frozen=True, slots=True)
class Changes:
    """How a table is changed before it is modelled, in this order; and back after sampling."""

    combinations: tuple[Combination, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def apply(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Return the columns that are modelled."""
        found = dict(columns)
        for each in self.combinations:
            rows = np.column_stack([_filled(columns[name]) for name in each.columns])
            _, codes = np.unique(np.vstack((each.values, rows)), axis=0, return_inverse=True)
            place = np.empty(codes.max() + 1, dtype=np.int32)
            place[codes[: len(each.values)]] = np.arange(len(each.values), dtype=np.int32)
            told = tuple(map(str, range(len(each.values))))
            for name in each.columns:
                del found[name]
            found[each.name] = Column(ColumnConfig(kind="categorical"), place[codes[len(each.values) :]], told)
        for gap in self.gaps:
            base = np.nan_to_num(columns[gap.low].values, nan=gap.typical)
            high = columns[gap.high]
            found[gap.high] = Column(_distance(high.config), high.values - base)
        return found

    def undo(self, made: Mapping[str, NDArray[Any]], schema: TableSchema) -> dict[str, NDArray[Any]]:
        """Return the columns of the schema, from what was modelled."""
        found = dict(made)
        for each in self.combinations:
            rows = each.values[found.pop(each.name)]
            for at, name in enumerate(each.columns):
                numeric = schema.columns[name].numeric
                found[name] = rows[:, at] if numeric else np.nan_to_num(rows[:, at], nan=-1).astype(np.int32)
                if numeric:
                    found[name] = np.where(np.isinf(rows[:, at]), np.nan, rows[:, at])
        for gap in self.gaps:
            high = np.nan_to_num(found[gap.low], nan=gap.typical) + found[gap.high]
            config = schema.columns[gap.high]
            decimals = 0 if config.kind == "integer" else config.decimals
            high = high if decimals is None else np.round(high, decimals)
            found[gap.high] = np.clip(high, gap.least, gap.most)
        return found


def _distance(config: ColumnConfig) -> ColumnConfig:
    return ColumnConfig(kind="integer" if config.kind == "integer" else "numerical", decimals=config.decimals)


def plan_changes(table: Table, *, declared_only: bool = False) -> Changes:
    """Return how a table is changed.

    Args:
        table: satisfies its constraints.
        declared_only: take nothing from the data: the ends of columns are the declared ones (differential privacy).

    Raises:
        ConfigError: fixed combinations are to be taken from data that nothing may be taken from.
    """
    schema = table.schema
    combinations: list[Combination] = []
    used: set[str] = set()
    for at, each in enumerate(schema.constraints):
        if not isinstance(each, FixedCombinations):
            continue
        if declared_only:
            raise ConfigError(
                "fixed combinations are learnt from the data, which differential privacy forbids",
                hint="Make one column of them and declare its categories.",
            )
        if used & set(each.columns):
            raise ConfigError(f"two constraints fix combinations of {', '.join(sorted(used & set(each.columns)))}")
        used |= set(each.columns)
        rows = np.column_stack([_filled(table.columns[name]) for name in each.columns])
        combinations.append(Combination(f"combination {at}", each.columns, np.unique(rows, axis=0)))
    gaps: list[Gap] = []
    for gap in _ordered([each for each in schema.constraints if isinstance(each, Inequality)]):
        if not {gap.low, gap.high} & used:
            gaps.append(_gap(table, gap, declared_only))
    return Changes(tuple(combinations), tuple(gaps))


def _ordered(inequalities: list[Inequality]) -> list[Inequality]:
    """Return those that can be distances, each after the one that makes its lesser column; the rest is only checked."""
    chosen: dict[str, Inequality] = {}
    for each in inequalities:
        chosen.setdefault(each.high, each)
    ordered: list[Inequality] = []
    left = list(chosen.values())
    while left:
        free = [each for each in left if each.low not in {other.high for other in left}]
        if not free:
            break  # a ring: a <= b <= a
        ordered += free
        left = [each for each in left if each not in free]
    return ordered


def _gap(table: Table, each: Inequality, declared_only: bool) -> Gap:
    low, high = table.columns[each.low], table.columns[each.high]
    least, most = high.config.bounds
    if declared_only:
        ends = [bound for bound in low.config.bounds if bound is not None]
        typical = sum(ends) / len(ends) if ends else 0.0
    else:
        known = low.values[~np.isnan(low.values)]
        typical = float(np.median(known)) if len(known) else 0.0
        seen = high.values[~np.isnan(high.values)]
        least = float(seen.min()) if least is None and len(seen) else least
        most = float(seen.max()) if most is None and len(seen) else most
    return Gap(each.low, each.high, typical, -np.inf if least is None else least, np.inf if most is None else most)


def broken(columns: Mapping[str, Column], constraint: Constraint) -> Mask:
    """Return which rows break a constraint that speaks of one row alone; (rows)."""
    if isinstance(constraint, Range):
        low, high = constraint.bounds
        values = columns[constraint.column].values
        beyond = np.zeros(len(values), bool)
        if low is not None:
            beyond |= values <= low if constraint.strict else values < low
        if high is not None:
            beyond |= values >= high if constraint.strict else values > high
        return beyond
    if isinstance(constraint, Positive):
        values = columns[constraint.column].values
        return np.asarray(values <= 0 if constraint.strict else values < 0)
    if isinstance(constraint, Inequality):
        low_values, high_values = columns[constraint.low].values, columns[constraint.high].values
        return np.asarray(low_values >= high_values if constraint.strict else low_values > high_values)
    rows = len(next(iter(columns.values())).values)
    return np.zeros(rows, bool)


def check_kinds(schema: TableSchema) -> None:
    """Return if each constraint speaks of columns that it can speak of.

    Raises:
        ConfigError: one compares what is no number.
    """
    for each in schema.constraints:
        if isinstance(each, Range | Positive | Inequality):
            for name in each.names:
                if not schema.columns[name].numeric:
                    raise ConfigError(
                        f"the constraint {told(each)} compares '{name}', which is {schema.columns[name].kind}",
                        hint="It takes numerical, integer and datetime columns.",
                    )


def check_data(table: Table) -> None:
    """Return if a table satisfies its constraints.

    Raises:
        ConfigError: it does not, or they cannot be satisfied at all; the message says how many rows do not.
    """
    check_kinds(table.schema)
    for each in table.schema.constraints:
        if isinstance(each, Range) and _empty(each):
            raise ConfigError(f"no number satisfies {told(each)}", hint="Its low end lies above its high end.")
        wrong = int(broken(table.columns, each).sum())
        if each.kind == "unique":
            wrong = table.rows - len(unique_rows(table.columns, each.names))
        if wrong:
            raise ConfigError(
                f"{wrong:,} of {table.rows:,} rows of the data break {told(each)}",
                hint="Mend or drop those rows, or take the constraint away.",
            )


def _empty(each: Range) -> bool:
    low, high = each.bounds
    return low is not None and high is not None and (low >= high if each.strict else low > high)


def unique_rows(columns: Mapping[str, Column], names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the numbers of the first rows of each combination of values, rising."""
    rows = np.column_stack([_filled(columns[name]) for name in names])
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])


def _filled(column: Column) -> Floats:
    """Return values that compare equal where missing: infinity for numbers, -1 for codes."""
    values = column.values.astype(float)
    return np.where(np.isnan(values), np.inf, values) if column.config.numeric else values


def told(each: Constraint) -> str:
    """Return a constraint as a person would write it.

    >>> told(Inequality(low="start", high="end"))
    'start <= end'
    """
    if isinstance(each, Inequality):
        return f"{each.low} {'<' if each.strict else '<='} {each.high}"
    if isinstance(each, Positive):
        return f"{each.column} {'>' if each.strict else '>='} 0"
    if isinstance(each, Range):
        sign = "<" if each.strict else "<="
        low, high = each.low, each.high
        return f"{'' if low is None else f'{low} {sign} '}{each.column}{'' if high is None else f' {sign} {high}'}"
    return f"{each.kind.replace('_', ' ')} ({', '.join(each.names)})"
