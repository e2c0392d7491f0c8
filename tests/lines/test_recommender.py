"""The recommender's whole line: tables in, a judged and deployed ranker out, learning while it is served."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError, Conflict, NotFound
from bessemer.core.experiments import Experiment
from bessemer.core.ranking import Interaction, RankRequest
from bessemer.products.declaration import parse_declaration
from bessemer.products.factory import Factory, FactoryConfig
from bessemer.products.home import Home
from bessemer.products.line import SIZES
from bessemer.products.receipt import FactsPart
from bessemer.products.recommender.looking import experiments_of
from bessemer.products.recommender.retraining import retrain
from bessemer.serve import EventStore, RankingStore
from bessemer.serve.wire.events import tell_again

LINE = """name: shop
size: tiny
tables:
  events: {kind: shop, part: events, users: 150, items: 80, events: 4000}
  items: {kind: shop, part: items, users: 150, items: 80, events: 4000}
product:
  kind: recommender
  items: items
  models: [{kind: ease, regularisation: 50}, {kind: item_knn}]
  learning: {projects: [p]}
  experiment: {kind: ab, challenger: {kind: popularity}, counts: [purchase]}
  explore: {share_ratio: 0.2}
"""


def factory(folder: Path, text: str = LINE) -> Factory:
    return Factory(parse_declaration(text, "factory.yaml", FactoryConfig, SIZES), folder, Home(folder / "home"))


def test_from_tables_to_a_ranker_that_learns(tmp_path) -> None:
    made = factory(tmp_path)
    receipt = made.run()
    (part,) = receipt.products
    assert isinstance(part, FactsPart) and part.deployed and part.compared == "popularity"
    ndcg = part.metrics[0]
    assert ndcg.metric == "ndcg@10" and ndcg.after_low > ndcg.before
    assert {"events", "model", "coverage", "speed", "experiment", "explore"} <= {name for name, _ in part.facts}
    assert receipt.lineage[0].what.endswith("fitted on 4,000 events") and receipt.total
    engine = made.open_engines()["shop"]
    first = engine.rank(RankRequest(project="p", user="somebody", n=5))
    engine.learn("p", [Interaction(user="somebody", item=first.items[2].item, time=2e9)])
    then = engine.rank(RankRequest(project="p", user="somebody", n=5, explain=True))
    assert [each.item for each in then.items] != [each.item for each in first.items]
    assert any(each.reason.items == (first.items[2].item,) for each in then.items)
    assert experiments_of(made.home)[0].sentence.startswith("too early") and "tries" in engine.capabilities
    asked = [RankRequest(project="p", user=f"u{n}", n=5, kept=f"rec_{n}") for n in range(40)]
    policies = {(ranked := engine.rank(each)).arm: ranked.policy for each in asked}
    assert policies.keys() == {"incumbent", "challenger"} and policies["challenger"].startswith("popularity-")
    assert retrain(made) is None, "nobody told anything"
    with closing(EventStore(made.home.events)) as store:
        told = [Interaction(user="somebody", item=row.item, time=1.8e9 + n) for n, row in enumerate(first.items)]
        store.add("p", told)
        store.add("q", [Interaction(user="somebody else", item="i00001", time=1.8e9)])
    again = retrain(made, 3600, clock=lambda: 7200.0)
    assert again and {stage.step for stage in again.stages if stage.cached} == {"table_events", "table_items"}
    assert (again.lineage[0].what, again.run != receipt.run) == ("ease fitted on 4,005 events", True)
    assert retrain(made, 3600, clock=lambda: 7300.0) is None and retrain(made, 3600, clock=lambda: 11_000.0) is None
    served = engine.counters.total.units
    assert engine.told == {} and engine.renew() and not engine.renew()
    learnt, ranked = engine, engine.counters.total.units
    assert learnt.told == {"p": 5} and ranked == served == 210, "what the earlier one ranked is not lost"
    assert learnt.rank(RankRequest(user="somebody")).events == 5, "trained on"
    assert learnt.rank(RankRequest(user="somebody else")).events == 0, "of a project that is not named"
    assert learnt.rank(RankRequest(project="q", user="somebody else")).events == 1, "told again, and twice"
    with closing(EventStore(made.home.events)) as store:
        assert tell_again(store, {"shop": learnt}) == 1, "what it was trained on is not told twice"
    asyncio.run(learnt.close())


def test_what_does_not_fit_is_said_before_the_work(tmp_path) -> None:
    with pytest.raises(ConfigError, match="the arms do not differ"):
        factory(tmp_path, LINE.replace("challenger: {kind: popularity}, ", ""))
    with pytest.raises(ConfigError, match="no known probabilities"):
        factory(tmp_path, LINE.replace("kind: ab", "kind: interleave"))
    with pytest.raises(NotFound, match="no experiment 'autumn'"):
        experiments_of(Home(tmp_path / "home"), "autumn")
    home = Home(tmp_path / "home")
    with closing(RankingStore(home.rankings)) as rankings:
        rankings.declare(Experiment(name="first", model="shop", kind="ab", challenger="ease"))
    with pytest.raises(Conflict, match="'first' began with another challenger, counts"):
        factory(tmp_path).run()
    with pytest.raises(ConfigError, match="table 'clicks'"):
        factory(tmp_path, LINE.replace("items: items\n", "items: items\n  events: clicks\n")).run()
    with pytest.raises(ConfigError, match=r"product\.models"):
        factory(tmp_path, LINE.replace("item_knn", "item_knm"))
