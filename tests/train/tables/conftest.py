"""Tables whose structure is known."""

from __future__ import annotations

import numpy as np
import pytest

from bessemer.core.tabular import Column, ColumnConfig, Inequality, Positive, Table, TableSchema

ROWS = 3000
RHO = np.array([[1, 0.7, 0.3], [0.7, 1, 0.5], [0.3, 0.5, 1]])


def table_of(columns: dict[str, Column], **declared: object) -> Table:
    rows = len(next(iter(columns.values())).values)
    schema = TableSchema.model_validate({"columns": {n: c.config for n, c in columns.items()}, **declared})
    return Table(schema, columns, rows)


def numbers(values: object, kind: str = "numerical", **more: object) -> Column:
    return Column(ColumnConfig.model_validate({"kind": kind, **more}), np.asarray(values, float))


def texts(codes: object, names: str, kind: str = "categorical", **more: object) -> Column:
    config = ColumnConfig.model_validate({"kind": kind, **more})
    return Column(config, np.asarray(codes, np.int32), tuple(names))


@pytest.fixture(scope="module")
def mixed() -> Table:
    """All kinds, from three normal values of known correlation; `x` is missing where the second one is great."""
    random = np.random.default_rng(0)
    z = random.multivariate_normal(np.zeros(3), RHO, ROWS)
    x = np.round(np.exp(z[:, 0]), 3)
    x[z[:, 1] > 1.2] = np.nan
    rank = np.searchsorted([-1, -0.2, 0.4, 1], z[:, 2])
    start = np.round(1e9 + 1e6 * z[:, 0])
    return table_of(
        {
            "id": Column(ColumnConfig(kind="id", written="integer"), np.arange(ROWS), tuple(map(str, range(ROWS)))),
            "x": numbers(x, decimals=3),
            "count": numbers(np.round(z[:, 1] * 2), "integer"),
            "grade": texts(np.array([3, 0, 4, 1, 2])[rank], "abcde"),  # no order in the letters
            "flag": texts(z[:, 2] > 0.5, "ft", "boolean"),
            "start": numbers(start, "datetime", decimals=0),
            "end": numbers(start + np.round(1e5 * np.exp(z[:, 1])), "datetime", decimals=0),
        },
        primary_key="id",
        constraints=(Inequality(low="start", high="end"), Positive(column="x")),
    )
