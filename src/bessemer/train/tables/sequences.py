"""Sequences: rows of one entity in order, each depending on those before it and on what the entity is.

Columns that never change within an entity are modelled once for each; of the others, the copula of a row with the rows
before it gives the next row, a vector autoregression of latent values. The ordering column is modelled as the distance
to the row before, so that sequences rise as those of the data do.

Owns entities and lags. Knows no distribution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError, Unsupported
from bessemer.core.tabular import Column, ColumnConfig, Table, TableSchema
from bessemer.train.tables.blocks import Block, Fitted, fit_block, joined, present
from bessemer.train.tables.config import CopulaConfig
from bessemer.train.tables.constraints import broken, check_data, told
from bessemer.train.tables.copula import conditioned, correlations
from bessemer.train.tables.fingerprints import Fingerprints, fingerprints
from bessemer.train.tables.ids import make_ids
from bessemer.train.tables.marginals import Floats, Scores
from bessemer.train.tables.model import Sampled, TableModel, without_ids
from bessemer.train.tables.single import COPY, fit_table, sample_table

_LENGTH, _FIRST, _STEP = "rows of the sequence", "start of the sequence", "step of the sequence"


@dataclass(frozen=True, slots=True)
class SequenceModel:
    """Fitted sequences.

    Attributes:
        schema: of the table.
        config: how it was fitted.
        rows: how many it was fitted to.
        entities: model of what does not change, with the length and the start of each sequence.
        steps: distributions of what changes.
        lags: how many rows before are looked at.
        static: the columns that do not change.
        correlation: (entity's columns, lags oldest first, row), squared.
        known: fingerprints of the data's rows.
    """

    schema: TableSchema
    config: CopulaConfig
    rows: int
    entities: TableModel
    steps: Block
    lags: int
    static: tuple[str, ...]
    given: Block | None
    correlation: Floats
    known: Fingerprints | None


def fit_sequences(
    table: Table, config: CopulaConfig | None = None, context: Mapping[str, Column] | None = None
) -> SequenceModel:
    """Return the model of a table whose rows are sequences.

    Args:
        table: its schema names the column that tells sequences apart, and the one that orders them, if there is one.
        config: how it is fitted.
        context: not yet: sequences depend on nothing outside their table.

    Raises:
        ConfigError: no sequence has two rows, or as for `fit_table`.
        Unsupported: a context is given, or a constraint that sequences cannot keep.
    """
    config, schema = config or CopulaConfig(), table.schema
    if context:
        raise Unsupported("a table of sequences cannot be a child here", hint="Leave out the relation or sequence_key.")
    if config.privacy:
        raise ConfigError("differential privacy is for rows that stand alone", hint="Leave out `privacy`.")
    if wrong := [each for each in schema.constraints if each.kind in ("unique", "fixed_combinations")]:
        raise Unsupported(f"sequences cannot keep '{told(wrong[0])}' here", hint="Leave it out.")
    check_data(table)
    key = table.column(schema.sequence_key)
    table = table.take(np.flatnonzero(present(Column(ColumnConfig(kind="id"), key.values))))
    order, starts, lengths = _in_order(table)
    if not len(lengths) or lengths.max() < 2:
        raise ConfigError(f"no sequence of '{schema.sequence_key}' has two rows", hint="Leave out `sequence_key`.")
    table = table.take(order)
    entity = np.repeat(np.arange(len(lengths)), lengths)
    moving, static = _split(table, starts, lengths)
    entities = fit_table(_entity_table(table, static, starts, lengths), config.model_copy(update={"copies": "keep"}))
    steps = {name: table.columns[name] for name in moving}
    if schema.sequence_order:
        steps[_STEP] = _distances(table, starts)
    fitted = fit_block(steps, config.knots, config.sweeps)
    of_entity = {name: table.columns[name] for name in static}
    given = fit_block(of_entity, config.knots, config.sweeps) if of_entity else None
    lags = max(1, min(config.lags, int(lengths.max()) - 1))
    return SequenceModel(
        schema=schema, config=config, rows=table.rows, entities=entities, steps=fitted.block, lags=lags,
        static=static, given=given.block if given else None,
        correlation=correlations(*_lagged(fitted, given, entity, lags), given.block.width if given else 0),
        known=None if config.copies == "keep" else fingerprints(without_ids(table), config.copies == "reject_unique"),
    )  # fmt: skip


def _in_order(table: Table) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of rows by sequence and place, the first row of each sequence in it, and their lengths."""
    keys = table.columns[table.schema.sequence_key].values
    order_by = table.schema.sequence_order
    inner = table.columns[order_by].values if order_by else np.arange(table.rows)
    order = np.lexsort((inner, keys))
    _, starts, lengths = np.unique(keys[order], return_index=True, return_counts=True)
    return order, starts, lengths


def _split(table: Table, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[list[str], tuple[str, ...]]:
    """Return the columns that change within sequences, and those that never do."""
    moving: list[str] = []
    static: list[str] = []
    roles = {table.schema.sequence_key, table.schema.sequence_order}
    for name, column in without_ids(table).items():
        if name in roles:
            continue
        first = np.repeat(column.values[starts], lengths)
        gone = np.isnan(first) if column.config.numeric else first < 0
        same = (column.values == first) | (~present(column) & gone)
        (static if bool(np.all(same)) else moving).append(name)
    return moving, tuple(static)


def _entity_table(
    table: Table, static: tuple[str, ...], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> Table:
    columns = {name: table.columns[name].take(starts) for name in static}
    columns[_LENGTH] = Column(ColumnConfig(kind="integer", low=1.0), lengths.astype(float))
    if order := table.schema.sequence_order:
        columns[_FIRST] = Column(table.columns[order].config, table.columns[order].values[starts])
    return Table(TableSchema(columns={name: column.config for name, column in columns.items()}), columns, len(starts))


def _distances(table: Table, starts: NDArray[np.int64]) -> Column:
    """Return the distance of each row to the one before; the first of a sequence has the second's, or a usual one.

    It is never drawn there, but it must not be missing: what is missing at the start alone would be missing anywhere.
    """
    column = table.columns[table.schema.sequence_order]
    found = np.diff(column.values, prepend=np.nan)
    found[starts] = np.nan
    usual = float(np.nanmedian(found))
    following = np.append(found[1:], np.nan)
    found[starts] = np.nan_to_num(following[starts], nan=usual)
    found = np.nan_to_num(found, nan=usual)
    whole = column.config.kind == "integer"
    return Column(ColumnConfig(kind="integer" if whole else "numerical", decimals=column.config.decimals), found)


def _lagged(
    fitted: Fitted, given: Fitted | None, entity: NDArray[np.int64], lags: int
) -> tuple[list[Scores], NDArray[np.bool_]]:
    """Return scores of the entity, of the rows before (the oldest first) and of each row, and which are there."""
    now, there = joined([fitted])
    rows = len(entity)
    seen = np.ones((rows, len(now)), bool) if there is None else there
    scores: list[Scores] = []
    masks: list[NDArray[np.bool_]] = []
    if given is not None:
        more, known = joined([given])
        scores += more
        masks.append(np.ones((rows, len(more)), bool) if known is None else known)
    for lag in range(lags, -1, -1):
        same = np.zeros(rows, bool)
        same[lag:] = entity[lag:] == entity[: rows - lag]
        source = np.maximum(np.arange(rows) - lag, 0)
        scores += [Scores(np.where(same, each.values[source], 0.0), each.hermite) for each in now]
        masks.append(seen[source] & same[:, None])
    return scores, np.hstack(masks)


def sample_sequences(
    model: SequenceModel, rows: int, seed: int, context: Mapping[str, Column] | None = None
) -> Sampled:
    """Return whole sequences of about so many rows together.

    A row that breaks a constraint is drawn again while its sequence is drawn; one that still does after
    `config.patience` draws ends its sequence there, and is counted as rejected.
    """
    random = np.random.default_rng(seed)
    count = max(1, round(rows * model.entities.rows / model.rows))
    entities = sample_table(model.entities, count, int(random.integers(2**31))).table
    lengths = entities.columns[_LENGTH].values.astype(np.int64)
    state = _State(model, entities, random)
    reasons: Counter[str] = Counter()
    alive = np.arange(count)
    parts: list[tuple[NDArray[np.int64], dict[str, Column]]] = []
    for step in range(int(lengths.max())):
        alive = alive[lengths[alive] > step]
        alive, columns = state.next(alive, step, reasons)
        parts.append((alive, columns))
    return Sampled(_assembled(model, entities, parts, random), dict(reasons))


class _State:
    """Where each sequence is: its latent values of the last rows, and where its order stands."""

    def __init__(self, model: SequenceModel, entities: Table, random: np.random.Generator) -> None:
        self._model, self._entities, self._random = model, entities, random
        given = model.given.width if model.given else 0
        width = model.steps.width
        self._given = model.given.scores(entities.columns) if model.given else np.empty((entities.rows, 0))
        self._history = np.zeros((entities.rows, 0), dtype=np.float32)
        self._width = width
        corr = model.correlation
        self._laws = []
        for known in range(model.lags + 1):  # how many rows came before
            first = given + (model.lags - known) * width
            chosen = np.r_[0:given, first : len(corr)]
            law = corr[np.ix_(chosen[: given + (known + 1) * width], chosen[: given + (known + 1) * width])]
            self._laws.append(conditioned(law, given + known * width))
        order = model.schema.sequence_order
        self._at = entities.columns[_FIRST].values.copy() if order else np.empty(0)

    def next(
        self, alive: NDArray[np.int64], step: int, reasons: Counter[str]
    ) -> tuple[NDArray[np.int64], dict[str, Column]]:
        """Return which sequences go on, and their next row."""
        model = self._model
        known = min(step, model.lags)
        given = np.hstack((self._given[alive], self._history[alive])).astype(np.float32)
        latent = self._laws[known].draw(len(alive), self._random, given)
        columns = self._columns(alive, latent, step)
        for _ in range(model.config.patience):
            wrong = np.flatnonzero(self._wrong(columns, reasons))
            if not len(wrong):
                break
            latent[wrong] = self._laws[known].draw(len(wrong), self._random, given[wrong])
            again = self._columns(alive[wrong], latent[wrong], step)
            for name, column in again.items():
                columns[name].values[wrong] = column.values
        kept = ~self._wrong(columns, Counter())
        going = alive[kept]
        columns = {name: column.take(kept) for name, column in columns.items()}
        history = np.zeros((self._entities.rows, min(step + 1, model.lags) * self._width), dtype=np.float32)
        both = np.hstack((self._history[going], latent[kept]))
        history[going] = both[:, both.shape[1] - history.shape[1] :]
        self._history = history
        if model.schema.sequence_order:
            self._at[going] = columns[model.schema.sequence_order].values
        return going, columns

    def _columns(self, alive: NDArray[np.int64], latent: NDArray[np.float32], step: int) -> dict[str, Column]:
        model, schema = self._model, self._model.schema
        made = model.steps.decode(latent)
        columns = {
            name: Column(schema.columns[name], values, model.steps.marginals[name].categories)
            for name, values in made.items()
            if name != _STEP
        }
        for name in model.static:
            columns[name] = self._entities.columns[name].take(alive)
        if order := schema.sequence_order:
            moved = self._at[alive] if step == 0 else self._at[alive] + np.nan_to_num(made[_STEP])
            columns[order] = Column(schema.columns[order], moved)
        return columns

    def _wrong(self, columns: Mapping[str, Column], reasons: Counter[str]) -> NDArray[np.bool_]:
        rows = len(next(iter(columns.values())).values)
        wrong = np.zeros(rows, bool)
        for each in self._model.schema.constraints:
            found = ~wrong & broken(columns, each)
            if found.any():
                reasons[f"breaks {told(each)}"] += int(found.sum())
                wrong |= found
        if self._model.known is not None and rows:
            copies = ~wrong & self._model.known.has(columns)
            if copies.any():
                reasons[COPY] += int(copies.sum())
                wrong |= copies
        return wrong


def _assembled(
    model: SequenceModel,
    entities: Table,
    parts: list[tuple[NDArray[np.int64], dict[str, Column]]],
    random: np.random.Generator,
) -> Table:
    """Return the rows of all sequences, one sequence after the other."""
    schema = model.schema
    entity = np.concatenate([alive for alive, _ in parts])
    step = np.concatenate([np.full(len(alive), at) for at, (alive, _) in enumerate(parts)])
    order = np.lexsort((step, entity))
    columns = {}
    for name, config in schema.columns.items():
        if name == schema.sequence_key:
            keys = make_ids(name, config, entities.rows, random)
            columns[name] = Column(config, entity[order].astype(np.int32), keys.categories)
        elif config.kind == "id":
            columns[name] = make_ids(name, config, len(entity), random)
        else:
            pieces = [part[name] for _, part in parts]
            columns[name] = Column(config, np.concatenate([p.values for p in pieces])[order], pieces[0].categories)
    return Table(schema, columns, len(entity))
