"""What a synthetic table is worth to learn from: a model learns from it and is asked about real rows held out.

Owns the task that is made of a table. The learner is scikit-learn's gradient boosting, the same for both tables.
Source: train on synthetic, test on real: Esteban, Hyland & Rätsch 2017, arXiv:1706.02633.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import ConfigError, MissingDependency
from bessemer.core.tabular import Column, Table
from bessemer.evals.tables.quality import Floats

_MOST_CLASSES = 20
_MOST_CATEGORIES = 255
_MOST_ROWS = 10_000
_LEAST_OF_A_CLASS = 5


@dataclass(frozen=True, slots=True)
class Usefulness:
    """What is learnt of one column.

    Attributes:
        target: the column that is predicted from all others.
        metric: ``balanced_accuracy`` or ``r2``; higher is better.
        real: after learning from the data.
        synthetic: after learning from the synthetic table.
        chance: of who knows no other column.
    """

    target: str
    metric: Literal["balanced_accuracy", "r2"]
    real: float
    synthetic: float
    chance: float

    @property
    def kept(self) -> float:
        """The share of what the data teaches beyond chance that the synthetic table teaches too; 1 where nothing is."""
        learnt = self.real - self.chance
        return max(0.0, (self.synthetic - self.chance) / learnt) if learnt > 0.01 else 1.0


def usefulness(train: Table, holdout: Table, synthetic: Table, target: str = "", seed: int = 0) -> Usefulness | None:
    """Return what is learnt of a column, or None where the table has no column that can be asked about.

    Args:
        train: what the synthetic table was made from.
        holdout: real rows to be asked about.
        synthetic: rows to learn from.
        target: the column; empty takes the last with few categories, or the last number.
        seed: of the learner.

    Raises:
        ConfigError: the target cannot be predicted.
        MissingDependency: scikit-learn is not installed.
    """
    name = target or _target(train)
    if not name:
        return None
    if target and not _askable(train.column(target)):
        raise ConfigError(f"'{target}' cannot be predicted", hint="Name a number or a column of few categories.")
    column = train.columns[name]
    classes = not column.config.numeric
    asked = _task(holdout, train, name)
    if not len(asked[1]) or not len(asked[0][0]):
        return None
    scores = []
    for table in (train, synthetic):
        features, labels, nominal = _task(table, train, name)
        scores.append(_score(features, labels, (asked[0], asked[1]), nominal, classes, seed))
    chance = 1 / max(1, len(np.unique(asked[1]))) if classes else 0.0
    return Usefulness(name, "balanced_accuracy" if classes else "r2", scores[0], scores[1], chance)


def _askable(column: Column) -> bool:
    if column.config.kind == "id":
        return False
    if column.config.numeric:
        return bool(np.nanstd(column.values) > 0) if not np.all(np.isnan(column.values)) else False
    counts = np.bincount(column.values[column.values >= 0], minlength=1)
    return 2 <= int((counts >= _LEAST_OF_A_CLASS).sum()) <= _MOST_CLASSES


def _target(table: Table) -> str:
    askable = [name for name, column in table.columns.items() if _askable(column)]
    nominal = [name for name in askable if not table.columns[name].config.numeric]
    others = [name for name, column in table.columns.items() if column.config.kind != "id"]
    return (nominal or askable or [""])[-1] if len(others) > 1 else ""


def _task(table: Table, reference: Table, target: str) -> tuple[Floats, NDArray[Any], list[int]]:
    """Return features (rows, columns), labels, and which features are codes; rows without label are left out."""
    features, nominal = [], []
    for name, column in reference.columns.items():
        if name == target or column.config.kind == "id":
            continue
        if column.config.numeric:
            features.append(table.columns[name].values.astype(float))
        else:
            codes = _codes(table.columns[name], column)
            if len(column.categories) <= _MOST_CATEGORIES:
                nominal.append(len(features))
            features.append(np.where(codes < 0, np.nan, codes))
    column = table.columns[target]
    numeric = column.config.numeric
    labels = column.values if numeric else _codes(column, reference.columns[target])
    there = ~np.isnan(labels) if numeric else labels >= 0
    return np.column_stack(features)[there], labels[there], nominal


def _codes(column: Column, reference: Column) -> NDArray[np.int64]:
    place = {text: code for code, text in enumerate(reference.categories)}
    table = np.array([place.get(text, -1) for text in column.categories] + [-1])
    return np.asarray(table[column.values])


def _score(
    features: Floats, labels: NDArray[Any], asked: tuple[Floats, NDArray[Any]], nominal: list[int], classes: bool,
    seed: int,
) -> float:  # fmt: skip
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from sklearn.metrics import balanced_accuracy_score, r2_score
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError as error:
        raise MissingDependency("scikit-learn", extra="synthetic") from error
    features, labels = features[:_MOST_ROWS], labels[:_MOST_ROWS]
    constant = np.all(np.isnan(features), axis=0)
    features, given = np.where(constant, 0.0, features), np.where(constant, 0.0, asked[0])
    if len(np.unique(labels)) < 2:
        guess = np.full(len(asked[1]), labels[0] if len(labels) else 0)
        return float(balanced_accuracy_score(asked[1], guess)) if classes else float(r2_score(asked[1], guess))
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    learner = kind(
        max_iter=100, early_stopping=False, random_state=seed,
        categorical_features=[at for at in nominal if not constant[at]] or None,
    )  # fmt: skip
    with threadpool_limits(1):  # tables are small: more threads wait for each other longer than they work
        learner.fit(features, labels)
        told = learner.predict(given)
    return float(balanced_accuracy_score(asked[1], told)) if classes else float(r2_score(asked[1], told))
