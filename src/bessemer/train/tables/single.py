"""One table as a Gaussian copula: fit it, sample rows, reject what breaks a constraint or copies a row, and say why.

Owns the way from a table to a model and back. Knows no other table, no file and no sequence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import Column, Table
from bessemer.train.tables.blocks import fit_block, joined
from bessemer.train.tables.config import CopulaConfig
from bessemer.train.tables.constraints import broken, check_data, plan_changes, told, unique_rows
from bessemer.train.tables.copula import conditioned, correlations
from bessemer.train.tables.fingerprints import fingerprints
from bessemer.train.tables.ids import make_ids
from bessemer.train.tables.model import Sampled, TableModel, without_ids
from bessemer.train.tables.private import fit_private

COPY = "copy of a row of the data"
LEAST_ROWS = 3
_NUMBERS_AGAIN = 4


def fit_table(
    table: Table,
    config: CopulaConfig | None = None,
    context: Mapping[str, Column] | None = None,
    counted: tuple[str, ...] = (),
) -> TableModel:
    """Return the model of a table.

    Args:
        table: the data.
        config: how it is fitted.
        context: columns of the same rows that it shall depend on and that are given when it is sampled.
        counted: columns that are not the data's own, as the number of a parent's children: no part of a copy.

    Raises:
        ConfigError: there are too few rows, no column to model, or rows break a constraint; under differential privacy
            also where bounds or categories are not declared.
    """
    config = config or CopulaConfig()
    if config.privacy is not None:
        if context:
            raise ConfigError(
                "differential privacy is for single tables of independent rows here",
                hint="Leave out `relations` and `sequence_key`, or `privacy`.",
            )
        return fit_private(table, config)
    if table.rows < LEAST_ROWS:
        raise ConfigError(f"{table.rows} rows are too few to learn from", hint=f"Give {LEAST_ROWS} or more.")
    check_data(table)
    changes = plan_changes(table)
    given = fit_block(context, config.knots, config.sweeps) if context else None
    modelled = changes.apply(without_ids(table))
    if not modelled and not context:
        raise ConfigError("there is no column to model: all are ids", hint="Declare what the others are in `columns`.")
    fitted = fit_block(modelled, config.knots, config.sweeps)
    scores, present = joined([given, fitted] if given else [fitted])
    own = {name: column for name, column in without_ids(table).items() if name not in counted}
    combined = {name: table.columns[name].categories for each in changes.combinations for name in each.columns}
    return TableModel(
        schema=table.schema, config=config, rows=table.rows, changes=changes, block=fitted.block,
        context=given.block if given else None,
        correlation=correlations(scores, present, given.block.width if given else 0), categories=combined,
        known=None if config.copies == "keep" else fingerprints(own, config.copies == "reject_unique"),
        compared=tuple(own),
    )  # fmt: skip


def sample_table(model: TableModel, rows: int, seed: int, context: Mapping[str, Column] | None = None) -> Sampled:
    """Return rows that were made; the same seed gives the same.

    Args:
        model: from `fit_table`.
        rows: how many; with a context, one for each of its rows.
        seed: of the draws.
        context: columns that the model depends on.

    Raises:
        ConfigError: so few rows are accepted that there will never be enough; the message says why they are rejected.
    """
    random = np.random.default_rng(seed)
    made, rejected = accepted(model, rows, _Draws(model, rows, random, context))
    ids = {
        name: make_ids(name, column, rows, random)
        for name, column in model.schema.columns.items()
        if column.kind == "id"
    }
    columns = {name: ids.get(name) or made[name] for name in model.schema.columns}
    return Sampled(Table(model.schema, columns, rows), rejected)


class _Draws:
    """Latent values of rows.

    A row that was rejected draws its numbers again first and keeps its categories and what is missing, so that
    rejecting changes the shares of those as little as it can; then it is drawn anew whole.
    """

    def __init__(
        self, model: TableModel, rows: int, random: np.random.Generator, context: Mapping[str, Column] | None
    ) -> None:
        self._random, self._latent = random, np.empty((rows, model.block.width), np.float32)
        self._given = model.context.scores(context or {}) if model.context else np.empty((rows, 0), np.float32)
        width = self._given.shape[1]
        self._whole = conditioned(model.correlation, width)
        marginals = model.block.marginals
        numbers = np.array(
            [marginals[name].config.numeric for name in model.block.moving] + [False] * len(model.block.missing),
            dtype=bool,
        )
        self._free, self._kept = np.flatnonzero(numbers), np.flatnonzero(~numbers)
        order = np.concatenate((np.arange(width), width + self._kept, width + self._free))
        self._numbers = conditioned(model.correlation[np.ix_(order, order)], width + len(self._kept))

    def __call__(self, wanted: NDArray[np.int64], attempt: int) -> NDArray[np.float32]:
        """Return latent values (wanted, width) of the rows of those numbers, again if `attempt` is above 0."""
        given = self._given[wanted]
        if attempt % (_NUMBERS_AGAIN + 1) and len(self._free):
            given = np.hstack((given, self._latent[wanted][:, self._kept]))
            self._latent[np.ix_(wanted, self._free)] = self._numbers.draw(len(wanted), self._random, given)
        else:
            self._latent[wanted] = self._whole.draw(len(wanted), self._random, given)
        return self._latent[wanted]


def accepted(
    model: TableModel, rows: int, draw: Callable[[NDArray[np.int64], int], NDArray[Any]]
) -> tuple[dict[str, Column], dict[str, int]]:
    """Return columns of rows that break nothing, and how many were rejected for what.

    Args:
        model: decodes and says what is broken.
        rows: how many.
        draw: gives latent values (wanted, width) for the numbers of rows that are still missing, at each attempt.
    """
    reasons: Counter[str] = Counter()
    made: dict[str, Column] = {}
    missing: NDArray[np.int64] = np.arange(rows)
    in_vain = attempt = 0
    while len(missing):
        found = decoded(model, draw(missing, attempt))
        attempt += 1
        kept = _kept(model, found, reasons)
        if not made:
            made = found
        else:
            for name, column in found.items():
                made[name].values[missing[kept]] = column.values[kept]
        before, missing = len(missing), missing[~kept]
        missing = _repeated(model, made, missing, reasons)
        in_vain = 0 if len(missing) < before else in_vain + 1
        if in_vain >= model.config.patience:
            raise ConfigError(_hopeless(rows, len(missing), reasons), hint=_remedy(reasons))
    return made, dict(reasons)


def decoded(model: TableModel, latent: NDArray[Any]) -> dict[str, Column]:
    """Return the table's own columns, ids left out, from latent values (rows, width of the block)."""
    values = model.changes.undo(model.block.decode(latent), model.schema)
    categories = {name: marginal.categories for name, marginal in model.block.marginals.items()}
    found = {}
    for name, config in model.schema.columns.items():
        if config.kind != "id":
            found[name] = Column(config, values[name], categories.get(name) or model.categories.get(name, ()))
    return found


def _kept(model: TableModel, found: Mapping[str, Column], reasons: Counter[str]) -> NDArray[np.bool_]:
    rows = len(next(iter(found.values())).values)
    kept = np.ones(rows, bool)
    for each in model.schema.constraints:
        wrong = kept & broken(found, each)
        if wrong.any():
            reasons[f"breaks {told(each)}"] += int(wrong.sum())
            kept &= ~wrong
    if model.known is not None:
        copies = kept & model.known.has({name: found[name] for name in model.compared})
        if copies.any():
            reasons[COPY] += int(copies.sum())
            kept &= ~copies
    return kept


def _repeated(
    model: TableModel, made: Mapping[str, Column], missing: NDArray[np.int64], reasons: Counter[str]
) -> NDArray[np.int64]:
    """Return the rows that are missing, with those that repeat what has to be unique."""
    for each in model.schema.constraints:
        if each.kind != "unique" or any(model.schema.columns[name].kind == "id" for name in each.names):
            continue  # ids are unique as they are made
        there = np.setdiff1d(np.arange(len(next(iter(made.values())).values)), missing)
        first = there[unique_rows({name: made[name].take(there) for name in each.names}, each.names)]
        again = np.setdiff1d(there, first)
        if len(again):
            reasons[f"breaks {told(each)}"] += len(again)
            missing = np.union1d(missing, again)
    return missing


def _hopeless(rows: int, missing: int, reasons: Counter[str]) -> str:
    why = ", ".join(f"{count:,} for '{reason}'" for reason, count in reasons.most_common(3))
    return f"{rows - missing:,} of {rows:,} rows could be made; of the others were rejected: {why}"


def _remedy(reasons: Counter[str]) -> str:
    if reasons.most_common(1)[0][0] == COPY:
        return (
            "The table has so few combinations of values that new rows repeat old ones: "
            "`copies: reject_unique` rejects only rows that stand once in the data."
        )
    return "Ask for fewer rows, or loosen that constraint."
