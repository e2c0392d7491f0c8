"""Several tables: parents first, then as many children as each parent has, which go with what their parent is.

The first relation of a child decides how many rows there are and what they depend on; for each further one a parent is
drawn as often as parents have children there. Every foreign key names a row that exists.

Owns keys and cardinalities. Knows no distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import Column, ColumnConfig, Relation, Table, TableSchema, related
from bessemer.train.tables.config import CopulaConfig
from bessemer.train.tables.model import Sampled, TableModel, without_ids
from bessemer.train.tables.sequences import SequenceModel, fit_sequences, sample_sequences
from bessemer.train.tables.single import fit_table, sample_table

_COUNT = "number of rows in "


@dataclass(frozen=True, slots=True)
class TablesModel:
    """Fitted tables.

    Attributes:
        order: parents before children.
        tables: the model of each; a parent's has columns with the number of its children.
        relations: as declared.
        schemas: of the tables as they were.
        optional: share of the rows of a child whose key is empty, by "child.key".
    """

    order: tuple[str, ...]
    tables: Mapping[str, TableModel | SequenceModel]
    relations: tuple[Relation, ...]
    schemas: Mapping[str, TableSchema]
    optional: Mapping[str, float]


def fit_tables(
    tables: Mapping[str, Table], relations: tuple[Relation, ...] = (), config: CopulaConfig | None = None
) -> TablesModel:
    """Return the model of one or several tables.

    Args:
        tables: by name.
        relations: which rows belong to which.
        config: how each is fitted.

    Raises:
        ConfigError: a relation does not fit the tables, a key names no row, or as for `fit_table`.
    """
    config = config or CopulaConfig()
    schemas = {name: table.schema for name, table in tables.items()}
    if relations and config.privacy:
        raise ConfigError(
            "differential privacy is for single tables here: one parent may have any number of children",
            hint="Leave out `relations` or `privacy`.",
        )
    order = related(schemas, relations)
    models: dict[str, TableModel | SequenceModel] = {}
    optional = {}
    for name in order:
        above = [each for each in relations if each.child == name]
        table = _counted(tables, name, relations)
        for each in above:
            optional[f"{name}.{each.key}"] = float((tables[name].columns[each.key].values < 0).mean())
        if table.schema.sequence_key:
            models[name] = fit_sequences(_keyless(table, above), config, _context(tables, above[:1]))
        else:
            counted = tuple(name for name in table.columns if name.startswith(_COUNT))
            models[name] = fit_table(_keyless(table, above), config, _context(tables, above[:1]), counted)
    return TablesModel(order, models, relations, schemas, optional)


def _keyless(table: Table, above: list[Relation]) -> Table:
    """Return a table whose foreign keys are ids: they are made, not modelled."""
    columns, configs = dict(table.columns), dict(table.schema.columns)
    for each in above:
        configs[each.key] = ColumnConfig(kind="id", written=configs[each.key].written)
        columns[each.key] = Column(configs[each.key], columns[each.key].values, columns[each.key].categories)
    schema = table.schema.with_columns(configs)
    return Table(schema, columns, table.rows)


def _counted(tables: Mapping[str, Table], name: str, relations: tuple[Relation, ...]) -> Table:
    """Return a table with a column for the number of its children in each relation."""
    table = tables[name]
    columns, configs = dict(table.columns), dict(table.schema.columns)
    for each in relations:
        if each.parent == name:
            told = f"{_COUNT}{each.child}.{each.key}"
            configs[told] = ColumnConfig(kind="integer", low=0.0)
            counts = np.bincount(_rows_of_parents(tables, each), minlength=table.rows + 1)[: table.rows]
            columns[told] = Column(configs[told], counts.astype(float))
    schema = table.schema.with_columns(configs)
    return Table(schema, columns, table.rows)


def _rows_of_parents(tables: Mapping[str, Table], each: Relation) -> NDArray[np.int64]:
    """Return the number of each child's parent row; the number of parents where the key is empty.

    Raises:
        ConfigError: a key names no row, or two parents have one key.
    """
    parent, child = tables[each.parent], tables[each.child]
    key = parent.columns[parent.schema.primary_key]
    rows = {key.categories[code]: row for row, code in enumerate(key.values) if code >= 0}
    if len(rows) < parent.rows:
        raise ConfigError(
            f"{parent.rows - len(rows):,} rows of '{each.parent}' have no '{parent.schema.primary_key}' of their own",
            hint="A primary key is there in every row and differs.",
        )
    foreign = child.columns[each.key]
    place = np.array([rows.get(text, -1) for text in foreign.categories] + [parent.rows], dtype=np.int64)
    found = place[foreign.values]
    if lost := int((found < 0).sum()):
        raise ConfigError(
            f"{lost:,} rows of '{each.child}' name a '{each.key}' that '{each.parent}' has not",
            hint="Drop those rows or add the parents.",
        )
    return np.asarray(found)


def _context(tables: Mapping[str, Table], above: list[Relation]) -> dict[str, Column] | None:
    """Return the columns of the first parent for each row of the child; missing where there is none."""
    if not above:
        return None
    each = above[0]
    rows = _rows_of_parents(tables, each)
    return _taken(tables[each.parent], rows, each.parent)


def _taken(parent: Table, rows: NDArray[np.int64], name: str) -> dict[str, Column]:
    """Return a parent's columns row by row of its children, under names of their own; missing where there is none."""
    found = {}
    for column_name, column in without_ids(parent).items():
        if not column_name.startswith(_COUNT):
            nothing = np.nan if column.config.numeric else -1
            values = np.append(column.values, np.array([nothing], dtype=column.values.dtype))[rows]
            found[f"{name}.{column_name}"] = Column(column.config, values, column.categories)
    return found


def sample_tables(model: TablesModel, scale: float = 1.0, seed: int = 0, rows: int | None = None) -> dict[str, Sampled]:
    """Return tables that were made.

    Args:
        model: from `fit_tables`.
        scale: how many rows of tables without parents, for each row of the data.
        seed: the same gives the same tables.
        rows: how many of them instead; children follow their parents.

    Raises:
        ConfigError: as for `sample_table`.
    """
    made: dict[str, Sampled] = {}
    wide: dict[str, Table] = {}  # with the numbers of children
    seeds = np.random.SeedSequence(seed).spawn(len(model.order))
    for name, its in zip(model.order, seeds, strict=True):
        random = np.random.default_rng(its)
        above = [each for each in model.relations if each.child == name]
        one = model.tables[name]
        parents = [_parents(wide[each.parent], each, random) for each in above[:1]]
        context = _taken(wide[above[0].parent], parents[0], above[0].parent) if above else None
        wanted = len(parents[0]) if parents else rows or max(1, round(one.rows * scale))
        number = int(random.integers(2**31))
        if isinstance(one, SequenceModel):
            found = sample_sequences(one, wanted, number, context)
        else:
            found = sample_table(one, wanted, number, context)
        keys = dict(found.table.columns)
        for at, each in enumerate(above):
            place = parents[0] if at == 0 else _spread(wide[each.parent], each, found.table.rows, random)
            keys[each.key] = _key(wide[each.parent], place, model.schemas[name].columns[each.key])
            keys[each.key] = _emptied(keys[each.key], model.optional[f"{name}.{each.key}"], random)
        wide[name] = Table(found.table.schema, keys, found.table.rows)
        schema = model.schemas[name]
        made[name] = Sampled(Table(schema, {c: keys[c] for c in schema.columns}, found.table.rows), found.rejected)
    return made


def _parents(parent: Table, each: Relation, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the parent row of each child to be made."""
    counts = parent.columns[f"{_COUNT}{each.child}.{each.key}"].values
    found = np.repeat(np.arange(parent.rows), np.maximum(counts, 0).astype(np.int64))
    return found if len(found) else random.integers(parent.rows, size=1)


def _spread(parent: Table, each: Relation, rows: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return a parent for each row, as often as parents have children, in no order."""
    found = _parents(parent, each, random)
    times = -(-rows // len(found))
    return random.permutation(np.tile(found, times))[:rows]


def _key(parent: Table, place: NDArray[np.int64], config: ColumnConfig) -> Column:
    key = parent.columns[parent.schema.primary_key]
    return Column(config, key.values[place].astype(np.int32), key.categories)


def _emptied(column: Column, share: float, random: np.random.Generator) -> Column:
    if share == 0:
        return column
    values = np.where(random.random(len(column.values)) < share, -1, column.values)
    return Column(column.config, values.astype(np.int32), column.categories)
