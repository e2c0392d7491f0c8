"""Experiments behind a real gateway: shown, kept, joined with what came of it, and judged."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from bessemer.core.errors import BackendError, ConfigError, Conflict
from bessemer.core.experiments import Experiment
from bessemer.core.ranking import Interaction, Ranked, Ranking, RankRequest
from bessemer.infer.ranking.config import ExploreConfig, RulesConfig
from bessemer.infer.ranking.engine import open_engine
from bessemer.products.home import Home
from bessemer.products.recommender import experiments as judged
from bessemer.products.recommender.experiments import HomeExperiments
from bessemer.products.recommender.foreseeing import foresee
from bessemer.products.recommender.trying import TryingRanker
from bessemer.serve import EventStore, FeedbackStore, GatewayParts, RankingStore
from bessemer.serve.privacy import Capture

from ...conftest import empty_schema
from ..conftest import Running, start_in
from .test_ranking import save

BAD = tuple(f"i{n}" for n in range(0, 30, 2))
USERS = 70


@dataclass
class Place:
    running: Running
    secrets: dict[str, str]
    rankings: RankingStore
    events: EventStore
    home: Any
    clock: list[float]
    client: httpx2.Client

    def ask(self, path: str, body: Any, project: str = "p", method: str = "POST") -> Any:
        headers = {"authorization": f"Bearer {self.secrets[project]}"}
        return self.client.request(method, f"{self.running.url}/v1/{path}", headers=headers, json=body, timeout=20)

    def show(self, project: str = "p", path: str = "recommendations", **body: Any) -> Any:
        return self.ask(path, {"model": "played", "n": 6, **body}, project).json()


@pytest.fixture(params=itertools.product(["interleave", "ab"], ["sqlite", "postgres"]), ids="-".join, scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    (kind, database), clock = request.param, [1_000.0]
    home = tmp_path_factory.mktemp(kind)
    url = f"sqlite:///{home / 'rankings.sqlite'}"
    served = save(home / "ranker")
    with ExitStack() as stack:
        if database == "postgres":
            url = stack.enter_context(empty_schema(request.getfixturevalue("postgres_server")))
        events = EventStore(home / "events.sqlite")
        rankings = RankingStore(url, lambda: clock[0], lambda project: Capture(stores=project != "shy"), events.last)
        feedback = FeedbackStore(url, lambda answer: "p")
        for each in (events, rankings, feedback):
            stack.callback(each.close)
        experiment = Experiment(
            name="autumn",
            model="played",
            kind=kind,
            challenger="rules",
            share_ratio=0.5,
            counts=("buy", "liked"),
        )
        rankings.declare(experiment)
        better = open_engine(served.model_copy(update={"rules": RulesConfig(exclude=BAD)}))
        engine: Any = TryingRanker(open_engine(served), better, experiment)
        engine.go_on = type("Never", (), {"set": lambda self: None})()  # what the harness does at the end
        told = HomeExperiments(rankings, events, feedback)
        told._known = type("Never", (dict,), {"get": lambda self, project, other: other})()  # not the answer of before
        parts = GatewayParts(
            clock=lambda: clock[0], events=events, feedback=feedback, rankings=rankings, experiments=told
        )
        running = start_in(home, stack, engine, parts)
        secrets = {project: running.keys.create(project)[1] for project in ("p", "q", "shy")}
        yield Place(running, secrets, rankings, events, home, clock, stack.enter_context(httpx2.Client()))


def test_users_decide_and_everybody_may_look(place) -> None:
    """Users buy what is good; the challenger shows nothing else."""
    assert place.ask("experiments", None, method="GET").json()["data"][0]["winner"] == "undecided"
    for number in range(2 * USERS):
        told = place.show(user=f"ada {number}")
        assert len({each["item"] for each in told["data"]}) == 6 == told["usage"]["units"]
        place.clock[0] += 1
        good = [each["item"] for each in told["data"][: 3 + number % 4] if each["item"] not in BAD]
        events = [{"user": f"ada {number}", "item": item, "kind": "buy", "time": place.clock[0]} for item in good]
        events += [{"user": f"ada {number}", "item": BAD[0], "kind": "view", "time": place.clock[0]}]
        assert place.ask("events", {"events": events}).status_code == 200
    shown = list(place.rankings.shown(experiment="autumn", project="p"))
    found = place.ask("experiments/autumn", None, method="GET").json()
    assert (found["object"], found["kind"], found["winner"]) == ("experiment", found["kind"], "challenger"), found
    incumbent, challenger = found["arms"]
    assert 0 < found["anytime"]["low"] < found["fixed"]["low"] and found["chance"] > 0.001
    assert incumbent["policies"] != challenger["policies"] and challenger["taken_up"] > incumbent["taken_up"]
    if found["kind"] == "ab":
        assert incumbent["users"] + challenger["users"] == 2 * USERS == len(shown)
        assert 4 * challenger["users"] > USERS < 4 * incumbent["users"]
    else:
        assert incumbent["users"] == challenger["users"] == len(shown) and USERS / 2 < len(shown) < 1.5 * USERS
        assert all({each.team for each in one.items} == {0, 1} for one in shown)
    assert place.ask("experiments/autumn", None, "q", "GET").json()["began_at"] is None, "of another project"
    assert place.ask("experiments/winter", None, method="GET").status_code == 404
    key = place.running.keys.create("p", models=("another",))[1]
    headers = {"authorization": f"Bearer {key}"}
    assert place.client.get(f"{place.running.url}/v1/experiments", headers=headers).json()["data"] == []
    assert place.client.get(f"{place.running.url}/v1/experiments/autumn", headers=headers).status_code == 404
    again = place.show(user="ada 3")
    assert again["policy"] == place.show(user="ada 3")["policy"], "nobody changes the arm"


def test_feedback_counts_for_the_item_that_it_names(place) -> None:
    def taken() -> int:
        return sum(arm["taken_up"] for arm in place.ask("experiments/autumn", None, method="GET").json()["arms"])

    told = next(told for n in range(50) if _kept(place, told := place.show(user=f"eve {n}")))
    before, item = taken(), told["data"][1]["item"]
    for each, metric, value in (
        (item, "liked", True),
        ("i77", "liked", True),
        (item, "read", True),
        (item, "liked", 0),
    ):
        said = {"target": told["id"], "item": each, "metric": metric, "value": value}
        assert place.ask("feedback", said).status_code == 200
    assert taken() == before + 1
    wrong = {"target": "chatcmpl-1", "item": item, "metric": "liked", "value": True}
    assert "only a ranking" in place.ask("feedback", wrong).json()["error"]["message"]


def _kept(place: Place, told: Any) -> Any:
    return next((each for each in place.rankings.shown() if each.id == told["id"]), None)


def test_nothing_is_kept_of_who_is_not_named_or_wants_nothing_kept_and_no_name_is(place) -> None:
    before = len(list(place.rankings.shown()))
    policies = {place.show("shy", user=f"bob {n}")["policy"] for n in range(20)}
    policies |= {place.show()["policy"]} | {place.show(path="rank", candidates=["i1", "i2"])["policy"]}
    assert len(policies) == 1 and len(list(place.rankings.shown())) == before, "the incumbent's, and not kept"
    kept = next(kept for n in range(50) if (kept := _kept(place, place.show("q", session=f"visit {n}", n=3))))
    assert kept.project == "q" and kept.session and not kept.user and kept.request == RankRequest(n=3)
    kept_words = str(place.rankings._database.read("SELECT * FROM shown"))
    assert "rec_" in kept_words and "visit" not in kept_words and "ada " not in kept_words
    kept = next(kept for n in range(50) if (kept := _kept(place, place.show(user=f"joan {n}", session=f"s {n}"))))
    name = next(f"joan {n}" for n in range(50) if place.rankings.mark("user", "p", f"joan {n}") == kept.user)
    assert place.ask(f"events/{name}", None, "q", "DELETE").status_code == 404
    assert place.ask(f"events/{name}", None, method="DELETE").json()["events"] == 0
    assert all(each.id != kept.id for each in place.rankings.shown())


def test_the_books_of_what_was_shown_balance(place) -> None:
    entries = [each for each in place.running.meter.entries() if each.status == "ok"]
    assert place.running.engine.counters.total.units == sum(each.usage.units for each in entries) > 0


def test_an_experiment_that_changed_needs_another_name(place) -> None:
    (declared,) = place.rankings.experiments()
    place.rankings.declare(declared)
    with pytest.raises(Conflict, match="began with another share_ratio"):
        place.rankings.check(declared.model_copy(update={"share_ratio": 0.25}))


def test_what_is_old_goes_and_a_failed_write_loses_nobody_else_s(database_url) -> None:
    clock = [0.0]
    with closing(RankingStore(database_url, lambda: clock[0], keep_days=2)) as store:
        made = Ranking(items=(Ranked(item="a", score=1.0),), experiment="x", arm="incumbent")
        store.add(RankRequest(project="p", user="ada", kept="rec_1"), made, "m")
        clock[0] = 3 * 86_400.0
        store._swept = float("-inf")
        store.add(RankRequest(project="p", user="ada", kept="rec_2"), made, "m")
        assert [each.id for each in store.shown()] == ["rec_2"]
        with store._database.writing() as execute:
            execute("ALTER TABLE shown RENAME TO away")
        with pytest.raises(BackendError):
            store.add(RankRequest(project="p", user="ada", kept="rec_3"), made, "m")
        with store._database.writing() as execute:
            execute("ALTER TABLE away RENAME TO shown")
        store.add(RankRequest(project="p", user="ada", kept="rec_4"), made, "m")
        assert [each.id for each in store.shown()] == ["rec_2", "rec_4"]
    clock[0] = 9 * 86_400.0
    with closing(RankingStore(database_url, lambda: clock[0])) as looking:
        assert len(list(looking.shown())) == 2, "who only looks deletes nothing"
    with closing(RankingStore(database_url, lambda: clock[0], keep_days=2)) as store:
        assert not list(store.shown()), "where nothing is added any more, too"


@pytest.fixture
def looked(tmp_path, database_url) -> Iterator[tuple[RankingStore, EventStore, HomeExperiments]]:
    """Give an A/B test of which ten users were shown something, and bought it."""
    with (
        closing(EventStore(tmp_path / "e.sqlite")) as events,
        closing(RankingStore(database_url, told=events.last)) as rankings,
        closing(FeedbackStore(database_url, lambda _: "p")) as feedback,
    ):
        rankings.declare(Experiment(name="x", model="m", kind="ab", challenger="c"))
        events.add("p", [Interaction(user="ada 0", item="a", time=time.time() + 9)])
        for number in range(10):
            arm = ("incumbent", "challenger")[number % 2]
            made = Ranking(items=(Ranked(item="a", score=1.0),), policy="m", experiment="x", arm=arm)
            rankings.add(RankRequest(project="p", user=f"ada {number}", kept=f"rec_{number}"), made, "m")
            events.add("p", [Interaction(user=f"ada {number}", item="a", time=time.time())])
            events.add("q", [Interaction(user=f"ada {number}", item="a", time=time.time())])
        yield rankings, events, HomeExperiments(rankings, events, feedback)


def test_what_an_experiment_may_take_of_a_gateway_is_bounded_and_said(looked, monkeypatch) -> None:
    _, _, told = looked
    read, between = [], EventStore.between
    monkeypatch.setattr(EventStore, "between", lambda *given: read.append(given[1:]) or between(*given))
    with monkeypatch.context() as patched:
        patched.setattr(judged, "MOST_EVENTS", 10)
        (found,) = told.experiments("")
        assert "alone" not in found.sentence and found.arms[0].taken_up == 5, "no more are of them, or came after"
    monkeypatch.setattr(EventStore, "all", lambda *given: pytest.fail("of all projects, from the beginning"))
    (found,) = told.experiments("p")
    assert [(arm.users, arm.taken_up) for arm in found.arms] == [(5, 5), (5, 5)] and "alone" not in found.sentence
    assert [(project, after) for project, after, _ in read] == [("p", 1)], "what was told before came of nothing shown"
    assert told.experiments("p") == [found] and len(read) == 1
    assert told.experiments("p", "y") == [] == told.experiments("p", may=lambda model: model != "m")
    monkeypatch.setattr(judged, "MOST_RANKINGS", 4)
    monkeypatch.setattr(judged, "_EVENTS_AT_ONCE", 2)
    monkeypatch.setattr(judged, "MOST_EVENTS", 3)
    told._known.clear()
    (found,) = told.experiments("p")
    assert [(arm.users, arm.taken_up) for arm in found.arms] == [(2, 2), (2, 1)]
    assert found.sentence.endswith("; judged by its first 4 rankings and the first 3 events alone")


def test_one_thread_computes_and_the_others_are_told_what_was_found_last(looked, monkeypatch) -> None:
    rankings, _, told = looked
    (first,) = told.experiments("p")
    told._known["x", "p"] = dataclasses.replace(told._known["x", "p"], seconds=0.0)
    entered, go_on, real = threading.Event(), threading.Event(), judged.figures
    monkeypatch.setattr(judged, "figures", lambda *given: (entered.set(), go_on.wait(20), real(*given))[-1])
    rankings.forget("p", "ada 0")
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(told.experiments, "p")
        assert entered.wait(20)
        assert threads.submit(told.experiments, "p").result(10) == [first], "which does not wait"
        go_on.set()
        assert slow.result()[0].arms[0].users == 4 < first.arms[0].users


def test_what_is_over_is_judged_again_when_something_was_deleted_only(looked, monkeypatch) -> None:
    rankings, _, told = looked
    told._clock = lambda: time.time() + 2 * 86_400
    (first,) = told.experiments("p")
    monkeypatch.setattr(judged, "_SAME_SECONDS", 0.0)
    told._known["x", "p"] = dataclasses.replace(told._known["x", "p"], seconds=0.0)
    assert told.experiments("p")[0] is first
    rankings.forget("p", "ada 0")
    assert told.experiments("p")[0].arms[0].users == 4


def test_chance_in_the_order_has_the_probability_that_is_told(tmp_path) -> None:
    engine = TryingRanker(open_engine(save(tmp_path / "ranker")), explore=ExploreConfig(share_ratio=0.5, depth=4))
    usual = [each.item for each in engine.rank(RankRequest(user="u3", n=6)).items]
    counts: dict[tuple[int, str], int] = {}
    for number in range(2_000):
        made = engine.rank(RankRequest(user="u3", n=3, kept=f"rec_{number}"))
        assert made.pool == tuple(usual[:4]) and made.usage.units == 3
        for place, each in enumerate(made.items):
            counts[place, each.item] = counts.get((place, each.item), 0) + 1
            assert each.propensity == 0.125 + 0.5 * (usual[place] == each.item)
    for (place, item), count in counts.items():
        assert count / 2_000 == pytest.approx(0.125 + 0.5 * (usual[place] == item), abs=0.04)
    assert len(counts) == 12, "every one of the best four came to each of the three places"
    deep = engine.rank(RankRequest(user="u3", n=6, kept="rec_1"))
    assert [each.propensity for each in deep.items[4:]] == [1.0, 1.0] and deep.pool == tuple(usual)


def test_a_candidate_is_estimated_from_what_a_gateway_showed_with_chance(tmp_path) -> None:
    """Users take up whatever is good; the candidate shows nothing else, the incumbent does now and then."""
    home, served = Home(tmp_path / "home"), save(tmp_path / "ranker").model_copy(update={"learn": False})
    engine: Any = TryingRanker(open_engine(served), explore=ExploreConfig(share_ratio=0.5, depth=30))
    engine.go_on = type("Never", (), {"set": lambda self: None})()
    with ExitStack() as stack, httpx2.Client() as client:
        events = EventStore(home.events)
        rankings, feedback = RankingStore(home.rankings, told=events.last), FeedbackStore(home.feedback, lambda _: "p")
        for each in (events, rankings, feedback):
            stack.callback(each.close)
        with pytest.raises(ConfigError, match="nothing was shown of 'played' with chance"):
            foresee(home, open_engine(served), "played")
        running = start_in(tmp_path, stack, engine, GatewayParts(events=events, feedback=feedback, rankings=rankings))
        headers = {"authorization": f"Bearer {running.keys.create('p')[1]}"}
        for number in range(160):
            body = {"model": "played", "user": f"u{number % 80}", "n": 4}
            told = client.post(f"{running.url}/v1/recommendations", json=body, headers=headers).json()
            good = [each["item"] for each in told["data"] if each["item"] not in BAD]
            acts = [{"user": body["user"], "item": item, "kind": "buy"} for item in good]
            if acts:
                client.post(f"{running.url}/v1/events", json={"events": acts}, headers=headers)
    better = served.model_copy(update={"rules": RulesConfig(exclude=BAD)})
    found = foresee(home, open_engine(better), "played")
    assert (found.rankings, found.users, found.left_out) == (160, 80, 0) and found.supported_ratio > 0.9
    assert found.difference.low > 0 and found.sentence.startswith("the candidate earns more: +0.")
    assert found.dr.value == pytest.approx(1.0, abs=0.2) and 0.2 < found.incumbent.value < 0.8
    with closing(RankingStore(home.rankings, told=lambda: 10**6)) as rankings:
        shown = Ranked(item=BAD[0], score=1.0, propensity=0.5)
        for number in range(40):
            made = Ranking(items=(shown,), policy="c", experiment="x", arm="challenger", pool=(BAD[0], "i1"))
            rankings.add(RankRequest(project="p", user=f"u{number}", n=1, kept=f"rec_c{number}"), made, "played")
    assert foresee(home, open_engine(better), "played") == found, "what a challenger ranked is not the incumbent's"
    same = foresee(home, open_engine(served), "played")
    assert same.difference.low == 0 == same.difference.high, "it is asked the same, and knows the same"
    trained = open_engine(better)
    trained.told = {"p": 10**6}
    with pytest.raises(ConfigError, match="all 160 rankings are of a time that the candidate was trained on"):
        foresee(home, trained, "played")
    with pytest.raises(ConfigError, match="nothing was shown"):
        foresee(home, open_engine(served), "another")
