"""Figures of synthetic tables against other ways to the same number, and what they say of copies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import Column, ColumnConfig, Table, TableSchema
from bessemer.evals import AtLeast, GateConfig, decide
from bessemer.evals.tables.judging import judge_table
from bessemer.evals.tables.privacy import Space, area, exact_copies, nearer_share, privacy
from bessemer.evals.tables.profiles import profile
from bessemer.evals.tables.quality import quality
from bessemer.evals.tables.usefulness import usefulness


def table(rows: int, seed: int, shift: float = 0.0) -> Table:
    """Return a number, another that follows it with gaps, and a text that follows both."""
    random = np.random.default_rng(seed)
    x = random.normal(shift, 1, rows)
    y = x + random.normal(0, 0.5, rows)
    y[random.random(rows) < 0.1] = np.nan
    c = (x + random.normal(0, 0.3, rows) > 0).astype(np.int32)
    c[random.random(rows) < 0.05] = -1
    columns = {
        "key": Column(ColumnConfig(kind="id"), np.arange(rows, dtype=np.int32), tuple(map(str, range(rows)))),
        "x": Column(ColumnConfig(kind="numerical"), np.round(x, 6)),
        "y": Column(ColumnConfig(kind="numerical"), np.round(y, 6)),
        "c": Column(ColumnConfig(kind="categorical"), c, ("no", "yes")),
    }
    return Table(TableSchema(columns={name: column.config for name, column in columns.items()}), columns, rows)


REAL, OTHER = table(600, 0), table(500, 1, 0.4)


def test_shapes_and_trends_are_what_others_compute() -> None:
    found = quality(REAL, OTHER)
    x, y = (tuple(t.columns[name].values for t in (REAL, OTHER)) for name in ("x", "y"))
    assert found.shapes["x"] == pytest.approx(1 - stats.ks_2samp(*x).statistic)
    there = [~np.isnan(values) for values in y]
    correlations = [stats.pearsonr(a[t], b[t]).statistic for a, b, t in zip(x, y, there, strict=True)]
    assert found.trends["x", "y"] == pytest.approx(1 - abs(correlations[0] - correlations[1]) / 2)
    edges = np.histogram_bin_edges(x[0], 10)
    edges[[0, -1]] = -np.inf, np.inf
    joint = [
        np.histogram2d(a, t.columns["c"].values, bins=(edges, [-1.5, -0.5, 0.5, 1.5]))[0] / t.rows
        for a, t in zip(x, (REAL, OTHER), strict=True)
    ]
    assert found.trends["x", "c"] == pytest.approx(1 - np.abs(joint[0] - joint[1]).sum() / 2)
    assert quality(REAL, REAL).overall == 1.0
    assert set(found.shapes) == {"x", "y", "c"}, "ids have no shape"


def test_categories_are_matched_by_text_and_not_by_code() -> None:
    c = OTHER.columns["c"]
    turned = Column(c.config, np.where(c.values < 0, -1, 1 - c.values), ("yes", "no"))
    same = Table(OTHER.schema, {**OTHER.columns, "c": turned}, OTHER.rows)
    assert quality(REAL, same) == quality(REAL, OTHER)
    assert exact_copies(OTHER, same) == OTHER.rows


def test_distances_are_gower_s() -> None:
    space, names = Space(REAL, ["x", "y", "c"]), ("x", "y")
    found = space.closest(OTHER.take(np.arange(20)), REAL, 2)
    spans = [np.ptp(REAL.columns[n].values[~np.isnan(REAL.columns[n].values)]) for n in names]
    for row in range(20):
        total = np.zeros(REAL.rows)
        for name, span in zip(names, spans, strict=True):
            here, there = OTHER.columns[name].values[row], REAL.columns[name].values
            apart = np.minimum(np.abs(here - there) / span, 1)
            total += np.where(np.isnan(there) | np.isnan(here), np.isnan(there) != np.isnan(here), apart)
        total += REAL.columns["c"].values != OTHER.columns["c"].values[row]
        assert found[row] == pytest.approx(np.sort(total)[:2] / 3, abs=1e-6)


def test_exact_copies_are_counted_one_by_one() -> None:
    mixed = OTHER.take(np.arange(300))
    stolen = {n: Column(c.config, np.concatenate((c.values[:297], REAL.columns[n].values[:3])), c.categories)
              for n, c in mixed.columns.items()}  # fmt: skip
    assert exact_copies(REAL, mixed) == 0
    assert exact_copies(REAL, Table(REAL.schema, stolen, 300)) == 3


def test_the_area_is_that_of_the_curve() -> None:
    random = np.random.default_rng(2)
    one, two = np.round(random.normal(0.5, 1, 80), 1), np.round(random.normal(0, 1, 50), 1)
    expected = np.mean((one[:, None] > two).astype(float) + 0.5 * (one[:, None] == two))
    assert area(one, two).value == pytest.approx(expected)
    cover = [area(random.normal(0.5, 1, 60), random.normal(0, 1, 40)) for _ in range(400)]
    truth = stats.norm.cdf(0.5 / np.sqrt(2))
    assert np.mean([each.low <= truth <= each.high for each in cover]) == pytest.approx(0.95, abs=0.03)


def test_a_thief_is_caught_and_an_honest_table_is_not() -> None:
    train, holdout = table(400, 3), table(400, 4)
    honest = privacy(train, holdout, table(400, 5))
    stolen = train.take(np.arange(400))
    noisy = {**stolen.columns, "x": Column(stolen.columns["x"].config, stolen.columns["x"].values + 1e-4)}
    thief = privacy(train, holdout, Table(train.schema, noisy, 400))
    assert honest.nearer.low < 0.5 < honest.nearer.high
    assert honest.membership.low < 0.52
    assert thief.exact_copies == 0, "a little noise hides a copy from who only counts"
    assert thief.nearer.value > 0.9 and thief.membership.low > 0.9 and thief.ratio < 0.1
    gate = GateConfig(rules=(AtLeast(metric="membership_leak", value=0.02),))
    reports = [judge_table(train, holdout, t) for t in (table(400, 5), Table(train.schema, noisy, 400))]
    assert [decide(gate, [r.real], [r.report]).passed for r in reports] == [True, False]


def test_ties_count_half_and_rows_with_one_neighbour_count_as_one() -> None:
    assert nearer_share(np.zeros(10), np.zeros(10), np.arange(10)).value == 0.5
    many = nearer_share(np.zeros(100), np.ones(100), np.zeros(100, int))
    assert many.low < 0.95 < nearer_share(np.zeros(100), np.ones(100), np.arange(100)).low


def test_the_interval_of_nearness_holds_for_tables_that_know_nothing() -> None:
    """Few rows held out and many made: one in forty is above chance by its interval, not one in five."""
    above = 0
    for seed in range(120):
        found = privacy(table(60, seed), table(60, seed + 1000), table(400, seed + 2000))
        above += found.nearer.low > 0.5
    assert above <= 9


def test_a_learner_learns_from_what_looks_alike_and_nothing_from_noise() -> None:
    train, holdout = table(500, 6), table(300, 7)
    good = usefulness(train, holdout, table(500, 8), "c")
    assert good is not None and good.real > 0.75 and good.kept > 0.9
    shuffled = table(500, 8)
    random = np.random.default_rng(0)
    columns = {n: c.take(random.permutation(500)) for n, c in shuffled.columns.items()}
    bad = usefulness(train, holdout, Table(train.schema, columns, 500), "c")
    assert bad is not None and bad.kept < 0.3
    number = usefulness(train, holdout, table(500, 9), "y")
    assert number is not None and number.metric == "r2" and number.kept > 0.8
    with pytest.raises(ConfigError, match="'key' cannot be predicted"):
        usefulness(train, holdout, train, "key")


def test_columns_without_values_have_no_figure() -> None:
    empty = Column(ColumnConfig(kind="numerical"), np.full(600, np.nan))
    flat = Column(ColumnConfig(kind="numerical"), np.zeros(600))
    columns = {**REAL.columns, "empty": empty, "flat": flat}
    odd = Table(TableSchema(columns={n: c.config for n, c in columns.items()}), columns, 600)
    found = quality(odd, odd)
    assert "empty" not in found.shapes and found.shapes["flat"] == 1.0
    assert ("x", "flat") not in found.trends
    report = judge_table(odd, odd, odd)
    assert report.report.metric("exact_copies").value == 600


def test_bars_are_shares_of_the_same_bins() -> None:
    found = profile(REAL.columns["x"], OTHER.columns["x"], 6)
    assert sum(found.real) == pytest.approx(1) and sum(found.synthetic) == pytest.approx(1)
    assert profile(REAL.columns["c"], OTHER.columns["c"]).real == pytest.approx(
        tuple(np.sort(np.bincount(REAL.columns["c"].values[REAL.columns["c"].values >= 0]))[::-1]
              / (REAL.columns["c"].values >= 0).sum())
    )  # fmt: skip
