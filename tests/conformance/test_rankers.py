"""What every served ranker does: one suite over all families and both ways of retrieval; gaps are declared here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import Unsupported
from bessemer.core.nouns import ChatRequest, Message
from bessemer.core.protocols import Engine
from bessemer.core.ranking import Filter, Interaction, Learning, Ranking, RankRequest
from bessemer.infer import open_engine
from bessemer.infer.ranking.config import Boost, RulesConfig, ServedRankerConfig
from bessemer.lake.shop import shop_rows
from bessemer.models.ranking.content import content_features
from bessemer.models.ranking.folder import SavedRanker, save_ranker
from bessemer.train.recommend.config import (
    AlsConfig,
    EaseConfig,
    NeighboursConfig,
    PopularityConfig,
    SasrecConfig,
    TowersConfig,
)
from bessemer.train.recommend.fitting import fit_ranker
from bessemer.train.recommend.interactions import Interactions

SIZE = {"users": 80, "items": 60, "events": 1_500, "seed": 3}
FAMILIES = {
    "popularity": PopularityConfig(),
    "item_knn": NeighboursConfig(),
    "ease": EaseConfig(regularisation=20),
    "als": AlsConfig(width=8, rounds=3),
    "sasrec": SasrecConfig(width=16, epochs=2, length=20),
    "two_tower": TowersConfig(width=16, epochs=5),
}
SAME_FOR_ALL = {"popularity"}
"""Families whose rankings no history changes, and that can give no reason but that."""
VECTORS = {"als", "sasrec", "two_tower"}
NEW = "i99999"
"""An item that nobody met."""


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    items = list(shop_rows("items", **SIZE))
    twin = next(row for row in items if row["available"])
    return sorted([*items, twin | {"item": NEW, "title": "The new one"}], key=lambda row: row["item"])


@pytest.fixture(scope="module")
def folders(rows, tmp_path_factory) -> dict[str, Path]:
    everything = Interactions.of_rows(shop_rows("events", **SIZE), [row["item"] for row in rows])
    content = content_features(rows, ("item", "title"))
    made = {}
    for kind, config in FAMILIES.items():
        scorer = fit_ranker(config, everything.histories, len(rows), content)
        saved = SavedRanker(
            scorer, everything.items, everything.users, everything.histories, everything.counts(), tuple(rows), content
        )
        made[kind] = tmp_path_factory.mktemp(kind)
        save_ranker(saved, made[kind])
    return made


@pytest.fixture(
    params=[(kind, way) for kind in FAMILIES for way in ("exact", "ann") if way == "exact" or kind in VECTORS]
)
def opened(request, folders) -> Any:
    kind, way = request.param

    def open_one(**rules: Any) -> Any:
        config = ServedRankerConfig(path=str(folders[kind]), retrieval=way, rules=RulesConfig(**rules))
        return open_engine(config)

    return kind, open_one


@pytest.fixture
async def engine(opened) -> AsyncIterator[Any]:
    made = opened[1]()
    yield made
    await made.close()


def names(ranking: Ranking) -> list[str]:
    return [each.item for each in ranking.items]


def event(item: str, **changes: Any) -> Interaction:
    return Interaction(**{"user": "somebody new", "item": item, "time": 2e9} | changes)


async def test_it_is_an_engine_that_ranks_and_learns(engine) -> None:
    assert isinstance(engine, Engine) and isinstance(engine, Learning)
    assert {"rank", "learn"} <= engine.capabilities


async def test_a_ranking_holds_what_was_asked_for_and_is_the_same_again(engine) -> None:
    request = RankRequest(user="c00001", n=7)
    first, again = await engine.respond(request), await engine.respond(request)
    assert names(first) == names(again) and len(set(names(first))) == 7
    assert [each.score for each in first.items] == sorted((each.score for each in first.items), reverse=True)
    assert first.policy == again.policy and first.usage.units == 7 and first.seconds > 0
    assert engine.counters.total.units == 14 and engine.counters.requests == 2


async def test_what_was_seen_comes_only_when_it_may(engine, rows) -> None:
    engine.learn("p", [event(row["item"]) for row in rows[:20]])
    new = set(names(await engine.respond(RankRequest(project="p", user="somebody new", n=60))))
    assert not new & {row["item"] for row in rows[:20]} and new
    seen = names(await engine.respond(RankRequest(project="p", user="somebody new", n=60, seen=True)))
    assert set(seen) & {row["item"] for row in rows[:20]}


async def test_filters_exclusions_and_availability_hold(engine, rows) -> None:
    by_name = {row["item"]: row for row in rows}
    away = {row["item"] for row in rows if not row["available"]}
    wanted = (Filter(field="category", any_of=("tents", "boots")), Filter(field="price", at_most=150.0))
    found = names(await engine.respond(RankRequest(user="c00002", n=50, filters=wanted, seen=True)))
    assert found and away
    assert all(by_name[n]["category"] in ("tents", "boots") and by_name[n]["price"] <= 150 for n in found)
    rest = names(await engine.respond(RankRequest(n=60, exclude=tuple(found[:2]))))
    assert not set(rest) & (away | set(found[:2]))
    with pytest.raises(Unsupported, match="no attribute 'colour'"):
        await engine.respond(RankRequest(filters=(Filter(field="colour", any_of=("red",)),)))


async def test_candidates_are_ranked_and_unknown_ones_told(engine, rows) -> None:
    given = tuple(row["item"] for row in rows[:9])
    ranking = await engine.respond(RankRequest(user="c00001", candidates=(*given, "no such item"), n=60))
    allowed = {row["item"] for row in rows[:9] if row["available"]}
    assert set(names(ranking)) == allowed and ranking.unknown == ("no such item",)


async def test_an_event_counts_at_once_and_in_its_project_only(engine, opened, rows) -> None:
    here, there = (RankRequest(project=project, user="somebody new", n=30, explain=True) for project in ("p", "q"))
    before = await engine.respond(there)
    assert {each.reason.kind for each in before.items} == {"popular"} and before.events == 0
    known = engine.learn("p", [event(rows[4]["item"]), event("no such item", time=2e9 + 1)])
    assert known == 1
    told, elsewhere = await engine.respond(here), await engine.respond(there)
    assert (names(elsewhere), elsewhere.events, told.events) == (names(before), 0, 1)
    if opened[0] not in SAME_FOR_ALL:
        assert names(told) != names(before)
        assert any(each.reason.items == (rows[4]["item"],) for each in told.items)


async def test_a_session_counts_like_a_user_and_events_of_both_count_once(engine, rows) -> None:
    engine.learn("p", [event(rows[4]["item"], session="s"), event(rows[5]["item"], user="", session="s")])
    assert engine.settle()
    alone = await engine.respond(RankRequest(project="p", session="s"))
    both = await engine.respond(RankRequest(project="p", user="somebody new", session="s"))
    assert (alone.events, both.events) == (2, 2) and names(alone) == names(both)
    recent = await engine.respond(RankRequest(project="p", recent=(rows[4]["item"], rows[5]["item"])))
    assert set(names(recent)) == set(names(alone))


async def test_a_forgotten_user_is_nobody(engine, rows) -> None:
    nobody = names(await engine.respond(RankRequest(project="p", user="nobody", n=20)))
    engine.learn("p", [event(rows[4]["item"], user="c00003", session="s")])
    engine.forget("p", "c00003")
    assert engine.settle()
    for request in (RankRequest(project="p", user="c00003", n=20), RankRequest(project="p", session="s", n=20)):
        assert names(await engine.respond(request)) == nobody
    assert (await engine.respond(RankRequest(project="q", user="c00003"))).events > 0  # what it was trained on


async def test_an_item_that_nobody_met_is_found_by_its_content(engine, opened, rows) -> None:
    twin = next(row["item"] for row in rows if row["item"] != NEW and row["text"] == rows[-1]["text"])
    near = [row["item"] for row in rows if row["category"] == rows[-1]["category"] and row["item"] not in (NEW, twin)]
    ranking = await engine.respond(RankRequest(recent=tuple(near[:3]), n=60, explain=True))
    place = names(ranking).index(NEW)
    if opened[0] not in SAME_FOR_ALL:
        assert place < 30
        assert ranking.items[place].reason.kind in ("content", "because")


async def test_rules_bound_categories_spread_and_weigh(opened, rows) -> None:
    by_name = {row["item"]: row["category"] for row in rows}
    bounded = opened[1](most_per_category=2)
    found = [by_name[name] for name in names(await bounded.respond(RankRequest(user="c00001", n=12)))]
    assert max(found.count(category) for category in found) <= 2 < len(found)
    free = opened[1](boosts=(Boost(field="category", value="boots", factor=50, when={"page": "boots"}),))
    plain = names(await free.respond(RankRequest(user="c00001", n=5)))
    moved = names(await free.respond(RankRequest(user="c00001", n=5, context={"page": "boots"})))
    assert plain != moved and by_name[moved[0]] == "boots"
    for each in (bounded, free):
        await each.close()


async def test_diversity_ranks_items_that_are_less_alike_of_more_categories(engine, rows) -> None:
    content = content_features(rows, ("item", "title"))
    place = {row["item"]: number for number, row in enumerate(rows)}
    categories = dict.fromkeys((0.0, 0.9), 0)
    for user in ("c00001", "c00002", "c00003", "c00004", "c00005"):
        likeness = []
        for ratio in categories:
            ranking = await engine.respond(RankRequest(user=user, n=8, diversity_ratio=ratio))
            found = [place[name] for name in names(ranking)]
            categories[ratio] += len({rows[each]["category"] for each in found})
            likeness.append(float((content[found] @ content[found].T).mean()))
        assert likeness[1] < likeness[0], "content is what tells how much alike two items are"
    assert categories[0.9] > categories[0.0]


async def test_what_it_cannot_do_it_says(engine) -> None:
    with pytest.raises(Unsupported):
        await engine.respond(ChatRequest(messages=(Message(role="user", content="hi"),)))
    with pytest.raises(Unsupported):
        await anext(engine.stream(RankRequest()))
    await engine.close()
    for call in (lambda: engine.respond(RankRequest()), lambda: asyncio.to_thread(engine.learn, "p", [])):
        with pytest.raises(Unsupported, match="closed"):
            await call()
