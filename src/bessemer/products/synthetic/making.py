"""From real tables to synthetic ones with a verdict: hold rows out, fit, sample, judge.

Owns the order, for the factory's steps, the command line and jobs alike. Knows no file, no flow and no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import RuleOutcome, Verdict
from bessemer.core.tabular import Table
from bessemer.evals import decide
from bessemer.evals.tables.judging import TableReport, judge_table
from bessemer.lake.tabular.reading import to_table
from bessemer.products.synthetic.config import SyntheticConfig
from bessemer.train.tables.model import Sampled
from bessemer.train.tables.related import TablesModel, fit_tables, sample_tables
from bessemer.train.tables.splitting import split_tables

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Parts:
    """Tables to learn from and those held out."""

    train: dict[str, Table]
    holdout: dict[str, Table]


def typed_tables(found: Mapping[str, pa.Table], config: SyntheticConfig) -> dict[str, Table]:
    """Return Arrow tables as typed ones: what is declared, the rest as seen; keys of relations are ids.

    Raises:
        ConfigError: a table does not fit what is declared of it; the message names the table.
    """
    tables = {}
    for name, arrow in found.items():
        keys = {relation.key for relation in config.relations if relation.child == name}
        try:
            tables[name] = to_table(arrow, config.about.get(name), keys)
        except ConfigError as error:
            raise ConfigError(f"table '{name}': {error.message}", hint=error.hint) from error
    return tables if config.fit.privacy is None else {name: _plain_ids(table) for name, table in tables.items()}


def _plain_ids(table: Table) -> Table:
    """Return a table whose ids follow no pattern of the data: under differential privacy nothing is seen in passing."""
    columns = {
        name: column.model_copy(update={"pattern": ""}) if column.kind == "id" else column
        for name, column in table.schema.columns.items()
    }
    return Table(table.schema.with_columns(columns), table.columns, table.rows)


def parts_of(tables: Mapping[str, Table], config: SyntheticConfig) -> Parts:
    """Return the tables split; raises as `split_tables`."""
    return Parts(*split_tables(tables, config.relations, config.judge.holdout_ratio, config.seed))


def fit(parts: Parts, config: SyntheticConfig) -> TablesModel:
    """Return the model of the tables to learn from; raises as `fit_tables`."""
    return fit_tables(parts.train, config.relations, config.fit)


def sample(model: TablesModel, config: SyntheticConfig, rows: int | None = None) -> dict[str, Sampled]:
    """Return what the model makes; raises as `sample_tables`."""
    scale = 1 / (1 - config.judge.holdout_ratio)  # as many rows as the whole data
    return sample_tables(model, scale, config.seed, rows or config.rows)


def judge(parts: Parts, made: Mapping[str, Sampled], config: SyntheticConfig) -> dict[str, TableReport]:
    """Return what each synthetic table comes to; raises as `judge_table`."""
    return {
        name: judge_table(
            parts.train[name], parts.holdout[name], sampled.table, config.judge.target.get(name, ""),
            config.judge.most_rows, config.seed,
        )
        for name, sampled in made.items()
    }  # fmt: skip


def verdict(reports: Mapping[str, TableReport], config: SyntheticConfig) -> Verdict:
    """Return whether all tables may leave, with what each rule found of each."""
    outcomes: list[RuleOutcome] = []
    for name, report in reports.items():
        found = decide(config.gate, [report.real], [report.report])
        told = "" if len(reports) == 1 else f"{name}: "
        outcomes += [each.model_copy(update={"sentence": told + each.sentence}) for each in found.outcomes]
    return Verdict(passed=all(outcome.passed for outcome in outcomes), outcomes=tuple(outcomes))
