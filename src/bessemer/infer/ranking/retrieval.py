"""Finding the items with the best scores: all scored, or a graph of vectors searched.

Owns the choice between the two. The graph is usearch's HNSW.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bessemer.core.errors import ConfigError, MissingDependency
from bessemer.infer.ranking.catalogue import Catalogue, Flags
from bessemer.infer.ranking.config import ServedRankerConfig
from bessemer.models.ranking.base import Floats, Histories, Numbers, Scorer, VectorScorer
from bessemer.models.ranking.towers import Towers


class Retriever:
    """Finds candidates.

    Args:
        config: says how.
        catalogue: the items.
        scorer: the ranker.

    Raises:
        ConfigError: a graph is wanted of a family without vectors.
        MissingDependency: usearch is not installed.
    """

    def __init__(self, config: ServedRankerConfig, catalogue: Catalogue, scorer: Scorer) -> None:
        self._catalogue = catalogue
        self.vectors: Floats | None = None
        if isinstance(scorer, VectorScorer):
            own = isinstance(scorer, Towers)  # which place cold items by their content themselves
            self.vectors = scorer.vectors if own else catalogue.warmed_vectors(scorer.vectors)
        many = len(catalogue) >= config.ann_items
        if config.retrieval == "ann" and self.vectors is None:
            raise ConfigError(f"{scorer.kind} has no vectors to search", hint="Choose retrieval: exact or auto.")
        searched = self.vectors is not None and (config.retrieval == "ann" or (config.retrieval == "auto" and many))
        self._graph = _graph(self.vectors) if searched and self.vectors is not None else None

    @property
    def searched(self) -> bool:
        """Whether a graph is searched."""
        return self._graph is not None

    def found(self, query: Floats, count: int) -> tuple[Numbers, Floats]:
        """Return about the `count` items nearest to a query and their scores, the best first."""
        assert self._graph is not None and self.vectors is not None
        matches = self._graph.search(query, min(count, len(self.vectors)))
        numbers = np.asarray(matches.keys, np.int32)
        scores = self.vectors[numbers] @ query
        order = np.argsort(-scores, kind="stable")
        return numbers[order], scores[order]

    def scores(self, scorer: Scorer, history: Histories) -> Floats:
        """Return the score of every item for one history, the cold ones by content; shape (items,)."""
        if self.vectors is not None and isinstance(scorer, VectorScorer):
            return np.asarray(self.vectors @ scorer.queries(history)[0], np.float32)
        scores = scorer.scores(history)[0]
        if scorer.kind == "item_knn":  # few neighbours leave most items at 0: of these the popular ones come first
            scores = scores + np.float32(1e-6) * self._catalogue.counts / max(float(self._catalogue.counts.max()), 1.0)
        return self._catalogue.warmed(scores)


def best_of(scores: Floats, allowed: Flags, count: int) -> tuple[Numbers, Floats]:
    """Return at most `count` allowed items with the best scores, the best first; equal ones by number."""
    places = np.flatnonzero(allowed)
    mine = scores[places]
    if len(places) > count:
        kept = np.argpartition(-mine, count - 1)[:count]
        places, mine = places[kept], mine[kept]
    order = np.lexsort((places, -mine))
    return places[order].astype(np.int32), mine[order]


def _graph(vectors: Floats) -> Any:
    try:
        from usearch.index import Index
    except ModuleNotFoundError as error:
        raise MissingDependency("usearch", extra="recommend") from error
    width = vectors.shape[1]
    graph = Index(ndim=width, metric="ip", dtype="f32", connectivity=16, expansion_add=64, expansion_search=128)
    graph.add(np.arange(len(vectors), dtype=np.uint64), vectors)
    return graph
