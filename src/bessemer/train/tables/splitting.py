"""Rows held out before anything is learnt: whole parents with their children, whole sequences.

Owns who goes where; the same seed gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import Relation, Table, related


def split_tables(
    tables: Mapping[str, Table], relations: tuple[Relation, ...], ratio: float, seed: int
) -> tuple[dict[str, Table], dict[str, Table]]:
    """Return the tables to learn from and those held out.

    Args:
        tables: by name.
        relations: a child goes where its first parent goes; keys of further parents may name rows on the other side, so
            those rows are left out of both.
        ratio: of rows that are held out.
        seed: of the draw.

    Raises:
        ConfigError: a part would be empty.
    """
    order = related({name: table.schema for name, table in tables.items()}, relations)
    sides: dict[str, NDArray[np.int8]] = {}  # 0 to learn from, 1 held out, -1 neither
    for name, each in zip(order, np.random.SeedSequence(seed).spawn(len(order)), strict=True):
        table, random = tables[name], np.random.default_rng(each)
        above = [relation for relation in relations if relation.child == name]
        if above:
            found = [_side_of_parents(tables, relation, sides[relation.parent]) for relation in above]
            side = found[0]
            for other in found[1:]:
                side = np.where((other == side) | (other == -2), side, -1).astype(np.int8)
            sides[name] = np.where(side == -2, 0, side).astype(np.int8)
        else:
            groups = table.columns[table.schema.sequence_key].values if table.schema.sequence_key else None
            sides[name] = _drawn(table.rows, groups, ratio, random)
    parts: tuple[dict[str, Table], dict[str, Table]] = ({}, {})
    for name in tables:
        for which, part in enumerate(parts):
            rows = np.flatnonzero(sides[name] == which)
            if not len(rows):
                told = "to learn from" if which == 0 else "held out"
                raise ConfigError(
                    f"no row of '{name}' is {told}: it has {tables[name].rows}",
                    hint="Give more rows, or another ratio.",
                )
            part[name] = tables[name].take(rows)
    return parts


def _drawn(rows: int, groups: NDArray[np.int32] | None, ratio: float, random: np.random.Generator) -> NDArray[np.int8]:
    codes = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(codes.max()) + 1
    held = np.zeros(count, np.int8)
    held[random.permutation(count)[: max(1, round(count * ratio))]] = 1
    return np.asarray(held[codes])


def _side_of_parents(tables: Mapping[str, Table], relation: Relation, sides: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the side of each child's parent; -2 where it has none."""
    parent, child = tables[relation.parent], tables[relation.child]
    key, foreign = parent.columns[parent.schema.primary_key], child.columns[relation.key]
    rows = {key.categories[code]: row for row, code in enumerate(key.values) if code >= 0}
    place = np.array([sides[rows[text]] if text in rows else -1 for text in foreign.categories] + [-2], dtype=np.int8)
    return np.asarray(place[foreign.values])
