"""One report of a synthetic table: quality, privacy and use, as metrics that a gate can rule on.

Owns which figures there are and which way each is better. Knows no model.
"""

from __future__ import annotations

from bessemer.core.nouns import Interval, Noun
from bessemer.core.tabular import Table
from bessemer.evals.nouns import Better, Metric, Report
from bessemer.evals.tables.privacy import Privacy, privacy
from bessemer.evals.tables.quality import Quality, quality
from bessemer.evals.tables.usefulness import Usefulness, usefulness


class Trend(Noun):
    """A pair of columns and how much its trend is kept."""

    one: str
    other: str
    value: float


class TableReport(Noun):
    """What a synthetic table came to, down to columns and pairs."""

    report: Report
    real: Report
    shapes: dict[str, float]
    missing: dict[str, float]
    trends: tuple[Trend, ...]
    target: str = ""
    target_metric: str = ""
    notes: tuple[str, ...] = ()


def judge_table(
    train: Table, holdout: Table, synthetic: Table, target: str = "", most_rows: int = 2000, seed: int = 0
) -> TableReport:
    """Return what a synthetic table comes to, beside what the rows held out come to: the best that can be expected.

    Args:
        train: what its model learnt from.
        holdout: rows that it never saw.
        synthetic: what it made.
        target: the column that a learner predicts from it; empty chooses one.
        most_rows: that distances are taken of.
        seed: of draws and learner.

    Raises:
        ConfigError: the target cannot be predicted.
        MissingDependency: scikit-learn is not installed.
    """
    found, best = quality(train, synthetic), quality(train, holdout)
    told = privacy(train, holdout, synthetic, most_rows, seed)
    use = usefulness(train, holdout, synthetic, target, seed)
    return TableReport(
        report=_report("synthetic", found, told, use, synthetic.rows),
        real=_held_out(best, told, use, holdout.rows),
        shapes=dict(found.shapes),
        missing=dict(found.missing),
        trends=tuple(Trend(one=a, other=b, value=value) for (a, b), value in found.trends.items()),
        target=use.target if use else "",
        target_metric=use.metric if use else "",
        notes=_notes(train),
    )


def _report(model: str, found: Quality, told: Privacy, use: Usefulness | None, rows: int) -> Report:
    metrics = [
        _metric("column_shapes", "higher", found.column_shapes, rows),
        _metric("pair_trends", "higher", found.pair_trends, rows),
        _metric("exact_copies", "lower", told.exact_copies, rows),
        _metric("closest_record", "higher", told.closest, told.rows),
        _metric("neighbour_ratio", "higher", told.ratio, told.rows),
        _metric("nearer_to_data", "lower", told.nearer.value, told.rows, told.nearer),
        _metric("membership", "lower", told.membership.value, told.rows, told.membership),
        # What is shown beyond chance: the end of the interval that speaks least for a leak.
        _metric("closeness_leak", "lower", max(0.0, told.nearer.low - 0.5), told.rows),
        _metric("membership_leak", "lower", max(0.0, told.membership.low - 0.5), told.rows),
    ]
    if use:
        metrics += [_metric("learnt", "higher", use.synthetic, rows), _metric("kept", "higher", use.kept, rows)]
    return Report(task="table", model=model, metrics=tuple(metrics), scores=(), seconds=0.0)


def _held_out(best: Quality, told: Privacy, use: Usefulness | None, rows: int) -> Report:
    metrics = [
        _metric("column_shapes", "higher", best.column_shapes, rows),
        _metric("pair_trends", "higher", best.pair_trends, rows),
        _metric("exact_copies", "lower", told.holdout_copies, rows),
        _metric("closest_record", "higher", told.closest_holdout, rows),
        _metric("neighbour_ratio", "higher", told.ratio_holdout, rows),
    ]
    if use:
        metrics += [_metric("learnt", "higher", use.real, rows), _metric("kept", "higher", 1.0, rows)]
    return Report(task="table", model="held out", metrics=tuple(metrics), scores=(), seconds=0.0)


def _metric(name: str, better: Better, value: float, rows: int, interval: Interval | None = None) -> Metric:
    return Metric(name=name, better=better, value=value, interval=interval, samples=rows, groups=0)


def _notes(train: Table) -> tuple[str, ...]:
    """Return what somebody should know who gives the table away."""
    found = []
    for name, column in train.columns.items():
        if column.config.kind == "categorical" and len(column.categories) > max(50, train.rows // 5):
            found.append(
                f"'{name}' has {len(column.categories):,} different texts, which stand in the synthetic table as they "
                "are: declare it as id, or leave it out, if they name somebody"
            )
    return tuple(found)
