"""How good rankings are, by ranking all items: no metric here is computed on a sample of them.

Owns the metrics and the report. Knows no model: it is handed scores, a block of users at a time. A sampled metric does
not even order models as the full one does, so there is none.
Source: Krichene & Rendle 2020, "On Sampled Metrics for Item Recommendation", KDD.

Per user: NDCG and recall (of what was held out, among the first k), the hit ratio, novelty (mean self-information of
the recommended items, in bits), and miscalibration (Kullback-Leibler divergence of the categories of the recommended
items from those of the history; lower is better). Over all users: coverage, the share of the items that anybody was
shown.
Sources: Järvelin & Kekäläinen 2002, ACM TOIS 20(4) (NDCG); Vargas & Castells 2011, RecSys (novelty); Steck 2018,
"Calibrated Recommendations", RecSys (with its smoothing of 0.01).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bessemer.core.errors import ConfigError
from bessemer.evals.bootstrap import Column, _numpy, mean_interval
from bessemer.evals.nouns import Better, Metric, Report, Score

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

Scores = Callable[["Array"], "Array"]
"""Takes numbers of users, gives the score of each item; shape (users, items)."""

PER_USER: dict[str, Better] = {
    "ndcg": "higher",
    "recall": "higher",
    "hit": "higher",
    "novelty": "higher",
    "miscalibration": "lower",
}
_SMOOTHING = 0.01
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Heldout:
    """What is held out, and what is known besides.

    Attributes:
        users: names.
        wanted: the held-out items of each user; users with none are left out of all means.
        seen: items that each user must not be shown: those of the events for fitting, and for validation.
        history: items that each user's categories are taken from; empty takes `seen`.
        counts: users who had each item; shape (items,).
        categories: number of each item's category; empty leaves miscalibration out.
        groups: the group of each user for the breakdown; empty puts all in one.
    """

    users: Sequence[str]
    wanted: Sequence[Array]
    seen: Sequence[Array]
    counts: Array
    history: Sequence[Array] = ()
    categories: Sequence[int] = ()
    groups: Sequence[str] = field(default=())


@dataclass(frozen=True, slots=True)
class RankingReport:
    """What a ranker achieved.

    Attributes:
        report: per user, with intervals; `report.breakdown()` tells it by user groups.
        coverage_ratio: share of the items that anybody was shown.
        shown: the recommended items of each user who counts, -1 where there were fewer; shape (users, k).
    """

    report: Report
    coverage_ratio: float
    shown: Array


def evaluate_ranking(
    scores: Scores, held: Heldout, *, model: str = "", task: str = "recommend", k: int = 10, resamples: int = 10_000
) -> RankingReport:
    """Return how well a model ranks all items that a user has not seen.

    Args:
        scores: the model.
        held: what was held out.
        model: its name in the report.
        task: name of the report's task.
        k: items that a user is shown.
        resamples: draws of the bootstrap, over users.

    Raises:
        ConfigError: nobody has anything held out, or a score is no number.
    """
    np = _numpy()
    began = time.perf_counter()
    chosen = np.asarray([number for number, wanted in enumerate(held.wanted) if len(wanted)])
    if not len(chosen):
        raise ConfigError("no user has anything held out", hint="Give more events, or hold out a larger share.")
    shown = np.concatenate([_best(scores, held, chosen[at : at + _BLOCK], k) for at in range(0, len(chosen), _BLOCK)])
    values = _values(shown, held, chosen, k)
    groups = held.groups or [""] * len(held.users)
    rows = [
        Score(
            sample_id=held.users[user],
            group=held.users[user],
            rule=groups[user],
            values={name: float(column[place]) for name, column in values.items()},
        )
        for place, user in enumerate(chosen)
    ]
    metrics = tuple(_metric(name, [row.values[name] for row in rows], resamples) for name in values)
    seconds = time.perf_counter() - began
    covered = len(np.unique(shown[shown >= 0])) / len(held.counts)
    return RankingReport(
        Report(task=task, model=model, metrics=metrics, scores=tuple(rows), seconds=seconds), covered, shown
    )


def _metric(name: str, values: Sequence[float], resamples: int) -> Metric:
    column = Column(values, [1.0] * len(values))
    users = [str(number) for number in range(len(values))]  # users are independent of each other: each is a group
    return Metric(
        name=name,
        better=PER_USER[name.partition("@")[0]],
        value=column.mean(),
        interval=mean_interval(column, users, resamples=resamples),
        samples=len(values),
        groups=len(values),
    )


def _best(scores: Scores, held: Heldout, users: Array, k: int) -> Array:
    """Return the k items of each user with the best scores, best first, those seen left out, -1 where none is left."""
    np = _numpy()
    table = np.array(scores(users), np.float64)  # a copy
    if not np.isfinite(table).all():
        raise ConfigError("the model gave a score that is no number", hint="Fit it with more regularisation.")
    for place, user in enumerate(users):
        table[place, held.seen[user]] = -np.inf
    k = min(k, table.shape[1])
    best = np.argpartition(-table, k - 1, axis=1)[:, :k]
    # By score, and by number where scores are equal, so that the same scores give the same ranking anywhere.
    found = np.take_along_axis(table, best, axis=1)
    order = np.lexsort((best, -found), axis=1)
    best, found = np.take_along_axis(best, order, axis=1), np.take_along_axis(found, order, axis=1)
    ranked: Array = np.where(np.isfinite(found), best, -1)
    return ranked


def _values(shown: Array, held: Heldout, users: Array, k: int) -> dict[str, Array]:
    np = _numpy()
    discounts = 1 / np.log2(np.arange(2, k + 2))
    most = np.concatenate([[0.0], np.cumsum(discounts)])
    hits = np.stack([np.isin(row, held.wanted[user]) & (row >= 0) for row, user in zip(shown, users, strict=True)])
    wanted = np.asarray([len(np.unique(held.wanted[user])) for user in users])
    values = {
        f"ndcg@{k}": (hits * discounts[: hits.shape[1]]).sum(axis=1) / most[np.minimum(wanted, k)],
        f"recall@{k}": hits.sum(axis=1) / wanted,
        f"hit@{k}": hits.any(axis=1).astype(float),
        f"novelty@{k}": _novelty(shown, np.asarray(held.counts, float), len(held.users)),
    }
    if len(held.categories):
        history = held.history or held.seen
        values[f"miscalibration@{k}"] = np.asarray(
            [_divergence(row, history[user], held.categories) for row, user in zip(shown, users, strict=True)]
        )
    return values


def _novelty(shown: Array, counts: Array, users: int) -> Array:
    np = _numpy()
    bits = -np.log2(np.maximum(counts, 0.5) / users)
    there = shown >= 0
    means: Array = (bits[np.maximum(shown, 0)] * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return means


def _divergence(row: Array, history: Array, categories: Sequence[int]) -> float:
    """Return KL(history's categories || shown's), the latter smoothed by the former, in nats; 0 without a history."""
    np = _numpy()
    of = np.asarray(categories)
    row = row[row >= 0]
    if not len(history) or not len(row):
        return 0.0
    size = int(of.max()) + 1
    liked, told = (np.bincount(of[items], minlength=size) / len(items) for items in (history, row))
    there = liked > 0
    mixed = (1 - _SMOOTHING) * told + _SMOOTHING * liked
    return float((liked[there] * np.log(liked[there] / mixed[there])).sum())
