"""The one step of a dataset job, and the preview of one.

Owns what goes from a job's files to rows, a card and figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bessemer.core.config import Config, explain
from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Verdict
from bessemer.flow import StepContext
from bessemer.products.synthetic.config import SyntheticConfig, TextsConfig

if TYPE_CHECKING:
    from bessemer.serve.work.datasets import Dataset
    from bessemer.train.tables.model import Sampled

CODE = (
    "bessemer.train.tables", "bessemer.evals.tables", "bessemer.lake.tabular", "bessemer.core.tabular",
    "bessemer.products.synthetic.making", "bessemer.products.synthetic.card", "bessemer.products.synthetic.quick",
)  # fmt: skip

_DECLARED = ("about", "relations", "fit", "judge", "gate")


def config_of(job: Dataset) -> SyntheticConfig:
    """Return the declaration of a job's product.

    Raises:
        ConfigError: what it declares is not valid; the message names the field.
    """
    if strange := [key for key in job.declaration if key not in _DECLARED]:
        raise ConfigError(f"declaration: unknown key '{strange[0]}'", hint=f"Known: {', '.join(_DECLARED)}.")
    tables = tuple(job.tables) or ("model",)
    try:
        return SyntheticConfig.model_validate({**job.declaration, "tables": tables, "rows": job.rows, "seed": job.seed})
    except ValidationError as error:
        where, sentence = explain(error, SyntheticConfig)[0]
        raise ConfigError(f"declaration.{'.'.join(map(str, where))}: {sentence}") from error


class MakeConfig(Config):
    """What a job's step makes.

    Attributes:
        job: its id; its tables are in the folder of that name.
        product: what is declared of them.
        rows: of each table without parents, where a model makes more rows.
        format: of the files.
        model: folder of a model that more rows are wanted of; empty learns one from the tables.
        texts: that a served model writes instead.
    """

    job: str = ""
    product: SyntheticConfig = SyntheticConfig(tables=("model",))
    rows: int | None = None
    format: str = "csv"
    model: str = ""
    texts: TextsConfig | None = None


def make(ctx: StepContext, config: MakeConfig) -> Mapping[str, Any]:
    """Make a job's rows: learn, sample and judge; sample a model that was judged when it was made; or write texts."""
    if config.texts:
        from bessemer.products.synthetic.text_jobs import make_texts

        return make_texts(ctx, config.job, config.texts, config.format)
    from bessemer.lake.tabular.writing import write_table
    from bessemer.products.synthetic import quick
    from bessemer.products.synthetic.card import write_card

    if config.model:
        made, verdict, figures = _drawn(config), Verdict(passed=True, outcomes=()), {}
    else:
        folder = Path(ctx.resources["datasets"]) / config.job
        found = quick.make(quick.of_files({path.stem: path for path in folder.glob("*")}, config.product))
        made, verdict = found.tables, found.verdict
        write_card(found.card, ctx.out)
        figures = {table.name: table.metrics for table in found.card.tables}
    files = {} if config.model else {"card": "card.md"}
    rejected: Counter[str] = Counter()
    for name, sampled in made.items():
        rejected.update(sampled.rejected)
        files[name] = f"tables/{name}.{config.format}"
        write_table(sampled.table, ctx.out / files[name])
    return {
        "files": files,
        "rows": sum(sampled.table.rows for sampled in made.values()),
        "rejected": dict(rejected),
        "figures": {name: dict(values) for name, values in figures.items()},
        "passed": verdict.passed,
        "failed": [outcome.sentence for outcome in verdict.outcomes if not outcome.passed],
    }


def _drawn(config: MakeConfig) -> Mapping[str, Sampled]:
    from bessemer.train.tables.keeping import load_model
    from bessemer.train.tables.related import sample_tables

    return sample_tables(load_model(Path(config.model)), 1.0, config.product.seed, config.rows)


def preview(job: Dataset, given: Mapping[str, Path], rows: int, model: str) -> Mapping[str, Any]:
    """Return a few rows of each table, as JSON values, and the kind of each column."""
    from bessemer.lake.tabular.writing import rows_of, to_arrow
    from bessemer.products.synthetic import quick

    config = config_of(job)
    if model:
        made = _drawn(MakeConfig(model=model, product=config, rows=rows))
    else:
        made = quick.preview(quick.of_files(given, config), rows)
    return {
        "kinds": {n: {c: about.kind for c, about in s.table.schema.columns.items()} for n, s in made.items()},
        "rows": {n: [_plain(row) for row in rows_of(to_arrow(s.table))][:rows] for n, s in made.items()},
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v if v is None or isinstance(v, (bool, int, float, str)) else str(v) for k, v in row.items()}
