"""A served ranker that tries something on its users: a challenger, by halves or in one list, or an order by chance.

Owns who meets what. The gateway keeps what was shown; where it may not, or nobody is named, nothing is tried. Who is in
which arm follows from the names of experiment, project and user alone, so all gateways agree and none remembers.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from bessemer.core.errors import Unsupported
from bessemer.core.experiments import Experiment
from bessemer.core.nouns import Usage
from bessemer.core.ranking import Interaction, Ranking, RankRequest
from bessemer.evals.interleaving import arm_of, team_draft
from bessemer.infer.engines import Counters
from bessemer.infer.ranking.config import ExploreConfig
from bessemer.infer.ranking.engine import RankerEngine
from bessemer.infer.ranking.exploring import explored


class TryingRanker:
    """An Engine of RankRequests over one or two others.

    Args:
        incumbent: answers where nothing is tried.
        challenger: of the experiment; None has none.
        experiment: likewise.
        explore: chance in the order; None has none.
    """

    def __init__(
        self,
        incumbent: RankerEngine,
        challenger: RankerEngine | None = None,
        experiment: Experiment | None = None,
        explore: ExploreConfig | None = None,
    ) -> None:
        self._incumbent, self._challenger = incumbent, challenger
        self._experiment, self._explore = experiment, explore
        self._engines = (incumbent, challenger) if challenger else (incumbent,)
        self.name, self.capabilities = incumbent.name, incumbent.capabilities | {"tries"}
        self._counters, self._lock = Counters(), threading.Lock()

    @property
    def told(self) -> dict[str, int]:
        """For each project, the number of the last stored event that both rankers were trained on."""
        return self._incumbent.told

    @property
    def counters(self) -> Counters:
        """What was shown; a list made of two counts once."""
        return self._counters

    async def respond(self, request: Any, /) -> Any:
        """Return a ranking; see `RankerEngine.respond`."""
        if not isinstance(request, RankRequest):
            return await self._incumbent.respond(request)
        asked = [await engine.respond(wanted) for engine, wanted in self._asked(request)]
        return self._counted(self._joined(request, asked))

    async def stream(self, request: Any, /) -> AsyncIterator[Any]:
        """Raise Unsupported: a ranking comes whole."""
        raise Unsupported("a ranking comes whole", hint="Ask without stream.")
        yield

    def rank(self, request: RankRequest) -> Ranking:
        """Return a ranking at once."""
        return self._counted(self._joined(request, [engine.rank(wanted) for engine, wanted in self._asked(request)]))

    def learn(self, project: str, events: Sequence[Interaction], /) -> int:
        """Take events; see `RankerEngine.learn`."""
        return max(engine.learn(project, events) for engine in self._engines)

    def forget(self, project: str, user: str, /) -> None:
        """Forget a user; see `RankerEngine.forget`."""
        for engine in self._engines:
            engine.forget(project, user)

    def users(self, project: str, /) -> list[str]:
        """Return the users of a project who have a history; see `RankerEngine.users`."""
        return self._incumbent.users(project)

    def settle(self) -> bool:
        """Wait until the weights have all that was told; return whether they do."""
        return all(engine.settle() for engine in self._engines)

    async def close(self) -> None:
        """Take no more requests and events."""
        for engine in self._engines:
            await engine.close()

    def _arm(self, request: RankRequest) -> str:
        """Return which arm a request is of; empty of none."""
        who = request.user or request.session
        if not (self._experiment and request.kept and who):
            return ""
        meets = arm_of(self._experiment.name, f"{request.project}\0{who}", self._experiment.share_ratio)
        if self._experiment.kind == "ab":
            return "challenger" if meets else "incumbent"
        return "both" if meets else ""

    def _asked(self, request: RankRequest) -> list[tuple[RankerEngine, RankRequest]]:
        """Return which engines are asked what."""
        arm = self._arm(request)
        if arm == "both" and self._challenger:
            return [(self._incumbent, request), (self._challenger, request)]
        engine = self._challenger if arm == "challenger" and self._challenger else self._incumbent
        if self._explores(request):
            request = request.model_copy(update={"n": max(request.n, self._explore.depth)})  # type: ignore[union-attr]
        return [(engine, request)]

    def _explores(self, request: RankRequest) -> bool:
        return bool(self._explore and request.kept and (request.user or request.session))

    def _joined(self, request: RankRequest, asked: list[Ranking]) -> Ranking:
        """Return what is shown of what was answered."""
        arm, made = self._arm(request), asked[0]
        if len(asked) == 2:
            made = drafted(asked[0], asked[1], request.n, request.kept)
        elif self._explore and self._explores(request):
            made = explored(made, request.n, self._explore, request.kept)
        if arm and self._experiment:
            made = made.model_copy(update={"experiment": self._experiment.name, "arm": arm})
        return made

    def _counted(self, ranking: Ranking) -> Ranking:
        with self._lock:
            self._counters = self._counters.plus(1, ranking.usage)
        return ranking


def drafted(incumbent: Ranking, challenger: Ranking, n: int, seed: str) -> Ranking:
    """Return a ranking of n items made of two, whose items say whose they are."""
    lists = [{each.item: each for each in ranking.items} for ranking in (incumbent, challenger)]
    made = team_draft(list(lists[0]), list(lists[1]), n, seed)
    items = tuple(
        lists[team][item].model_copy(update={"team": team}) for item, team in zip(made.items, made.teams, strict=True)
    )
    return incumbent.model_copy(
        update={
            "items": items,
            "policy": f"{incumbent.policy} {challenger.policy}",
            "usage": Usage(units=len(items)),
            "seconds": (incumbent.seconds or 0) + (challenger.seconds or 0),
        }
    )
