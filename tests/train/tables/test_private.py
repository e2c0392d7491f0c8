"""Differential privacy: the budget, the noise that it means, and that nothing is taken from the data beside it."""

from __future__ import annotations

import numpy as np
import pytest

from bessemer.core.errors import ConfigError
from bessemer.core.tabular import Column, Table
from bessemer.train.tables import private
from bessemer.train.tables.config import CopulaConfig, PrivacyConfig
from bessemer.train.tables.single import fit_table, sample_table

from .conftest import RHO, numbers, table_of, texts


def data(rows: int = 4000, seed: int = 0) -> Table:
    z = np.random.default_rng(seed).multivariate_normal(np.zeros(3), RHO, rows)
    return table_of(
        {
            "x": numbers(z[:, 0], low=-4, high=4),
            "k": numbers(np.clip(np.round(z[:, 1] * 2), -6, 6), "integer", low=-6, high=6),
            "c": texts(np.searchsorted([-0.5, 0.5], z[:, 2]), "abc", categories=("a", "b", "c")),
        }
    )


def config(epsilon: float, **more: float) -> CopulaConfig:
    return CopulaConfig(privacy=PrivacyConfig.model_validate({"epsilon": epsilon, **more}))


class Still:
    """Noise that is noted and left out."""

    def __init__(self) -> None:
        self.drawn: list[tuple[float, int]] = []

    def normal(self, mean: float, sigma: float, size):
        self.drawn.append((float(sigma), int(np.prod(size))))
        return np.zeros(size)


def test_the_budget_is_what_the_conversion_says() -> None:
    for epsilon, delta in ((0.1, 1e-6), (1.0, 1e-6), (8.0, 1e-5)):
        rho = private.rho_of(epsilon, delta)
        assert rho + 2 * np.sqrt(rho * np.log(1 / delta)) == pytest.approx(epsilon)


def test_noise_is_that_of_the_sensitivity() -> None:
    still = Still()
    private.fit_private(data(), config(1.0, marginal_ratio=0.25), still)  # type: ignore[arg-type]
    rho = private.rho_of(1.0, 1e-6)
    *histograms, (moments, cells) = still.drawn
    assert [count for _, count in histograms] == [33, 14, 4], "bins and one for what is missing"
    for sigma, _ in histograms:
        assert sigma == pytest.approx(np.sqrt(3 / (2 * 0.25 * rho)))
    width = int(np.sqrt(cells))
    assert moments == pytest.approx(private.usual_norm(width) ** 2 / np.sqrt(2 * 0.75 * rho) / np.sqrt(2))


def test_what_is_released_moves_no_further_than_the_sensitivity_for_one_row() -> None:
    """Hold the histograms of neighbours against sqrt(d), and the moments given them against C squared."""
    whole, seen = data(400), []
    for table in (whole, whole.take(np.arange(399))):
        columns = {n: private._within(c) for n, c in table.columns.items()}
        found: list[np.ndarray] = []
        for column in columns.values():
            edges = private._bin_edges(column.config, 32) if column.config.numeric else None
            values = column.values if edges is None else np.clip(
                np.searchsorted(edges, column.values, "right") - 1, 0, len(edges) - 2)  # fmt: skip
            found.append(np.bincount(values.astype(int), minlength=33))
        seen.append(np.concatenate(found))
    assert np.linalg.norm(seen[0] - seen[1]) <= np.sqrt(3) + 1e-9


def test_more_budget_is_nearer_and_little_is_noise() -> None:
    real, apart = data(), []
    for epsilon in (0.05, 1.0, 50.0):
        model = private.fit_private(real, config(epsilon), np.random.default_rng(1))
        made = sample_table(model, 4000, 0).table
        shares = [np.bincount(t.columns["c"].values, minlength=3) / t.rows for t in (real, made)]
        corr = [np.corrcoef(t.columns["x"].values, t.columns["k"].values)[0, 1] for t in (real, made)]
        apart.append(np.abs(shares[0] - shares[1]).sum() + abs(corr[0] - corr[1]))
    assert apart[2] < 0.12
    assert apart[2] < apart[0]


def test_nothing_comes_from_the_data_but_the_noisy_counts() -> None:
    model = fit_table(data(), config(1.0))
    assert model.known is None, "rejecting copies would tell which rows there are"
    assert model.rows != 4000 or fit_table(data(), config(1.0)).rows != 4000, "the number of rows is noisy"
    assert model.noise["epsilon"] == 1.0
    made = sample_table(model, 500, 0).table
    assert made.columns["x"].values.min() >= -4 and made.columns["x"].values.max() <= 4


def test_the_noise_follows_no_seed() -> None:
    first, second = (fit_table(data(), config(1.0)).correlation for _ in range(2))
    assert not np.array_equal(first, second)


def test_values_beyond_what_is_declared_are_moved_or_missing() -> None:
    table = data(200)
    x = table.columns["x"]
    x.values[:5] = 1e9
    strange = Column(table.columns["c"].config, np.full(200, 3, np.int32), ("a", "b", "c", "secret"))
    odd = Table(table.schema, {**table.columns, "c": strange}, 200)
    made = sample_table(fit_table(odd, config(5.0)), 100, 0).table
    assert made.columns["x"].values.max() <= 4
    assert "secret" not in made.columns["c"].categories


@pytest.mark.parametrize(
    ("columns", "declared", "said"),
    [
        ({"x": numbers(np.arange(9.0))}, {}, r"declared, not learnt: x \(low, high\)"),
        ({"c": texts([0, 1, 0], "ab")}, {}, r"c \(categories\)"),
        (
            {"a": texts([0] * 9, "a", categories=("a",)), "b": texts([0] * 9, "b", categories=("b",))},
            {"constraints": [{"kind": "fixed_combinations", "columns": ["a", "b"]}]},
            "learnt from the data",
        ),
    ],
)
def test_what_is_not_declared_is_refused(columns, declared, said) -> None:
    with pytest.raises(ConfigError, match=said):
        fit_table(table_of(columns, **declared), config(1.0))


def test_inequalities_hold_within_declared_bounds() -> None:
    random = np.random.default_rng(2)
    low = random.uniform(0, 5, 800)
    table = table_of(
        {"low": numbers(low, low=0, high=10), "high": numbers(low + random.uniform(0, 5, 800), low=0, high=10)},
        constraints=[{"kind": "inequality", "low": "low", "high": "high"}],
    )
    made = sample_table(fit_table(table, config(3.0)), 300, 0).table
    assert not np.isnan(made.columns["high"].values).any()
    assert (made.columns["low"].values <= made.columns["high"].values).all()
