"""The served ranker: an Engine of RankRequests that takes events while it serves.

Owns the order of things: the history, the candidates, the rules, the reasons. Knows no HTTP, no store of events and no
clock but its own stopwatch. A ranking takes well under a millisecond for some thousand items, so it is made at once in
the caller's thread; only an exact ranking of very many items goes to another.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.digest import digest, digest_bytes
from bessemer.core.errors import MissingDependency, Unsupported
from bessemer.core.nouns import Usage
from bessemer.core.ranking import Interaction, Ranked, Ranking, RankRequest
from bessemer.infer.engines import Counters
from bessemer.infer.ranking.catalogue import Catalogue, Flags
from bessemer.infer.ranking.config import ServedRankerConfig
from bessemer.infer.ranking.learning import EaseLearner, liked_items
from bessemer.infer.ranking.memory import Memory
from bessemer.infer.ranking.reasons import reason_for
from bessemer.infer.ranking.retrieval import Retriever, best_of
from bessemer.infer.ranking.rules import ranked_anew
from bessemer.models.ranking.base import Floats, Histories, Numbers, Scorer, VectorScorer
from bessemer.models.ranking.folder import SavedRanker, load_ranker
from bessemer.models.ranking.linear import Ease, Popularity

_ELSEWHERE_ITEMS = 50_000
"""From so many items on an exact ranking is made in another thread."""

History = tuple[Numbers, Floats]


class RankerEngine:
    """Serves a saved ranker.

    Attributes:
        policy: which model and rules rank, such as ``ease-3f2a9c01``.
        told: for each project, the number of the last stored event that it was trained on.
    """

    capabilities = frozenset({"rank", "learn", "batch"})

    def __init__(self, config: ServedRankerConfig, saved: SavedRanker, policy: str) -> None:
        self.name, self.policy = config.name, policy
        self._config, self._saved = config, saved
        self.told = dict(saved.told)
        self._catalogue = Catalogue(saved.items, saved.attributes, saved.content, saved.counts)
        self._retriever = Retriever(config, self._catalogue, saved.scorer)
        self._popular = Popularity(saved.counts)
        self._memory = Memory(saved.users, saved.histories, config.users, config.history)
        self._lock, self._closed, self._counters = threading.RLock(), False, Counters()
        self._usual = self._shown_usually()
        self._learner: EaseLearner | None = None
        if isinstance(saved.scorer, Ease) and config.learn and len(saved.items) <= config.learn_items:
            self._learner = EaseLearner(saved.scorer, self._before, self._liked, config.projects)

    @property
    def counters(self) -> Counters:
        """What was ranked since the engine was opened."""
        return self._counters

    async def respond(self, request: Any, /) -> Any:
        """Return the ranking that a RankRequest asks for, as a Ranking.

        Raises:
            Unsupported: the engine is closed, something else is asked, or no item has a filter's attribute.
        """
        if not isinstance(request, RankRequest):
            raise Unsupported("this model ranks items only", hint="Ask it for recommendations, another for answers.")
        if self._closed:
            raise Unsupported("the engine is closed", hint="Open another one.")
        if len(self._catalogue) >= _ELSEWHERE_ITEMS and not self._retriever.searched:
            return await asyncio.to_thread(self.rank, request)
        return self.rank(request)

    async def stream(self, request: Any, /) -> AsyncGenerator[Any, None]:
        """Raise Unsupported: a ranking comes whole."""
        raise Unsupported("a ranking comes whole", hint="Ask without stream.")
        yield

    async def close(self) -> None:
        """Take no more requests and events."""
        self._closed = True
        if self._learner:
            await asyncio.to_thread(self._learner.close)

    def learn(self, project: str, events: Sequence[Interaction], /) -> int:
        """Take events; histories have them when this returns, weights between items soon after. Any thread may call.

        Raises:
            Unsupported: the engine is closed.
        """
        if self._closed:
            raise Unsupported("the engine is closed", hint="Open another one.")
        known = 0
        with self._lock:
            for event in events:
                number = self._catalogue.numbers.get(event.item)
                if number is not None:
                    known += 1
                    self._memory.add(project, event, number)
        if self._learner:
            users = dict.fromkeys(event.user for event in events if event.user)
            self._learner.told(project, list(users))
        return known

    def forget(self, project: str, user: str, /) -> None:
        """Forget a user: their history for this project, and what its weights have of them."""
        with self._lock:
            self._memory.forget(project, user)
        if self._learner:
            self._learner.told(project, [user])

    def users(self, project: str, /) -> list[str]:
        """Return the users of a project who have a history, those that were trained on among them."""
        with self._lock:
            return self._memory.users(project)

    def settle(self) -> bool:
        """Wait until the weights have all that was told; return whether they do."""
        return self._learner.settle() if self._learner else True

    def rank(self, request: RankRequest) -> Ranking:
        """Return a ranking at once; see `respond`."""
        began = time.perf_counter()
        with self._lock:
            items, weights = self._memory.history(request.project, request.user, request.session)
        told = len(items)
        history = self._with_recent(request, items, weights)
        scorer = self._scorer(request.project, history)
        numbers = [self._catalogue.numbers.get(name, -1) for name in request.candidates]
        found, scores = self._candidates(request, history, scorer, np.asarray([n for n in numbers if n >= 0], np.int32))
        rules = self._config.rules
        ratio = rules.diversity_ratio if request.diversity_ratio is None else request.diversity_ratio
        chosen = ranked_anew(found, scores, self._catalogue, rules, request.context, request.n, ratio)
        reasons = [self._reason(item, history, scorer) if request.explain else None for item, _ in chosen]
        usage = Usage(units=len(chosen))
        with self._lock:
            self._counters = self._counters.plus(1, usage)
        return Ranking(
            items=tuple(
                Ranked(item=self._catalogue.names[item], score=score, reason=reason)
                for (item, score), reason in zip(chosen, reasons, strict=True)
            ),
            policy=self.policy,
            events=told,
            unknown=tuple(n for n, number in zip(request.candidates, numbers, strict=True) if number < 0),
            usage=usage,
            seconds=time.perf_counter() - began,
        )

    def _scorer(self, project: str, history: History) -> Scorer:
        if not (history[1] > 0).any():
            return self._popular
        return self._learner.ranker(project) if self._learner else self._saved.scorer

    def _with_recent(self, request: RankRequest, items: Numbers, weights: Floats) -> History:
        numbers = (self._catalogue.numbers.get(name) for name in request.recent)
        recent = np.asarray([number for number in numbers if number is not None], np.int32)
        return np.concatenate([items, recent]), np.concatenate([weights, np.ones(len(recent), np.float32)])

    def _candidates(self, request: RankRequest, history: History, scorer: Scorer, given: Numbers) -> History:
        """Return the items that may be shown with the model's scores, the best first."""
        one = Histories(np.asarray([0, len(history[0])], np.int64), *history)
        barred = [self._catalogue.numbers.get(name) for name in request.exclude]
        wanted = self._catalogue.allowed(request.filters)
        rules = self._config.rules
        anew = rules.boosts or rules.most_per_category or (request.diversity_ratio or rules.diversity_ratio)
        count = max(self._config.candidates, request.n) if anew else request.n
        if not len(request.candidates) and self._retriever.searched and isinstance(scorer, VectorScorer):
            allowed = self._allowed(request, history, wanted, barred)
            reached = count + len(history[0]) + len(barred)
            numbers, scores = self._retriever.found(scorer.queries(one)[0], reached)
            kept = allowed[numbers]
            if kept.sum() >= request.n:
                return numbers[kept][:count], scores[kept][:count]
        if scorer is self._popular:
            scores = self._catalogue.warmed(scorer.scores(one)[0])
        else:
            scores = self._retriever.scores(scorer, one)
        allowed = self._allowed(request, history, wanted, barred)
        if len(request.candidates):
            named = np.zeros(len(allowed), bool)
            named[given] = True
            allowed &= named
        return best_of(scores, allowed, count)

    def _allowed(
        self, request: RankRequest, history: History, wanted: Flags | None, barred: Sequence[int | None]
    ) -> Flags:
        allowed = self._usual.copy()
        if wanted is not None:
            allowed &= wanted
        if not (request.seen or request.candidates):
            allowed[history[0]] = False
        allowed[[number for number in barred if number is not None]] = False
        return allowed

    def _shown_usually(self) -> Flags:
        """Return which items the rules allow for everybody."""
        rules, catalogue = self._config.rules, self._catalogue
        shown = np.ones(len(catalogue), bool)
        if any(rules.available in row for row in catalogue.attributes):
            shown &= np.asarray([value is not False for value in catalogue.column(rules.available)])
        shown[[catalogue.numbers[name] for name in rules.exclude if name in catalogue.numbers]] = False
        return shown

    def _reason(self, item: int, history: History, scorer: Scorer) -> Any:
        return reason_for(item, history, scorer, self._catalogue, self._saved.content)

    def _before(self, user: str) -> Numbers:
        with self._lock:
            return liked_items(*self._memory.trained(user))

    def _liked(self, project: str, user: str) -> Numbers:
        with self._lock:
            return liked_items(*self._memory.history(project, user, whole=True))


def open_engine(config: ServedRankerConfig) -> RankerEngine:
    """Return an engine that has the ranker loaded.

    Raises:
        NotFound: the folder has no ranker.
        Unsupported: it is damaged.
        ConfigError: the rules or the retrieval do not fit it.
        MissingDependency: safetensors or usearch is not installed.
    """
    try:
        import safetensors  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependency("safetensors", extra="recommend") from error
    folder = Path(config.path)
    saved = load_ranker(folder)
    model = digest_bytes((folder / "ranker.safetensors").read_bytes())
    policy = f"{saved.scorer.kind}-{digest([model, config.rules])[:8]}"
    return RankerEngine(config, saved, policy)
