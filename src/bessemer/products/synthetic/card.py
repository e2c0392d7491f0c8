"""The card of a synthetic dataset: what it is, how it was made, how good and how private it is. Markdown and JSON.

Owns the card's shape and look.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bessemer.core.nouns import Noun, Verdict
from bessemer.core.tabular import TableSchema
from bessemer.evals.tables.judging import TableReport
from bessemer.train.tables.constraints import told
from bessemer.train.tables.model import Sampled
from bessemer.train.tables.related import TablesModel
from bessemer.train.tables.sequences import SequenceModel


class ColumnCard(Noun):
    """One column: its kind, and how much its shape is kept; None where there is nothing to compare."""

    name: str
    kind: str
    shape: float | None
    missing: float | None


class TableCard(Noun):
    """One table.

    Attributes:
        rows: that were made.
        learnt_from: rows that its model learnt from; noisy under differential privacy.
        rejected: reason -> rows that were made and thrown away for it.
        constraints: what every row satisfies, as a person writes it.
    """

    name: str
    rows: int
    learnt_from: int
    columns: tuple[ColumnCard, ...]
    constraints: tuple[str, ...]
    rejected: dict[str, int]
    metrics: dict[str, float]
    held_out: dict[str, float]
    notes: tuple[str, ...]


class DatasetCard(Noun):
    """A synthetic dataset.

    Attributes:
        made_with: the method, in one sentence.
        privacy: what is promised of single rows, in one sentence.
        noise: budget of differential privacy; empty without.
    """

    name: str
    made_with: str
    privacy: str
    noise: dict[str, float]
    seed: int
    tables: tuple[TableCard, ...]
    verdict: Verdict


def dataset_card(
    name: str,
    model: TablesModel,
    made: Mapping[str, Sampled],
    reports: Mapping[str, TableReport],
    verdict: Verdict,
    seed: int = 0,
) -> DatasetCard:
    """Return the card of tables that were made."""
    noise = next((dict(one.noise) for one in model.tables.values() if not isinstance(one, SequenceModel)), {})
    return DatasetCard(
        name=name, made_with=_method(model), privacy=_promise(noise), noise=noise, seed=seed, verdict=verdict,
        tables=tuple(
            _table(table, model.schemas[table], sampled, reports[table], model.tables[table].rows)
            for table, sampled in made.items()
        ),
    )  # fmt: skip


def _method(model: TablesModel) -> str:
    parts = ["a Gaussian copula over normal scores"]
    if model.relations:
        parts.append("children drawn given their parents")
    if any(isinstance(one, SequenceModel) for one in model.tables.values()):
        parts.append("sequences as a vector autoregression of latent values")
    return ", ".join(parts)


def _promise(noise: Mapping[str, float]) -> str:
    if noise:
        return (
            f"({noise['epsilon']:g}, {noise['delta']:g})-differential privacy for one row added or removed; the "
            "figures below were measured on the real rows and are not part of that promise"
        )
    return "none is guaranteed; what was measured against rows held out stands below"


def _table(name: str, schema: TableSchema, sampled: Sampled, report: TableReport, learnt_from: int) -> TableCard:
    return TableCard(
        name=name, rows=sampled.table.rows, learnt_from=learnt_from,
        columns=tuple(
            ColumnCard(
                name=column, kind=config.kind, shape=report.shapes.get(column), missing=report.missing.get(column)
            )
            for column, config in schema.columns.items()
        ),
        constraints=tuple(told(each) for each in schema.constraints), rejected=dict(sampled.rejected),
        metrics={metric.name: metric.value for metric in report.report.metrics},
        held_out={metric.name: metric.value for metric in report.real.metrics}, notes=report.notes,
    )  # fmt: skip


def markdown(card: DatasetCard) -> str:
    """Return a card as Markdown."""
    state = "passed" if card.verdict.passed else "did not pass"
    lines = [
        f"# {card.name}", "", f"A synthetic dataset, made with {card.made_with}. It {state} its gate.", "",
        f"**Privacy.** {card.privacy[0].upper()}{card.privacy[1:]}.", "", f"Seed {card.seed}.", "",
    ]  # fmt: skip
    for table in card.tables:
        lines += [f"## {table.name}", "", f"{table.rows:,} rows, learnt from {table.learnt_from:,}.", ""]
        lines += ["| column | kind | shape kept | share missing kept |", "|---|---|--:|--:|"]
        for column in table.columns:
            lines.append(f"| {column.name} | {column.kind} | {_told(column.shape)} | {_told(column.missing)} |")
        lines += ["", "| figure | synthetic | rows held out |", "|---|--:|--:|"]
        for name, value in table.metrics.items():
            lines.append(f"| {name} | {_told(value)} | {_told(table.held_out.get(name))} |")
        lines.append("")
        for constraint in table.constraints:
            lines.append(f"- every row satisfies: {constraint}")
        for reason, count in table.rejected.items():
            lines.append(f"- {count:,} rows were rejected: {reason}")
        lines += [f"- note: {note}" for note in table.notes]
        lines.append("")
    lines += ["## Verdict", "", *(f"- {'✓' if o.passed else '✗'} {o.sentence}" for o in card.verdict.outcomes), ""]
    return "\n".join(lines)


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value == int(value) and value > 1 else f"{value:.3f}"


def write_card(card: DatasetCard, folder: Path) -> None:
    """Write a card as ``card.md`` and ``card.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.md").write_text(markdown(card), encoding="utf-8")
    (folder / "card.json").write_text(card.model_dump_json(indent=2), encoding="utf-8")
