"""A real ranker behind a real gateway: events in, recommendations out, booked in units."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from bessemer.core.ranking import Interaction, RankRequest
from bessemer.infer import EchoConfig, open_engine
from bessemer.infer.ranking.config import ServedRankerConfig
from bessemer.meter import MeterConfig, open_ledger, open_meter
from bessemer.models.ranking.base import Histories
from bessemer.models.ranking.folder import SavedRanker, save_ranker
from bessemer.products.answered import Answered
from bessemer.serve import EventStore, FeedbackStore, GatewayConfig, GatewayParts, KeyStore, create_app
from bessemer.serve.events import News
from bessemer.serve.server import GatewayServer
from bessemer.serve.wire.events import tell_again
from bessemer.train.recommend.config import EaseConfig
from bessemer.train.recommend.fitting import fit_ranker

from ..conftest import serve_in_thread, until

BOOK = """
[[books]]
version = "v1"
default = {input = 0, output = 0, unit = 2_000_000}
"""


def save(folder: Path) -> ServedRankerConfig:
    random = np.random.default_rng(1)
    histories = Histories.of_lists([sorted(random.choice(30, 6, replace=False)) for _ in range(40)])
    scorer = fit_ranker(EaseConfig(regularisation=2.0), histories, 30)
    names, users = tuple(f"i{n}" for n in range(30)), tuple(f"u{n}" for n in range(40))
    rows = tuple({"item": name, "title": f"Thing {name}", "price": float(n)} for n, name in enumerate(names))
    counts = np.bincount(histories.items, minlength=30).astype(np.float32)
    save_ranker(SavedRanker(scorer, names, users, histories, counts, rows, np.zeros((30, 0), np.float32)), folder)
    return ServedRankerConfig(path=str(folder))


@dataclass
class Shop:
    url: str
    keys: dict[str, str]
    home: Path
    engine: Any
    store: EventStore
    other: Shop | None = None

    def ask(self, path: str, body: Any, project: str = "p", method: str = "POST") -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.keys[project]}"}
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        return httpx2.request(method, f"{self.url}/v1/{path}", headers=headers, content=content, timeout=20)

    def items(self, project: str = "p", **body: Any) -> list[str]:
        told = self.ask("recommendations", {"model": "shop", "n": 5, **body}, project).json()
        return [each["item"] for each in told["data"]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("shop")
    (home / "prices.toml").write_text(BOOK)
    with ExitStack() as stack:
        meter = stack.enter_context(open_meter(MeterConfig(price_book=str(home / "prices.toml")), home / "books"))
        engine = open_engine(save(home / "ranker"))
        store, keys = EventStore(home / "events.sqlite"), KeyStore(home / "keys.sqlite")
        answered = Answered(home / "books")
        feedback = FeedbackStore(home / "feedback.sqlite", answered.project_of)
        for each in (store, keys, answered, feedback):
            stack.callback(each.close)
        config = GatewayConfig(port=0)

        def start(engine: Any, store: EventStore) -> Shop:
            parts = GatewayParts(events=store, feedback=feedback)
            app = create_app(config, {"shop": engine, "echo": open_engine(EchoConfig())}, keys, meter, parts)
            server = GatewayServer(app, config)
            stack.enter_context(serve_in_thread(server))
            return Shop(server.url, secrets, home, engine, store)

        secrets = {p: keys.create(p)[1] for p in ("p", "q")}
        first = start(engine, store)
        beside = EventStore(home / "events.sqlite")
        stack.callback(beside.close)
        first.other = start(open_engine(save(home / "beside")), beside)
        yield first


def test_a_ranking_is_told_with_reasons_and_booked_in_units(shop) -> None:
    told = shop.ask("recommendations", {"model": "shop", "user": "u3", "n": 4, "explain": True}).json()
    assert [each["rank"] for each in told["data"]] == [1, 2, 3, 4] and told["object"] == "ranking"
    assert told["data"][0]["reason"]["sentence"].startswith("because you were interested in Thing ")
    assert told["usage"]["units"] == 4 and told["usage"]["cost"]["micros"] == 8
    assert told["usage"]["energy"]["joules"] >= 0 and told["policy"].startswith("ease-")
    ledger = open_ledger(shop.home / "books")
    ledger.sync()
    entry = ledger.entry(told["id"].replace("rec_", "request:req_"))
    ledger.close()
    assert (entry.usage.units, entry.subject.project, entry.subject.name, entry.charge.micros) == (
        4,
        "p",
        "rankings",
        8,
    )
    said = shop.ask("feedback", {"target": told["id"], "metric": "clicked", "value": True})
    assert said.status_code == 200
    assert shop.ask("feedback", {"target": told["id"], "metric": "clicked", "value": True}, "q").status_code == 404


def test_events_count_at_once_for_their_project_and_user_only(shop) -> None:
    before = {project: shop.items(project, user="ada") for project in "pq"}
    body = {"events": [{"id": "e1", "user": "ada", "item": "i4"}, {"user": "ada", "item": "new thing", "time": 5}]}
    told = shop.ask("events", body).json()
    assert told == {"object": "events", "accepted": 2, "duplicates": 0, "known_items": 1}
    assert shop.ask("events", {"events": body["events"][:1]}).json()["duplicates"] == 1
    assert shop.items("p", user="ada") != before["p"] and "i4" not in shop.items("p", user="ada", n=29)
    assert shop.items("q", user="ada") == before["q"]
    listed = shop.ask("events?user=ada&limit=1", None, method="GET").json()
    assert listed["has_more"] and listed["data"][0]["id"] == "e1"
    rest = shop.ask(f"events?user=ada&after={listed['last_id']}", None, method="GET").json()
    assert [each["time"] for each in rest["data"]] == [5.0]
    assert shop.ask("events?after=e1", None, "q", "GET").status_code == 404


def test_what_is_acknowledged_is_on_disk_and_told_again(shop) -> None:
    shop.ask("events", {"events": [{"id": f"disk{n}", "session": "s9", "item": f"i{n}"} for n in range(3)]})
    with sqlite3.connect(shop.home / "events.sqlite") as database:
        assert database.execute("SELECT count(*) FROM events WHERE session = 's9'").fetchone() == (3,)
    database.close()
    again = open_engine(save(shop.home / "again"))
    assert tell_again(shop.store, {"shop": again, "echo": open_engine(EchoConfig())}) >= 3
    request = RankRequest(project="p", session="s9", n=5)
    assert again.rank(request).events == 3
    assert [e.item for e in again.rank(request).items] == [e.item for e in shop.engine.rank(request).items]
    asyncio.run(again.close())


def test_a_user_is_forgotten_for_good(shop) -> None:
    shop.ask("events", {"events": [{"user": "eve/x", "item": "i2", "session": "of eve"}]})
    assert shop.ask("events/eve/x", None, "q", "DELETE").status_code == 404
    assert shop.ask("events/eve/x", None, method="DELETE").json()["events"] == 1
    assert shop.engine.settle()
    assert shop.ask("recommendations", {"model": "shop", "user": "eve/x", "session": "of eve"}).json()["events"] == 0
    assert b"eve/x" not in (shop.home / "events.sqlite").read_bytes()


def test_what_was_trained_on_stays_forgotten_when_a_ranker_is_opened_again(shop) -> None:
    def opened(told: int) -> list[int]:
        """Give how many events of u7 count for p and q where a ranker opens that was trained up to a number."""
        engine = open_engine(save(shop.home / "opened"))
        engine.told = {"p": told}
        tell_again(shop.store, {"shop": engine})
        counts = [engine.rank(RankRequest(project=project, user="u7")).events for project in "pq"]
        asyncio.run(engine.close())
        return counts

    shop.ask("events", {"events": [{"id": "last", "user": "somebody else", "item": "i2"}]})
    assert opened(0) == [6, 6]
    done = shop.ask("events/u7", None, method="DELETE")
    assert done.json() == {"id": "u7", "object": "events.deleted", "deleted": True, "events": 0}, "trained on, not told"
    number = shop.store.last()
    assert shop.engine.rank(RankRequest(project="p", user="u7")).events == 0
    assert opened(0) == opened(number) == [0, 6], "it may have been trained before"
    shop.ask("events", {"events": [{"user": "u7", "item": "i2"}]})
    assert opened(number) == [1, 6], "who comes back begins anew"
    assert opened(number + 1) == [6, 6], "trained on what came afterwards: what it knows of the user is new"
    assert shop.ask("events/u7", None, method="DELETE").json()["events"] == 1
    assert shop.ask("events/u7", None, method="DELETE").status_code == 404
    assert opened(number) == opened(number + 1) == [0, 6], "the number of an event that is gone counts"


def test_an_erasure_holds_after_a_restart_until_the_model_is_trained_anew(shop) -> None:
    def events(engine, project: str, user: str) -> int:
        return engine.rank(RankRequest(project=project, user=user)).events

    before = events(shop.engine, "p", "u5")
    assert before > 0, "it was trained on"
    shop.ask("events", {"events": [{"user": "u5", "item": "i1"}]})
    last = shop.store.last()
    assert shop.ask("events/u5", None, method="DELETE").json()["events"] == 1
    with closing(sqlite3.connect(shop.home / "events.sqlite")) as database, database:
        database.execute("UPDATE forgotten SET at = at - 601")  # the marks by which others hear of it end
    again = open_engine(save(shop.home / "restarted"))
    tell_again(shop.store, {"shop": again})
    assert (events(again, "p", "u5"), events(again, "q", "u5"), events(again, "p", "u6") > 0) == (0, before, True)
    shop.ask("events", {"events": [{"user": "u5", "item": "i2"}]})  # who comes back is known from then on
    tell_again(shop.store, {"shop": again})
    assert events(again, "p", "u5") == 1
    anew = open_engine(save(shop.home / "trained anew"))
    anew.told = {"p": last + 1}
    tell_again(shop.store, {"shop": anew})
    assert events(anew, "p", "u5") >= before, "what a model was trained on later is not what was forgotten"
    for engine in (again, anew):
        asyncio.run(engine.close())


def test_what_one_gateway_is_told_the_other_hears_within_a_second(shop) -> None:
    before = shop.other.items(user="grace")
    shop.other.ask("events", {"events": [{"user": "grace", "item": "i1"}]})
    shop.ask("events", {"events": [{"user": "grace", "item": before[0]}, {"user": "grace", "item": before[1]}]})
    began = time.monotonic()
    until(lambda: shop.engine.rank(RankRequest(project="p", user="grace")).events == 3)
    until(lambda: shop.other.engine.rank(RankRequest(project="p", user="grace")).events == 3)
    assert time.monotonic() - began < 2, "two looks, and some patience with a busy machine"
    assert not set(before[:2]) & set(shop.other.items(user="grace", n=27))
    assert shop.other.engine.rank(RankRequest(project="q", user="grace")).events == 0
    assert shop.ask("events/grace", None, method="DELETE").json()["events"] == 3
    until(lambda: shop.other.engine.rank(RankRequest(project="p", user="grace")).events == 0)
    trained = shop.other.engine.rank(RankRequest(project="p", user="u3")).events
    shop.ask("events", {"events": [{"user": "u3", "item": "i1"}]})
    shop.ask("events/u3", None, method="DELETE")
    until(lambda: shop.other.engine.rank(RankRequest(project="p", user="u3")).events == 0)
    assert shop.other.engine.rank(RankRequest(project="q", user="u3")).events == trained > 0


def test_news_are_of_others_only_and_each_comes_once(tmp_path) -> None:
    def told(store: EventStore) -> list[str]:
        return [event.item for _, events in store.news().events for event in events]

    def event(item: str) -> list[Interaction]:
        return [Interaction(user="ada", item=item, time=1.0)]

    with (
        closing(EventStore(tmp_path / "events.sqlite")) as mine,
        closing(EventStore(tmp_path / "events.sqlite")) as theirs,
    ):
        theirs.add("p", event("before"))
        assert mine.news().events == (), "nobody listens yet"
        mine.follow()
        for item in "abc":
            mine.add("p", event(f"mine {item}"))
            theirs.add("p", event(f"theirs {item}"))
        assert told(mine) == ["theirs a", "theirs b", "theirs c"] and told(mine) == []
        mine.add("p", event("mine d"))
        mine.forget("p", "nobody")
        assert mine.news() == News()
        theirs.forget("p", "ada")
        assert [mark for _, mark in mine.news().forgotten] == [mine.mark("p", "ada")]
        with closing(sqlite3.connect(tmp_path / "events.sqlite")) as database:
            assert database.execute("SELECT count(*) FROM forgotten").fetchone() == (2,)
            database.execute("UPDATE forgotten SET at = at - 601")
            database.commit()
            theirs.follow()
            assert theirs.news() == News()
            assert database.execute("SELECT count(*) FROM forgotten").fetchone() == (0,), "all have heard"
        assert sorted(mine.erasures()) == sorted(("p", mine.mark("p", user), 8) for user in ("ada", "nobody"))


@pytest.mark.parametrize("heard", [False, True])
def test_who_is_forgotten_while_an_event_of_theirs_is_told_stays_forgotten(shop, monkeypatch, heard) -> None:
    def slow(project: str, events: list[Interaction]) -> int:
        learning.set()
        assert go_on.wait(10)
        return int(learn(project, events))

    learn, learning, go_on = shop.engine.learn, threading.Event(), threading.Event()
    monkeypatch.setattr(shop.engine, "learn", slow)
    with ThreadPoolExecutor(2) as threads:
        told = threads.submit(
            (shop.other if heard else shop).ask, "events", {"events": [{"user": "hal", "item": "i1"}]}
        )
        assert learning.wait(10)
        gone = threads.submit(shop.ask, "events/hal", None, "p", "DELETE")
        wait([gone], timeout=0.5)
        go_on.set()
        assert (told.result().status_code, gone.result().json()["events"]) == (200, 1)
    until(lambda: shop.engine.rank(RankRequest(project="p", user="hal")).events == 0)
    until(lambda: shop.other.engine.rank(RankRequest(project="p", user="hal")).events == 0)


def test_given_items_are_ranked(shop) -> None:
    told = shop.ask("rank", {"model": "shop", "user": "u1", "candidates": ["i3", "i9", "nothing", "i12"]}).json()
    assert {each["item"] for each in told["data"]} == {"i3", "i9", "i12"} and told["unknown"] == ["nothing"]
    assert told["usage"]["units"] == 3
    cheap = shop.items(user="u1", filters=[{"field": "price", "at_most": 4}], include_seen=True)
    assert set(cheap) <= {f"i{n}" for n in range(5)} and cheap


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("recommendations", {"model": "shop", "users": "x"}, 400, "users"),
        ("recommendations", {"model": "shop", "n": 0}, 400, "n"),
        ("recommendations", {"model": "shop", "n": "5"}, 400, "n"),
        ("recommendations", {"model": "echo"}, 400, "model"),
        ("recommendations", {"model": "nothing"}, 404, "model"),
        ("recommendations", {"model": "shop", "filters": [{"field": "price"}]}, 400, "filters[0]"),
        ("recommendations", {"model": "shop", "filters": [{"field": "colour", "any_of": ["red"]}]}, 400, None),
        ("rank", {"model": "shop"}, 400, "candidates"),
        ("rank", {"model": "shop", "candidates": []}, 400, "candidates"),
        ("events", {"events": []}, 400, "events"),
        ("events", {"events": [{"item": "i1"}]}, 400, "events[0]"),
        ("events", {"events": [{"user": "u", "item": "i1", "time": 1e12}]}, 400, "events[0].time"),
        ("events", {"events": [{"user": "u", "item": "i1", "weight": "1"}]}, 400, "events[0].weight"),
        ("events", {"events": [{"user": "u", "item": "i1", "stars": 5}]}, 400, "events[0].stars"),
        ("events", b"{", 400, None),
        ("chat/completions", {"model": "shop", "messages": [{"role": "user", "content": "hi"}]}, 400, "model"),
    ],
)
def test_what_is_wrong_is_named(shop, path, body, status, param) -> None:
    told = shop.ask(path, body)
    assert (told.status_code, told.json()["error"]["param"]) == (status, param), told.text
    assert len(shop.ask("events?user=u", None, method="GET").json()["data"]) == 0


def test_a_user_whose_name_has_a_zero_is_taken_and_forgotten(tmp_path: Path) -> None:
    """As earlier versions took them."""
    with closing(EventStore(tmp_path / "events.sqlite")) as store:
        (event,) = store.add("shop", [Interaction(user="a\x00b", item="i", kind="view", time=1.0)])
        assert store.page("shop", "a\x00b") == ([event], False)
        assert store.forget("shop", "a\x00b") == 1
        assert store.page("shop") == ([], False)
