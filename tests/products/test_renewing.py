"""A newer ranker takes over: who is forgotten stays so, what is told twice is little, what it can do is asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from bessemer.core.ranking import Interaction, RankRequest
from bessemer.infer.ranking.config import ExploreConfig, ServedRankerConfig
from bessemer.infer.ranking.engine import open_engine
from bessemer.models.ranking.base import Histories
from bessemer.models.ranking.folder import SavedRanker, save_ranker
from bessemer.models.ranking.linear import Popularity
from bessemer.products.home import Deployment
from bessemer.products.recommender.renewing import AnyRanker, RenewingRanker
from bessemer.products.recommender.trying import TryingRanker
from bessemer.serve import EventStore

ITEMS = 5


class Bench:
    """A served ranker, its store of events, and how many events the newer one is told.

    Attributes:
        meanwhile: what happens while the newer one is told for the first time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, EventStore(folder / "events.sqlite")
        self.meanwhile: Callable[[], None] = lambda: None
        self.told: list[int] = []
        self.deploy("first", 0)
        found = Deployment.model_validate_json((folder / "deployments" / "shop.json").read_text())
        self.ranker = RenewingRanker(
            found, folder / "deployments" / "shop.json", self._opened, folder / "events.sqlite"
        )

    def deploy(self, name: str, told: int, product: str = "shop") -> None:
        """Deploy a ranker that was trained on two events of ada, perhaps told up to a number."""
        counts, path = np.ones(ITEMS, np.float32), self.folder / name
        histories = Histories(np.asarray([0, 2], np.int64), np.asarray([0, 1], np.int32), np.ones(2, np.float32))
        items = tuple(f"i{number}" for number in range(ITEMS))
        rows, content = tuple({"item": item} for item in items), np.zeros((ITEMS, 0), np.float32)
        saved = SavedRanker(Popularity(counts), items, ("ada",), histories, counts, rows, content, {"p": told})
        save_ranker(saved, path)
        made = Deployment(name=product, run="run", key=name, path=str(path), deployed_at=0.0)
        (self.folder / "deployments").mkdir(exist_ok=True)
        (self.folder / "deployments" / f"{product}.json").write_text(made.model_dump_json())

    def tell(self, user: str) -> None:
        self.ranker.learn("p", self.store.add("p", [Interaction(user=user, item="i3", time=1.0)]))

    def forget(self, user: str) -> None:
        self.store.forget("p", user)
        self.ranker.forget("p", user)

    def events(self, user: str) -> int:
        return self.ranker.rank(RankRequest(project="p", user=user)).events

    def _opened(self, path: str) -> AnyRanker:
        opened = open_engine(ServedRankerConfig(path=path, name="shop"))
        learn = opened.learn

        def slow(project: str, events: Sequence[Interaction]) -> int:
            known = learn(project, events)
            self.told.append(len(events))
            happens, self.meanwhile = self.meanwhile, lambda: None
            happens()
            return known

        vars(opened)["learn"] = slow
        return TryingRanker(opened, explore=ExploreConfig()) if "tries" in path else opened


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    asyncio.run(made.ranker.close())
    made.store.close()


def test_who_is_forgotten_while_a_newer_one_is_told_stays_forgotten(bench) -> None:
    bench.tell("ada")
    bench.tell("bob")

    def meanwhile() -> None:
        bench.forget("ada")
        bench.forget("bob")
        bench.tell("bob")

    assert (bench.events("ada"), bench.events("bob")) == (3, 1)
    bench.deploy("second", 0)
    bench.meanwhile = meanwhile
    assert bench.ranker.renew()
    assert (bench.events("ada"), bench.events("bob")) == (0, 1) and bench.ranker.users("p") == ["bob"]


def test_a_training_that_began_before_an_erasure_brings_nobody_back_however_late_it_is_deployed(bench) -> None:
    bench.tell("ada")
    bench.forget("ada")
    bench.tell("bob")
    bench.deploy("begun after", 2)
    assert bench.ranker.renew() and bench.events("ada") == 2, "this one was trained on a table that has her"
    bench.deploy("begun before", 1)
    assert bench.ranker.renew() and bench.events("ada") == 0


def test_only_what_came_meanwhile_is_told_twice_while_events_wait(bench) -> None:
    for number in range(20):
        bench.tell(f"u{number}")
    bench.told.clear()
    bench.deploy("second", 0)
    bench.meanwhile = lambda: bench.tell("late")
    assert bench.ranker.renew()
    assert bench.told == [20, 1, 1, 1], "all; the late one to the earlier ranker and to the newer; it alone again"
    assert bench.events("late") == 1


def test_an_experiment_begins_with_the_ranker_that_has_it(bench) -> None:
    assert "tries" not in bench.ranker.capabilities
    bench.deploy("tries", 0)
    assert bench.ranker.renew() and "tries" in bench.ranker.capabilities
