"""A synthetic copy in one go: straight from files, from a factory's declaration, or from a model that was kept.

Owns what the command line and jobs do without a run of the factory. Knows neither terminal nor HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Verdict
from bessemer.core.tabular import Table
from bessemer.evals.tables.judging import TableReport
from bessemer.lake.tabular.reading import read_arrow
from bessemer.lake.tabular.writing import write_table
from bessemer.products.synthetic import making
from bessemer.products.synthetic.card import DatasetCard, dataset_card, write_card
from bessemer.products.synthetic.config import SyntheticConfig
from bessemer.train.tables.keeping import save_model
from bessemer.train.tables.related import TablesModel
from bessemer.train.tables.single import Sampled

DECLARATIONS = (".yaml", ".yml")


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


def wanted(paths: Sequence[Path], changed: Mapping[str, object] | None = None) -> Wanted:
    """Return what is to be copied.

    Args:
        paths: files with tables; or one factory.yaml whose product is synthetic and whose tables are files.
        changed: fields of the product's declaration that are given besides.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is no table and no such declaration, or two tables have one name.
    """
    if len(paths) == 1 and paths[0].suffix.lower() in DECLARATIONS:
        return _declared(paths[0], changed or {})
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise ConfigError("two files have one name", hint="Rename one: a table is called as its file.")
    config = SyntheticConfig.model_validate({"tables": tuple(names), **(changed or {})})
    return of_files(dict(zip(names, paths, strict=True)), config)


def of_files(paths: Mapping[str, Path], config: SyntheticConfig) -> Wanted:
    """Return what is to be copied of files, by the names of their tables. Raises as `wanted`."""
    found = {name: read_arrow(path) for name, path in paths.items()}
    return Wanted(next(iter(paths)), making.typed_tables(found, config), config)


def _declared(path: Path, changed: Mapping[str, object]) -> Wanted:
    from bessemer.products.factory import load_factory

    factory, base = load_factory(path)
    name, config = next(((n, p) for n, p in factory.made.items() if isinstance(p, SyntheticConfig)), ("", None))
    if config is None:
        raise ConfigError(f"{path} declares no synthetic dataset", hint="It has a product of `kind: synthetic`.")
    import pyarrow as pa

    from bessemer.lake.table_sources import read_table

    config = SyntheticConfig.model_validate({**config.model_dump(), **changed})
    if lost := [table for table in config.tables if table not in factory.tables]:
        raise ConfigError(f"the table '{lost[0]}' is not declared", hint="Declare it under `tables`.")
    found = {t: pa.Table.from_pylist(list(read_table(factory.tables[t], base))) for t in config.tables}
    return Wanted(name, making.typed_tables(found, config), config)


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
