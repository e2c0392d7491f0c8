"""Ranking anew by rules: scores brought between 0 and 1, business weights, a bound for each category, diversity.

Owns the arithmetic. Source of the diversity: Carbonell & Goldstein 1998, "The Use of MMR", SIGIR.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from bessemer.infer.ranking.catalogue import Catalogue
from bessemer.infer.ranking.config import RulesConfig
from bessemer.models.ranking.base import Floats, Numbers


def ranked_anew(
    items: Numbers,
    scores: Floats,
    catalogue: Catalogue,
    rules: RulesConfig,
    context: Mapping[str, str],
    n: int,
    diversity_ratio: float,
) -> list[tuple[int, float]]:
    """Return at most n items with their scores between 0 and 1 (times business weights), the best first.

    Args:
        items: the candidates, the best first.
        scores: the model's.
        catalogue: knows their attributes.
        rules: what holds.
        context: facts of the request.
        n: how many.
        diversity_ratio: 0 by score alone, 1 by difference alone.
    """
    if not len(items):
        return []
    low, high = float(scores.min()), float(scores.max())
    value = (scores - low) / (high - low) if high > low else np.ones(len(scores), np.float32)
    for boost in rules.boosts:
        if all(context.get(name) == wanted for name, wanted in boost.when.items()):
            value = np.where(catalogue.has(boost.field, boost.value)[items], value * np.float32(boost.factor), value)
    # By value, and by the model's order where rules leave equals.
    order = np.argsort(-value, kind="stable")
    if not (diversity_ratio or rules.most_per_category):
        order = order[:n]
        return [(int(items[place]), float(value[place])) for place in order]
    chosen = _diverse(order, items, value, catalogue, rules, n, diversity_ratio)
    return [(int(items[place]), float(value[place])) for place in chosen]


def _diverse(
    order: Numbers | np.ndarray[tuple[int], np.dtype[np.intp]],
    items: Numbers,
    value: Floats,
    catalogue: Catalogue,
    rules: RulesConfig,
    n: int,
    ratio: float,
) -> list[int]:
    """Return the places that are chosen one by one, each the best after what is before it."""
    categories = _categories(items, catalogue, rules.category)
    alike = _likeness(items, categories, catalogue) if ratio else np.zeros((len(items), len(items)), np.float32)
    left, taken = list(order), Counter[str]()
    chosen: list[int] = []
    nearest = np.zeros(len(items), np.float32)
    while left and len(chosen) < n:
        gains = (1 - ratio) * value[left] - ratio * nearest[left]
        place = int(left.pop(int(gains.argmax())))
        if rules.most_per_category and taken[categories[place]] >= rules.most_per_category:
            continue
        taken[categories[place]] += 1
        chosen.append(place)
        nearest = np.maximum(nearest, alike[place])
    return chosen


def _categories(items: Numbers, catalogue: Catalogue, field: str) -> list[str]:
    if not catalogue.attributes or not any(field in catalogue.attributes[item] for item in items):
        return [catalogue.names[item] for item in items]  # each its own
    column = catalogue.column(field)
    return [str(column[item]) for item in items]


def _likeness(items: Numbers, categories: list[str], catalogue: Catalogue) -> Floats:
    if catalogue.content.size:
        mine = catalogue.content[items]
        return np.asarray(np.maximum(mine @ mine.T, 0), np.float32)
    names = np.asarray(categories)
    return np.asarray(names[:, None] == names[None, :], np.float32)
