"""A copula with differential privacy: noisy histograms and noisy second moments of clipped scores, nothing else.

Neighbouring tables differ in one row, added or removed. All is counted in zero-concentrated differential privacy (rho),
which adds up over what is released, and is told as (epsilon, delta).

1. Each column's histogram has one more bin for missing values; its bins are declared. A row is in one bin of each of d
   columns, so all histograms together move by sqrt(d) in Euclidean norm: Gaussian noise of variance d / (2 rho_1).
2. Given those, a row's scores are a function of that row alone. Clipped to the norm C, its outer product has Frobenius
   norm C^2 at most: Gaussian noise of variance C^4 / (2 rho_2) on the diagonal and half of it beside it.
All the rest is made from what was released.

Source: Bun & Steinke 2016, "Concentrated differential privacy", arXiv:1605.02065, propositions 1.3, 1.6 and lemma 1.7;
Dwork, Talwar, Thakurta & Zhang 2014, "Analyze Gauss"; the shape of the synthesiser: Li, Xiong & Jiang 2014, "DPCopula".
The noise is of floating-point numbers, which Mironov 2012 shows to leak in their last bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import Column, ColumnConfig, Table
from bessemer.train.tables.blocks import Block
from bessemer.train.tables.config import CopulaConfig, PrivacyConfig
from bessemer.train.tables.constraints import check_kinds, plan_changes
from bessemer.train.tables.copula import nearest, unattenuated
from bessemer.train.tables.marginals import Floats, Marginal, categorical, interval_scores
from bessemer.train.tables.model import TableModel, without_ids

_SURELY = 3
"""Standard deviations of the noise above which values are taken to be missing: none shall be that never were."""


def rho_of(epsilon: float, delta: float) -> float:
    """Return the zero-concentrated budget that gives (epsilon, delta): epsilon = rho + 2 sqrt(rho ln(1 / delta)).

    >>> round(rho_of(1.0, 1e-6), 5)
    0.01747
    """
    log = np.log(1 / delta)
    return float((np.sqrt(log + epsilon) - np.sqrt(log)) ** 2)


def fit_private(table: Table, config: CopulaConfig, random: np.random.Generator | None = None) -> TableModel:
    """Return the model of a table with differential privacy.

    Args:
        table: the data; values beyond declared bounds are moved to them, undeclared categories count as missing.
        config: its `privacy` says how much.
        random: of the noise; by default from the system's entropy and not from any seed, since who knows the seed can
            take the noise away.

    Raises:
        ConfigError: bounds or categories of a column are not declared, or a constraint needs the data.
    """
    privacy = config.privacy or PrivacyConfig()
    random = random or np.random.default_rng()
    check_kinds(table.schema)
    if table.schema.sequence_key:
        raise ConfigError("differential privacy is for rows that stand alone", hint="Leave out `sequence_key`.")
    _check_declared(table)
    changes = plan_changes(table, declared_only=True)
    gaps = {gap.high: gap for gap in changes.gaps}
    modelled = changes.apply({name: _within(column) for name, column in without_ids(table).items()})
    columns = {}
    for name, column in modelled.items():
        if name in gaps:
            ends = _gap_ends(table, gaps[name].low, name)
            config_of = column.config.model_copy(update={"low": ends[0], "high": ends[1]})
            column = _within(Column(config_of, column.values))  # noqa: PLW2901
        columns[name] = column
    if not columns:
        raise ConfigError("there is no column to model: all are ids", hint="Declare what the others are in `columns`.")
    rho = rho_of(privacy.epsilon, privacy.delta)
    block, places, rows = _marginals(columns, privacy, rho * privacy.marginal_ratio, random)
    correlation = _correlation(block, places, rows, privacy, rho * (1 - privacy.marginal_ratio), random)
    noise = {
        "epsilon": privacy.epsilon, "delta": privacy.delta, "rho": rho,
        "rho_marginals": rho * privacy.marginal_ratio, "rho_correlations": rho * (1 - privacy.marginal_ratio),
    }  # fmt: skip
    return TableModel(
        schema=table.schema, config=config, rows=max(1, round(rows)), changes=changes, block=block, context=None,
        correlation=correlation, known=None, noise=noise,
    )  # fmt: skip


def _check_declared(table: Table) -> None:
    lacking = []
    for name, column in table.columns.items():
        config = column.config
        if config.numeric and None in config.bounds:
            lacking.append(f"{name} (low, high)")
        elif config.kind in ("categorical", "boolean") and not config.categories:
            lacking.append(f"{name} (categories)")
    if lacking:
        raise ConfigError(
            f"differential privacy needs what may be in a column declared, not learnt: {', '.join(lacking)}",
            hint="Declare it in `columns`, from what you know without looking at the data.",
        )


def _within(column: Column) -> Column:
    """Return a column within what is declared of it."""
    config = column.config
    if config.numeric:
        low, high = config.bounds
        return Column(config, np.clip(column.values, low, high))
    place = {text: code for code, text in enumerate(config.categories)}
    codes = np.array([place.get(text, -1) for text in column.categories] + [-1], dtype=np.int32)
    return Column(config, codes[column.values], config.categories)


def _gap_ends(table: Table, low: str, high: str) -> tuple[float, float]:
    (least, _), (_, most) = table.columns[low].config.bounds, table.columns[high].config.bounds
    return 0.0, max(0.0, (most or 0.0) - (least or 0.0))


def _bin_edges(config: ColumnConfig, bins: int) -> Floats:
    """Return the ends of the declared bins of a number; whole numbers have bins of whole numbers."""
    low, high = (float(bound or 0.0) for bound in config.bounds)
    if config.kind == "integer":
        low, high = np.floor(low) - 0.5, np.ceil(high) + 0.5
        bins = int(min(bins, high - low))
        return np.unique(np.round(np.linspace(low + 0.5, high + 0.5, bins + 1)) - 0.5)
    return np.linspace(low, high if high > low else low + 1.0, bins + 1)


def _marginals(
    columns: Mapping[str, Column], privacy: PrivacyConfig, rho: float, random: np.random.Generator
) -> tuple[Block, Floats, float]:
    """Return noisy distributions, each row's scores (rows, width), and the noisy number of rows."""
    sigma = np.sqrt(len(columns) / (2 * rho))
    marginals: dict[str, Marginal] = {}
    groups: dict[str, int] = {}
    shares: list[float] = []
    totals, moving, patterns = [], [], []
    for name, column in columns.items():
        edges = _bin_edges(column.config, privacy.bins) if column.config.numeric else None
        bins = len(column.categories) if edges is None else len(edges) - 1
        there = ~np.isnan(column.values) if edges is not None else column.values >= 0
        place = np.full(len(column.values), bins)
        found = column.values[there]
        place[there] = found if edges is None else np.clip(np.searchsorted(edges, found, "right") - 1, 0, bins - 1)
        counts = np.bincount(place, minlength=bins + 1) + random.normal(0, sigma, bins + 1)
        totals.append(counts.sum())
        counts = _cleaned(counts, sigma)
        missing = counts[bins] / counts.sum() if counts[bins] > _SURELY * sigma else 0.0
        marginal, scores = _noisy(column, counts[:bins], edges)
        marginals[name] = marginal
        if not marginal.constant:
            moving.append(np.append(scores, 0.0)[place])
        if 0 < missing < 1:
            groups[name] = len(shares)
            shares.append(float(missing))
            means, _ = interval_scores(np.array([0.0, missing, 1.0]))
            patterns.append(means[there.astype(np.int64)])
    rows = max(1.0, float(np.mean(totals)))
    scores_of = np.column_stack(moving + patterns) if moving or patterns else np.empty((len(place), 0))
    return Block(marginals, groups, tuple(shares)), scores_of, rows


def _cleaned(counts: Floats, sigma: float) -> Floats:
    """Return noisy counts without those that are likely noise alone; some count is always left."""
    kept = np.where(counts > sigma, counts, 0.0)
    if kept.sum() > 0:
        return kept
    uniform = np.ones_like(counts)
    uniform[-1] = 0.0
    return uniform


def _noisy(column: Column, counts: Floats, edges: Floats | None) -> tuple[Marginal, Floats]:
    """Return the distribution of noisy counts, and the score of each bin."""
    if counts.sum() <= 0:
        counts = np.ones_like(counts)
    if edges is None:
        marginal = categorical(column.config, counts, column.categories, np.arange(len(counts)))
        scores = np.zeros(len(counts))
        scores[marginal.values.astype(np.int64)] = interval_scores(marginal.edges)[0]
        return marginal, scores
    chance = np.concatenate(([0.0], np.cumsum(counts))) / counts.sum()
    steps = column.config.kind == "integer" and bool(np.all(np.diff(edges) == 1))
    if steps:
        used = counts > 0
        ends = np.concatenate(([0.0], np.cumsum(counts[used]))) / counts.sum()
        marginal = Marginal(column.config, ends, (edges[:-1] + 0.5)[used], steps=True)
    else:
        marginal = Marginal(column.config, chance, edges, steps=False)
    return marginal, interval_scores(chance)[0]


def _correlation(
    block: Block, scores: Floats, rows: float, privacy: PrivacyConfig, rho: float, random: np.random.Generator
) -> Floats:
    """Return the correlation matrix of noisy second moments."""
    width = block.width
    if not width:
        return np.empty((0, 0))
    norm = privacy.norm or usual_norm(width)
    lengths = np.linalg.norm(scores, axis=1, keepdims=True)
    clipped = scores * np.minimum(1.0, norm / np.maximum(lengths, 1e-12))
    sigma = norm**2 / np.sqrt(2 * rho)
    upper = np.triu(random.normal(0, sigma / np.sqrt(2), (width, width)), 1)
    covariance = (clipped.T @ clipped + upper + upper.T) / rows
    covariance[np.diag_indices(width)] = 1.0
    return nearest(unattenuated(covariance, _hermite(block)))


def usual_norm(width: int) -> float:
    """Return the norm that hardly any row of so many normal scores is beyond: mean and three deviations of its square.

    Source: the square is chi-squared with mean `width` and variance 2 `width`.
    """
    return float(np.sqrt(width + 3 * np.sqrt(2 * width)))


def _hermite(block: Block) -> NDArray[np.float64]:
    found = [interval_scores(block.marginals[name].edges)[1] for name in block.moving]
    found += [interval_scores(np.array([0.0, share, 1.0]))[1] for share in block.missing]
    return np.stack(found)
