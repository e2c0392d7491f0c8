"""One table: what is kept, what never breaks, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import FixedCombinations, Inequality, Range, Unique
from bessemer.train.tables.config import CopulaConfig
from bessemer.train.tables.constraints import broken
from bessemer.train.tables.fingerprints import row_hashes
from bessemer.train.tables.marginals import fit_marginal, interval_scores
from bessemer.train.tables.model import without_ids
from bessemer.train.tables.single import COPY, fit_table, sample_table

from .conftest import RHO, ROWS, numbers, table_of, texts

KEEP = CopulaConfig(copies="keep")


@pytest.fixture(scope="module")
def made(mixed):
    return sample_table(fit_table(mixed), ROWS, 1)


def test_correlations_of_ties_and_categories_are_those_of_the_normal_values_behind_them() -> None:
    z = np.random.default_rng(3).multivariate_normal(np.zeros(3), RHO, 40_000)
    few = table_of(
        {
            "two": texts(z[:, 0] > 0.8, "ft"),
            "five": numbers(np.searchsorted([-1, 0, 0.5, 2], z[:, 1]), "integer"),
            "any": numbers(z[:, 2]),
        }
    )
    model = fit_table(few)
    found = np.abs(model.correlation)  # which of two categories stands first is nobody's business
    assert np.abs(found - RHO).max() < 0.02
    plain = np.abs(np.corrcoef(np.column_stack([c.values for c in few.columns.values()]).T))
    assert np.abs(plain - RHO).max() > 0.15, "without the correction it would be far off"


def test_the_hermite_coefficients_of_a_fine_step_function_are_those_of_the_identity() -> None:
    _, hermite = interval_scores(np.linspace(0, 1, 5001))
    assert hermite[0] == pytest.approx(1, abs=0.002)
    assert np.abs(hermite[1:]).max() < 0.02


def test_shapes_missing_values_and_trends_are_kept(mixed, made) -> None:
    for name in ("x", "count", "start", "end"):
        real, other = (t.columns[name].values for t in (mixed, made.table))
        assert stats.ks_2samp(real[~np.isnan(real)], other[~np.isnan(other)]).statistic < 0.05
    grades = [np.bincount(t.columns["grade"].values, minlength=5) / ROWS for t in (mixed, made.table)]
    assert np.abs(grades[0] - grades[1]).max() < 0.03
    gone = [np.isnan(t.columns["x"].values) for t in (mixed, made.table)]
    assert gone[1].mean() == pytest.approx(gone[0].mean(), abs=0.02)
    # x is missing where the count is great, and the letters have no order of their own: both are found.
    means = [t.columns["count"].values[m].mean() for t, m in zip((mixed, made.table), gone, strict=True)]
    assert means[1] == pytest.approx(means[0], abs=0.4)
    by_grade = [
        [t.columns["count"].values[t.columns["grade"].values == code].mean() for code in range(5)]
        for t in (mixed, made.table)
    ]
    assert np.abs(np.subtract(*by_grade)).max() < 0.25


def test_what_is_made_breaks_nothing_and_copies_nothing(mixed, made) -> None:
    for each in mixed.schema.constraints:
        assert not broken(made.table.columns, each).any()
    hashes = [row_hashes(without_ids(t)) for t in (mixed, made.table)]
    assert not np.isin(hashes[1], hashes[0]).any()
    assert len(set(made.table.columns["id"].categories)) == ROWS
    x = made.table.columns["x"].values
    assert np.array_equal(np.round(x, 3), x, equal_nan=True)


def test_the_same_seed_makes_the_same_rows(mixed, made) -> None:
    model = fit_table(mixed)
    again, other = sample_table(model, ROWS, 1), sample_table(model, ROWS, 2)
    same = [np.array_equal(made.table.columns["x"].values, t.table.columns["x"].values, equal_nan=True)
            for t in (again, other)]  # fmt: skip
    assert same == [True, False]


def test_fixed_combinations_and_unique_hold() -> None:
    random = np.random.default_rng(4)
    city = random.integers(0, 6, 500)
    data = table_of(
        {"city": texts(city, "abcdef"), "country": texts(city // 2, "xyz"), "code": numbers(np.arange(500), "integer")},
        constraints=(FixedCombinations(columns=("city", "country")), Unique(columns=("code",))),
    )
    found = sample_table(fit_table(data, KEEP), 300, 0)
    assert np.array_equal(found.table.columns["city"].values // 2, found.table.columns["country"].values)
    assert len(np.unique(found.table.columns["code"].values)) == 300
    assert any(reason.startswith("breaks unique") for reason in found.rejected)


def test_what_can_never_be_made_is_said_with_the_reason() -> None:
    data = table_of({"k": numbers(np.arange(50), "integer")}, constraints=(Unique(columns=("k",)),))
    with pytest.raises(ConfigError, match=r"could be made.*unique \(k\)"):
        sample_table(fit_table(data, KEEP), 51, 0)
    two = table_of({"a": texts([0, 1] * 20, "xy"), "b": texts([0, 0, 1, 1] * 10, "xy")})
    with pytest.raises(ConfigError) as caught:
        sample_table(fit_table(two), 10, 0)
    assert COPY in caught.value.message
    assert "reject_unique" in caught.value.hint
    assert sample_table(fit_table(two, CopulaConfig(copies="reject_unique")), 10, 0).table.rows == 10


def test_odd_columns_are_kept_as_they_are() -> None:
    data = table_of(
        {
            "constant": numbers(np.full(40, 7.0)),
            "nothing": numbers(np.full(40, np.nan)),
            "no_text": texts(np.full(40, -1), ""),
            "one": texts(np.zeros(40), "a"),
            "x": numbers(np.arange(40.0)),
        }
    )
    found = sample_table(fit_table(data, KEEP), 60, 0).table.columns
    assert set(found["constant"].values) == {7.0}
    assert np.isnan(found["nothing"].values).all()
    assert (found["no_text"].values == -1).all()
    assert (found["one"].values == 0).all()
    assert found["x"].values.min() >= 0 and found["x"].values.max() <= 39


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"constraints": [{"kind": "range", "column": "x", "low": 3, "high": 1}]}, "no number satisfies"),
        ({"constraints": [{"kind": "range", "column": "x", "low": 5}]}, "5 of 20 rows of the data break 5.0 <= x"),
        ({"constraints": [{"kind": "positive", "column": "c"}]}, "compares 'c', which is categorical"),
        ({"constraints": [{"kind": "positive", "column": "z"}]}, "there is no column 'z'"),
        ({"primary_key": "z"}, "there is no column 'z'"),
    ],
)
def test_bad_declarations_are_named(declared, said) -> None:
    columns = {"x": numbers(np.arange(20.0)), "c": texts([0, 1] * 10, "ab")}
    with pytest.raises((ConfigError, ValueError), match=said):
        fit_table(table_of(columns, **declared))


def test_tables_too_small_to_learn_from() -> None:
    with pytest.raises(ConfigError, match="2 rows are too few"):
        fit_table(table_of({"x": numbers([1.0, 2.0])}))
    with pytest.raises(ConfigError, match="no column to model"):
        fit_table(table_of({"i": texts(np.arange(5), "abcde", "id")}))
    found = sample_table(fit_table(table_of({"x": numbers([1.0, 2.0, 4.0])}), KEEP), 5, 0)
    assert 1 <= found.table.columns["x"].values.min() <= found.table.columns["x"].values.max() <= 4


@settings(max_examples=40)
@given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0])), min_size=3, max_size=60),
    st.booleans(),
)
def test_a_marginal_gives_back_what_it_was_given(values, whole) -> None:
    found = np.array([np.nan if v is None else (round(v) if whole else v) for v in values])
    column = numbers(found, "integer" if whole else "numerical")
    marginal = fit_marginal(column, 64)
    there = found[~np.isnan(found)]
    random = np.random.default_rng(0)
    drawn = marginal.decode(random.standard_normal(200))
    if not len(there):
        assert np.isnan(drawn).all()
        return
    assert there.min() <= drawn.min() and drawn.max() <= there.max()
    if not marginal.constant:
        back = marginal.decode(marginal.scores(there))
        assert np.abs(back - there).max() <= 1e-6 * (1 + np.ptp(there)) + whole


def test_an_impossible_inequality_ring_is_only_checked() -> None:
    same = np.arange(30.0)
    data = table_of(
        {"a": numbers(same), "b": numbers(same)},
        constraints=(Inequality(low="a", high="b"), Inequality(low="b", high="a"), Range(column="a", low=0)),
    )
    with pytest.raises(ConfigError, match="rows could be made"):
        sample_table(fit_table(data, CopulaConfig(copies="keep", patience=2)), 30, 0)
