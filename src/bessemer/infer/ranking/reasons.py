"""Why an item is recommended, in the model's own terms and in a sentence.

Owns the wording. Where scores are sums over the history (EASE, neighbours, ALS), the share that a reason explains is
told; where they are not, the reason is a likeness and says so by having none.
"""

from __future__ import annotations

import numpy as np

from bessemer.core.ranking import Reason
from bessemer.infer.ranking.catalogue import Catalogue
from bessemer.models.ranking.base import Floats, Numbers, Scorer

_SUMS = ("ease", "item_knn", "als")
_MOST = 2
POPULAR = Reason(kind="popular", sentence="because many others were interested in it")


def reason_for(
    item: int, history: tuple[Numbers, Floats], scorer: Scorer, catalogue: Catalogue, unit_content: Floats
) -> Reason:
    """Return why an item is recommended to whoever has this history.

    Args:
        item: its number.
        history: items and weights.
        scorer: the ranker.
        catalogue: the items.
        unit_content: features of all items; may have none.
    """
    items, weights = history
    if not (weights > 0).any() or scorer.kind == "popularity":
        return POPULAR
    cold = bool(len(catalogue.cold)) and catalogue.counts[item] == 0
    if cold:
        support = np.maximum(unit_content[items] @ unit_content[item], 0) * (weights > 0)
    else:
        support = scorer.support(items, weights, item)
    found: dict[int, float] = {}
    for number, part in zip(items.tolist(), support.tolist(), strict=True):
        if part > 0 and number != item:
            found[number] = max(found.get(number, 0.0), part)
    if not found:
        return POPULAR
    best = sorted(found, key=lambda number: (-found[number], number))[:_MOST]
    names = " and ".join(catalogue.title(number) for number in best)
    share = None
    if scorer.kind in _SUMS and not cold:
        share = min(1.0, sum(found[number] for number in best) / sum(found.values()))
    sentence = f"because it is like {names}" if cold else f"because you were interested in {names}"
    return Reason(
        kind="content" if cold else "because",
        items=tuple(catalogue.names[number] for number in best),
        share_ratio=share,
        sentence=sentence,
    )
