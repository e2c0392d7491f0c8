"""The steps of a synthetic dataset: fit a model of the tables, sample it, judge what it made.

Owns what goes from room to room. Knows no formula.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.nouns import Verdict
from bessemer.core.tabular import Table
from bessemer.flow import Step, StepContext
from bessemer.lake import open_lake
from bessemer.products.product import LakeState, Place
from bessemer.products.rows import find_rows, rows_tag
from bessemer.products.synthetic.config import SyntheticConfig

Meta = Mapping[str, Any]
_CODE = (
    "bessemer.train.tables", "bessemer.evals.tables", "bessemer.lake.tabular", "bessemer.core.tabular",
    "bessemer.products.rows", "bessemer.products.synthetic.making", "bessemer.products.synthetic.card",
)  # fmt: skip


class SyntheticStepConfig(Config):
    """What is made of which steps' tables, and what the tables that are made are called in the lake."""

    name: str = ""
    product: SyntheticConfig = SyntheticConfig(tables=("table",))
    sources: dict[str, str] = Field(default_factory=dict)
    made: dict[str, str] = Field(default_factory=dict)


def fit(ctx: StepContext, config: SyntheticStepConfig) -> Meta:
    """Learn from the tables, but for the rows held out."""
    from bessemer.products.synthetic import making
    from bessemer.train.tables.keeping import save_model

    parts = making.parts_of(_tables(ctx, config), config.product)
    began = time.perf_counter()
    model = making.fit(parts, config.product)
    seconds = time.perf_counter() - began
    save_model(model, ctx.out / "model")
    return {
        "seconds": seconds,
        "learnt_from": {name: table.rows for name, table in parts.train.items()},
        "held_out": {name: table.rows for name, table in parts.holdout.items()},
        "what": f"a model of {', '.join(config.product.tables)}",
    }


def sample(ctx: StepContext, config: SyntheticStepConfig) -> Meta:
    """Make rows, into the lake and as files."""
    from bessemer.lake.tabular.writing import rows_of, to_arrow, write_table
    from bessemer.products.synthetic import making
    from bessemer.train.tables.keeping import load_model

    model = load_model(Path(ctx.inputs["fit"].path) / "model")
    began = time.perf_counter()
    made = making.sample(model, config.product)
    seconds = time.perf_counter() - began
    lake = open_lake(ctx.resources["lake"])
    digests = {}
    for name, sampled in made.items():
        lake.put(config.made[name], rows_of(to_arrow(sampled.table)), tag=rows_tag(ctx.key))
        digests[name] = lake.digest(config.made[name], version=rows_tag(ctx.key))
        for ending in ("csv", "parquet"):
            write_table(sampled.table, ctx.out / "tables" / f"{name}.{ending}")
    rows = {name: sampled.table.rows for name, sampled in made.items()}
    return {
        "seconds": seconds,
        "made": rows,
        "rejected": {name: dict(sampled.rejected) for name, sampled in made.items()},
        "digests": digests,
        "what": ", ".join(f"{count:,} rows of {name}" for name, count in rows.items()),
    }


def judge(ctx: StepContext, config: SyntheticStepConfig) -> Meta:
    """Judge quality, privacy and use of each table, and write the card."""
    from bessemer.lake.tabular.reading import read_arrow, to_table
    from bessemer.products.synthetic import card, making
    from bessemer.train.tables.keeping import load_model
    from bessemer.train.tables.model import Sampled

    parts = making.parts_of(_tables(ctx, config), config.product)
    model = load_model(Path(ctx.inputs["fit"].path) / "model")
    folder, meta = Path(ctx.inputs["sample"].path) / "tables", ctx.inputs["sample"].meta
    made = {}
    for name in config.product.tables:
        table = to_table(read_arrow(folder / f"{name}.parquet"), model.schemas[name])
        made[name] = Sampled(table, meta["rejected"][name])
    reports = making.judge(parts, made, config.product)
    verdict = making.verdict(reports, config.product)
    for name, report in reports.items():
        (ctx.out / f"{name}.json").write_text(report.model_dump_json(), encoding="utf-8")
    (ctx.out / "verdict.json").write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
    card.write_card(card.dataset_card(config.name, model, made, reports, verdict, config.product.seed), ctx.out)
    return {"passed": verdict.passed, "what": f"what {config.name} came to"}


def _tables(ctx: StepContext, config: SyntheticStepConfig) -> dict[str, Table]:
    from bessemer.products.synthetic.making import typed_tables

    found = {}
    for name, step in config.sources.items():
        lake, table, tag = find_rows(ctx, step)
        found[name] = lake.open(table, version=tag).to_table()
    return typed_tables(found, config.product)


def synthetic_steps(place: Place, product: SyntheticConfig, lake: LakeState) -> tuple[Step, ...]:
    """Return the steps of one synthetic dataset."""
    # In the flow a step finds what it needs by the part of its name after the last dot.
    sources = {name: place.tables[name] for name in product.tables}
    made = {name: place.table(f"{name}_synthetic") for name in product.tables}
    config = SyntheticStepConfig(name=place.name, product=product, sources=sources, made=made)
    needs = tuple(sources.values())
    written = {name: lake.of(table) for name, table in made.items()}
    steps = (
        _step("fit", config, needs),
        _step("sample", config, ("fit",), written),
        _step("judge", config, ("fit", "sample", *needs)),
    )
    return place.named(steps)


def _step(name: str, config: Config, needs: tuple[str, ...], inputs: Mapping[str, str] | None = None) -> Step:
    return Step(name, run=f"{__name__}:{name}", config=config, needs=needs, code=_CODE, inputs=inputs or {})


def read_verdict(folder: str) -> Verdict:
    """Return the verdict that a judge wrote."""
    return Verdict.model_validate_json((Path(folder) / "verdict.json").read_text(encoding="utf-8"))
