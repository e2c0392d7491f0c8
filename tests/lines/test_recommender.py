"""The recommender's whole line: tables in, a judged and deployed ranker out, learning while it is served."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from bessemer.core.errors import BackendError, ConfigError, Conflict, NotFound
from bessemer.core.experiments import Experiment
from bessemer.core.ranking import Interaction, RankRequest
from bessemer.flow import Flow, Step, open_store
from bessemer.lake import open_lake
from bessemer.models.ranking.folder import load_ranker
from bessemer.products.config import FactoryConfig
from bessemer.products.declaration import parse_declaration
from bessemer.products.factory import Factory
from bessemer.products.home import Home, write_whole
from bessemer.products.line import SIZES
from bessemer.products.receipt import FactsPart, Receipt
from bessemer.products.recommender.config import LearningConfig, RecommenderConfig, RetrainConfig
from bessemer.products.recommender.foreseeing import _folder, _names
from bessemer.products.recommender.looking import experiments_of
from bessemer.products.recommender.retraining import (
    RetrainDriver,
    Retraining,
    _Asked,
    read_retraining,
    retrain,
    retrainings,
)
from bessemer.products.recommender.steps import ToldConfig, told
from bessemer.products.rows import rows_tag
from bessemer.products.watching import Beside
from bessemer.serve import EventStore, RankingStore
from bessemer.serve.wire.events import tell_again

from .conftest import Line
from .test_serving import serving

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


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Factory, Receipt]:
    """Give a factory that has run once; to run it again is to look its steps up."""
    made = factory(tmp_path_factory.mktemp("shop"))
    return made, made.run()


def test_from_tables_to_a_ranker_that_learns(ran) -> None:
    made, receipt = ran
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


def test_a_family_that_was_tried_knows_what_users_did_as_the_served_one_does(ran, tmp_path, monkeypatch) -> None:
    made, _ = ran
    deployed, step = made.deployed()["shop"], made.products()["shop"].place.step("fit")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ease").mkdir()
    folder = _folder(made.home, deployed, step, "ease")
    assert folder.is_relative_to(made.home.artifacts), "the family, not the folder that is called as it is"
    assert _folder(made.home, deployed, step, "./ease").resolve() == tmp_path / "ease"
    tried, served = load_ranker(folder), load_ranker(Path(deployed.path))
    assert (tried.users, tried.told, tried.scorer.kind) == (served.users, served.told, "ease")
    assert tried.histories.items.tolist() == served.histories.items.tolist()
    assert tried.counts.tolist() == served.counts.tolist()
    assert _names(["popularity", "ease", "als", "ease"]) == ["popularity", "ease", "als", "ease-2"]
    with pytest.raises(NotFound, match="no candidate 'ease-2'"):
        _folder(made.home, deployed, step, "ease-2")


def test_what_comes_in_while_events_are_read_is_not_trained_on_before_it_is_noted(tmp_path, monkeypatch) -> None:
    def act(number: int) -> Interaction:
        return Interaction(user="ada", item=f"i{number}", time=1e9 + number)

    with closing(EventStore(tmp_path / "e.sqlite")) as store:
        for number in range(3):
            store.add("p", [act(number)])
            store.add("q", [act(number)])
    state = EventStore.state
    late = lambda self, projects: (state(self, projects), self.add("p", [act(len(projects) + 9)]))[0]  # noqa: E731
    monkeypatch.setattr(EventStore, "state", late)
    ctx: Any = SimpleNamespace(key="a" * 32, resources={"lake": str(tmp_path / "lake")})
    meta = told(ctx, ToldConfig(store=str(tmp_path / "e.sqlite"), projects=("p",)))
    rows = open_lake(ctx.resources["lake"]).open("told", version=rows_tag(ctx.key)).to_table().to_pylist()
    assert ([row["item"] for row in rows], meta["last"]) == (["i0", "i1", "i2"], {"p": 5})


def test_a_gateway_retrains_of_what_it_is_told_and_loses_no_request(ran) -> None:
    """All through the command line: declared, served, told, retrained, taken over, asked who wins."""
    path = ran[0].base / "factory.yaml"
    path.write_text(LINE.replace("projects: [p]", "projects: [shop], retrain: {after_events: 40}"))
    line = Line(ran[0].home.path, path)
    with serving(line) as up, httpx2.Client(base_url=f"{up.url}/v1/") as client:
        client.headers["authorization"] = f"Bearer {line.json('keys', 'create', '--project', 'shop')['key']}"

        def show(number: int) -> dict[str, object]:
            told = client.post("recommendations", json={"model": "shop", "user": f"new {number % 60}", "n": 4})
            assert told.status_code == 200, told.text
            return told.json()

        def state() -> tuple[dict[str, object], int]:
            (found,) = line.json("status")["retrainings"]
            return found["retraining"], found["new_events"]

        before = {show(number)["policy"] for number in range(60)}
        assert len(before) == 2 and state()[0]["run"] == "", "two arms, and nothing was retrained"
        for number in range(39):
            item = show(number)["data"][0]["item"]
            client.post("events", json={"events": [{"user": f"new {number}", "item": item, "kind": "purchase"}]})
        assert state()[1] == 39
        client.post("events", json={"events": [{"user": "ada", "item": "i00001", "kind": "view"}]})
        after, deadline, count = set(before), time.monotonic() + 120, 0
        while after & before and time.monotonic() < deadline:
            after = {show(number)["policy"] for number in range(count, count + 20)}
            count += 20
            time.sleep(0.3)
        assert not after & before, "it took over, the challenger too, and every request was answered"
        done, new = state()
        assert (done["state"], new) == ("waiting", 0) and done["said"].startswith("deployed: ")
        assert f"retraining shop after 40 events, 0 new since the last; last: run {done['run']}" in flat(line, "status")
        (told,) = client.get("experiments").json()["data"]
        assert sum(arm["taken_up"] for arm in told["arms"]) == 39 and told["winner"] == "undecided"
        assert "candidate, doubly robust" in flat(line, "experiment", "estimate", "challenger", "-f", str(path))
        assert "which decides" in flat(line, "experiment", "show", "first", "--project", "shop")


def flat(line: Line, *words: str) -> str:
    return " ".join(line.call(*words).stdout.split())


def test_a_driver_goes_on_where_another_was_killed_and_notes_what_failed(tmp_path) -> None:
    home, asked = Home(tmp_path / "home"), []
    product = RecommenderConfig(learning=LearningConfig(projects=("p",), retrain=RetrainConfig(after_events=5)))

    def run(submitted: str, beside: Beside) -> None:
        asked.append((submitted, beside.only))
        raise BackendError("the disk is full")

    made: Any = SimpleNamespace(config=SimpleNamespace(name="f", made={"shop": product}), home=home, run=run)
    begun = Retraining(product="shop", wish=RetrainConfig(every_hours=1), projects=("q",), state="running", run="gone")
    write_whole(home.path / "retraining" / "shop.json", begun.model_dump_json())
    first, second = RetrainDriver(made, None, lambda: 7.0, 0.01), RetrainDriver(made, None, lambda: 7.0, 0.01)
    for driver in (first, second):
        driver.start()
    deadline = time.monotonic() + 20
    while read_retraining(home, "shop").state == "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    for driver in (first, second):
        driver.close()
    found = read_retraining(home, "shop")
    assert asked == [("", ("shop",))], "anew, by one of the drivers"
    assert (found.state, found.said, found.at, found.projects) == ("failed", "the disk is full", 7.0, ("p",))
    assert retrainings(home) == [(found, 0)]


@pytest.mark.parametrize("fails", ["the run", "one submission", "a process before", "a process after"])
def test_no_retraining_is_lost_and_none_looks_as_if_it_went_on(tmp_path, monkeypatch, fails) -> None:
    home, ran, submit = Home(tmp_path / "home"), [], _Asked.submit
    product = RecommenderConfig(learning=LearningConfig(projects=("p",), retrain=RetrainConfig(after_events=1)))
    flow = Flow("shop", (Step("none", run="math:sqrt"),))

    def run(submitted: str, beside: Beside) -> Any:
        with open_store(home.database_url) as store:
            ran.append(submitted or store.submit(flow))
        if fails == "the run":
            raise RuntimeError("a mistake of ours")
        return SimpleNamespace(run=ran[-1], deployed=False, outcomes=())

    def failing(asked: _Asked, factory: Any, found: str) -> str:
        monkeypatch.setattr(_Asked, "submit", submit)
        if fails == "one submission":
            raise BackendError("the disk is full")
        if fails == "a process after":
            submit(asked, factory, found)
        raise KeyboardInterrupt

    made: Any = SimpleNamespace(config=SimpleNamespace(name="f", made={"shop": product}), home=home, run=run)
    made.line, made.products = (lambda products: flow), (lambda only: {})
    with closing(EventStore(home.events)) as store:
        store.add("p", [Interaction(user="ada", item="i1", time=1.0)])
    if fails != "the run":
        monkeypatch.setattr(_Asked, "submit", failing)
    if "process" in fails:
        (home.path / "retraining").mkdir(parents=True)
        with pytest.raises(KeyboardInterrupt):
            RetrainDriver(made, None, lambda: 7.0).turn()
        assert read_retraining(home, "shop").state == "running", "whoever comes next finishes it"
    driver = RetrainDriver(made, None, lambda: 7.0, 0.01)
    driver.start()
    deadline = time.monotonic() + 20
    while not ((found := read_retraining(home, "shop")) and found.said) and time.monotonic() < deadline:
        time.sleep(0.01)
    driver.close()
    assert (found.state, found.last) == ("failed" if fails == "the run" else "waiting", 1)
    assert found.said.startswith("RuntimeError: a mistake" if fails == "the run" else "the gate did not let it through")
    with open_store(home.database_url) as store:
        assert [each.id for each in store.runs("running")] == ran and len(ran) == 1, "one, which nobody left"


def test_when_retraining_is_due(tmp_path) -> None:
    home, hour = Home(tmp_path / "home"), 3_600.0

    def due(every: float | None, after: int | None, now: float, known: str = "") -> str:
        found = _Asked(f"retrain {known}", ["p"], (), 0)
        with open_store(home.database_url) as store:
            if known:
                store.submit(Flow("none", (Step("none", run="math:sqrt"),)), trigger=(f"retrain {known}", known))
        return found.fingerprint(home, RetrainConfig(every_hours=every, after_events=after), now)

    assert due(1, None, hour) == "", "nobody was told anything"
    with closing(EventStore(home.events)) as store:
        for number in range(5):
            store.add("p", [Interaction(user="ada", item=f"i{number}", time=1.0)])
            store.add("q", [Interaction(user="ada", item=f"i{number}", time=1.0)])
    assert due(1, None, 2.5 * hour) == "2 5 to 9" and due(1, None, 2.5 * hour, known="2 4 to 7") == ""
    assert due(1, None, 3.5 * hour, known="2 4 to 7") == "3 5 to 9" and due(1, None, 3.5 * hour, known="2 5 to 9") == ""
    assert due(1, None, 3.5 * hour, known="2 6 to 9") == "3 5 to 9", "somebody was forgotten"
    assert due(None, 5, 0.0) == "- 5 to 9" and due(None, 6, 0.0) == ""
    assert due(None, 2, 0.0, known="- 3 to 5") == "- 5 to 9" and due(None, 3, 0.0, known="- 3 to 5") == ""
    assert due(1, 2, 2.5 * hour, known="2 3 to 5") == "2 5 to 9", "whichever comes first"


def test_what_does_not_fit_is_said_before_the_work(tmp_path) -> None:
    with pytest.raises(ConfigError, match="the arms do not differ"):
        factory(tmp_path, LINE.replace("challenger: {kind: popularity}, ", ""))
    with pytest.raises(ConfigError, match="say when to retrain"):
        factory(tmp_path, LINE.replace("projects: [p]", "projects: [p], retrain: {}"))
    with pytest.raises(ConfigError, match="nobody to learn from"):
        factory(tmp_path, LINE.replace("projects: [p]", "retrain: {after_events: 5}"))
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
