from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from bessemer.core.errors import ConfigError, NotFound, Unsupported
from bessemer.core.ranking import Interaction, RankRequest
from bessemer.infer import open_engine
from bessemer.infer.ranking.config import ServedRankerConfig
from bessemer.infer.ranking.memory import Memory
from bessemer.models.ranking.base import Histories
from bessemer.models.ranking.content import content_features
from bessemer.models.ranking.factors import Factors
from bessemer.models.ranking.folder import SavedRanker, save_ranker
from bessemer.train.recommend.config import EaseConfig
from bessemer.train.recommend.fitting import fit_ranker

LISTS = [[0, 1, 2], [1, 2, 3], [0, 4], [3, 4, 5], [5, 0]]


def save(folder: Path, lists: list[list[int]] = LISTS, scorer=None, items: int = 6, rows=()) -> str:
    histories = Histories.of_lists(lists)
    scorer = scorer or fit_ranker(EaseConfig(regularisation=1.0), histories, items)
    users = tuple(f"u{number}" for number in range(len(lists)))
    names = tuple(f"i{number}" for number in range(items))
    counts = np.bincount(histories.items, minlength=items).astype(np.float32)
    content = content_features(rows, items=items)
    save_ranker(SavedRanker(scorer, names, users, histories, counts, tuple(rows), content), folder)
    return str(folder)


def event(user: str, item: int, time: float = 1.0, weight: float = 1.0) -> Interaction:
    return Interaction(user=user, item=f"i{item}", time=time, weight=weight)


async def test_what_a_project_tells_changes_its_weights_as_fitting_anew_would(tmp_path) -> None:
    engine = open_engine(ServedRankerConfig(path=save(tmp_path)))
    told = [("u0", 5), ("new", 2), ("new", 5), ("u3", 1), ("new", 2)]
    engine.learn("p", [event(user, item, number) for number, (user, item) in enumerate(told)])
    engine.learn("p", [event("other", 0, weight=-1.0)])  # disliked: not a part of the row
    assert engine.settle()
    lists = [[0, 1, 2, 5], [1, 2, 3], [0, 4], [3, 4, 5, 1], [5, 0], [2, 5]]
    anew = fit_ranker(EaseConfig(regularisation=1.0), Histories.of_lists(lists), 6)
    for project, right in (
        ("p", anew),
        ("q", fit_ranker(EaseConfig(regularisation=1.0), Histories.of_lists(LISTS), 6)),
    ):
        ranking = await engine.respond(RankRequest(project=project, recent=("i1",), n=6))
        scores = right.scores(Histories.of_lists([[1]]))[0]
        assert [each.item for each in ranking.items] == [f"i{i}" for i in np.argsort(-scores) if i != 1]
    engine.forget("p", "new")
    assert engine.settle()
    without = fit_ranker(EaseConfig(regularisation=1.0), Histories.of_lists(lists[:-1]), 6)
    assert np.allclose(engine._learner.ranker("p").inverse, without.inverse, atol=1e-9)
    await engine.close()


async def test_the_least_recently_changed_project_goes_back_to_what_was_trained(tmp_path) -> None:
    engine = open_engine(ServedRankerConfig(path=save(tmp_path), projects=1))
    for project in ("p", "q"):
        engine.learn(project, [event("new", 2), event("new", 5, 2.0)])
        assert engine.settle()
    assert engine._learner.ranker("p") is engine._learner._trained is not engine._learner.ranker("q")
    await engine.close()


async def test_an_item_that_nobody_met_is_found_by_its_picture(tmp_path) -> None:
    lists, items = [[0, 1], [1, 2], [0, 2], [3, 4], [4, 5], [3, 5]], 8
    pictures = [*[[1.0, 0.1]] * 3, *[[0.1, 1.0]] * 3, [0.1, 2.0], [3.0, 0.2]]  # the last two nobody met
    rows = [{"item": f"i{number}", "image": picture} for number, picture in enumerate(pictures)]
    engine = open_engine(ServedRankerConfig(path=save(tmp_path, lists, items=items, rows=rows)))
    for seen, twin in (("i3", "i6"), ("i0", "i7")):
        asked = RankRequest(recent=(seen,), candidates=("i6", "i7"), n=2, explain=True)
        first, second = (await engine.respond(asked)).items
        assert first.item == twin and first.score > second.score
        assert first.reason and seen in first.reason.items
    await engine.close()


async def test_a_graph_finds_what_scoring_all_finds(tmp_path) -> None:
    random = np.random.default_rng(0)
    items = 5_000
    vectors = random.standard_normal((items, 24)).astype(np.float32)
    lists = [random.choice(items, 20, replace=False).tolist() for _ in range(30)]
    path = save(tmp_path, lists, Factors(vectors, 4.0, 1.0), items)
    ways = [open_engine(ServedRankerConfig(path=path, retrieval=way)) for way in ("exact", "ann")]
    shared = 0
    for user in range(30):
        exact, near = [await way.respond(RankRequest(user=f"u{user}", n=10)) for way in ways]
        shared += len({each.item for each in exact.items} & {each.item for each in near.items})
    assert shared / 300 > 0.95
    await asyncio.gather(*(way.close() for way in ways))


def test_a_memory_keeps_the_newest_and_stays_within_its_bounds() -> None:
    memory = Memory(["a"], Histories.of_lists([[7, 8]]), 3, 2)
    for time in (3.0, 1.0, 2.0):
        memory.add("p", event("a", int(time), time), int(time))
    assert memory.history("p", "a")[0].tolist() == [2, 3]
    assert memory.history("p", "a", whole=True)[0].tolist() == [7, 8, 2, 3]
    for number in range(5):
        memory.add("p", event(f"u{number}", 1), 1)
    assert len(memory) == 3 and not len(memory.history("p", "u0")[0])


def test_a_folder_without_a_ranker_and_a_graph_without_vectors_are_refused(tmp_path) -> None:
    with pytest.raises(NotFound, match="no ranker"):
        open_engine(ServedRankerConfig(path=str(tmp_path)))
    path = save(tmp_path)
    with pytest.raises(ConfigError, match="no vectors"):
        open_engine(ServedRankerConfig(path=path, retrieval="ann"))
    card = tmp_path / "ranker.json"
    card.write_text(card.read_text().replace('"ease"', '"eese"'))
    with pytest.raises(Unsupported, match="eese"):
        open_engine(ServedRankerConfig(path=path))
