"""What a fitted table is, and what came of sampling it.

Owns the shapes. How they are filled stands in `single.py` and `private.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bessemer.core.tabular import Column, Table, TableSchema
from bessemer.train.tables.blocks import Block
from bessemer.train.tables.config import CopulaConfig
from bessemer.train.tables.constraints import Changes
from bessemer.train.tables.fingerprints import Fingerprints
from bessemer.train.tables.marginals import Floats


@dataclass(frozen=True, slots=True)
class TableModel:
    """A fitted table.

    Attributes:
        schema: of the table; sampled tables have the same.
        config: how it was fitted.
        rows: how many it was fitted to; under differential privacy a noisy count.
        changes: of the columns before they were modelled.
        block: distributions of the modelled columns.
        context: distributions of the columns that it depends on, such as a parent's; None is none.
        correlation: (context + block widths) squared; of the context, covariances of scores.
        categories: of columns that are not modelled by themselves, as they are combined with others.
        known: fingerprints of the rows of the data; None where copies are kept.
        compared: the columns that fingerprints are of.
        noise: how differential privacy was reached, for the card; empty without.
    """

    schema: TableSchema
    config: CopulaConfig
    rows: int
    changes: Changes
    block: Block
    context: Block | None
    correlation: Floats
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known: Fingerprints | None = None
    compared: tuple[str, ...] = ()
    noise: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Rows that were made, and how many were rejected for each reason."""

    table: Table
    rejected: Mapping[str, int]


def without_ids(table: Table) -> dict[str, Column]:
    """Return the columns that are modelled: all but ids."""
    return {name: column for name, column in table.columns.items() if column.config.kind != "id"}
