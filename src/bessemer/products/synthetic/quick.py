"""A synthetic copy in one go: straight from files.

Owns what the command line and jobs do without a run of the factory. Knows neither terminal nor HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.nouns import Verdict
from bessemer.core.tabular import Table
from bessemer.evals.tables.judging import TableReport
from bessemer.lake.tabular.reading import read_arrow
from bessemer.lake.tabular.writing import write_table
from bessemer.products.synthetic import making
from bessemer.products.synthetic.card import DatasetCard, dataset_card, write_card
from bessemer.products.synthetic.config import SyntheticConfig
from bessemer.train.tables.keeping import save_model
from bessemer.train.tables.model import Sampled
from bessemer.train.tables.related import TablesModel


@dataclass(frozen=True, slots=True)
class Wanted:
    """Tables to copy.

    Attributes:
        name: of the dataset.
        tables: by name, typed.
        config: how.
    """

    name: str
    tables: Mapping[str, Table]
    config: SyntheticConfig


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it; seconds are of fitting and of sampling alone."""

    wanted: Wanted
    parts: making.Parts
    model: TablesModel
    tables: Mapping[str, Sampled]
    reports: Mapping[str, TableReport]
    verdict: Verdict
    card: DatasetCard
    fit_seconds: float
    sample_seconds: float


def of_files(paths: Mapping[str, Path], config: SyntheticConfig) -> Wanted:
    """Return what is to be copied of files, by the names of their tables.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is no table, or does not fit what is declared of it.
    """
    found = {name: read_arrow(path) for name, path in paths.items()}
    return Wanted(next(iter(paths)), making.typed_tables(found, config), config)


def make(asked: Wanted) -> Made:
    """Return a judged synthetic copy of tables; nothing is written. Raises as `making.fit` and `making.sample`."""
    parts = making.parts_of(asked.tables, asked.config)
    began = time.perf_counter()
    model = making.fit(parts, asked.config)
    fitted = time.perf_counter()
    made = making.sample(model, asked.config)
    sampled = time.perf_counter()
    reports = making.judge(parts, made, asked.config)
    verdict = making.verdict(reports, asked.config)
    card = dataset_card(asked.name, model, made, reports, verdict, asked.config.seed)
    return Made(asked, parts, model, made, reports, verdict, card, fitted - began, sampled - fitted)


def preview(asked: Wanted, rows: int) -> dict[str, Sampled]:
    """Return a few rows that a model of the tables makes, learnt from what may be learnt from; nothing is judged."""
    model = making.fit(making.parts_of(asked.tables, asked.config), asked.config)
    return making.sample(model, asked.config, rows)


def write(made: Made, out: Path) -> list[Path]:
    """Write tables and card, and return what was written.

    Args:
        made: what to write.
        out: of one table, a file; else a folder, with a CSV file for each. The card stands beside.

    Raises:
        ConfigError: the ending is of no known format.
    """
    one = len(made.tables) == 1 and bool(out.suffix)
    paths = {name: out if one else out / f"{name}.csv" for name in made.tables}
    for name, sampled in made.tables.items():
        write_table(sampled.table, paths[name])
    folder = out.with_suffix(".card") if one else out
    write_card(made.card, folder)
    return [*paths.values(), folder / "card.md"]


def keep(made: Made, folder: Path) -> None:
    """Write the model and the card into a folder, from which rows can be made again."""
    save_model(made.model, folder)
    write_card(made.card, folder)
