from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import ConfigError
from bessemer.evals.ranking import Heldout, evaluate_ranking
from bessemer.evals.splits import last_split, random_split
from bessemer.lake.movielens import movielens_events, movielens_items
from bessemer.lake.shop import shop_rows
from bessemer.models.ranking.base import Histories
from bessemer.models.ranking.content import content_features
from bessemer.models.ranking.factors import Factors
from bessemer.models.ranking.folder import SavedRanker, load_ranker, save_ranker
from bessemer.models.ranking.linear import Ease
from bessemer.train.recommend.config import (
    AlsConfig,
    EaseConfig,
    NeighboursConfig,
    PopularityConfig,
    SasrecConfig,
    TowersConfig,
)
from bessemer.train.recommend.fitting import fit_ranker
from bessemer.train.recommend.interactions import Interactions, matrix

SIZE = {"users": 200, "items": 120, "events": 6_000, "seed": 5}
FAST = (
    PopularityConfig(),
    NeighboursConfig(),
    EaseConfig(regularisation=30),
    AlsConfig(width=16, rounds=5),
    SasrecConfig(width=32, epochs=10, rate=5e-3, length=20, batch=64),
    TowersConfig(width=32, epochs=4, batch=256),
)


@pytest.fixture(scope="module")
def shop() -> tuple[Interactions, np.ndarray]:
    items = sorted(shop_rows("items", **SIZE), key=lambda row: row["item"])
    names = [row["item"] for row in items]
    return Interactions.of_rows(shop_rows("events", **SIZE), names), content_features(items)


@pytest.fixture(scope="module")
def fitted(shop):
    everything, content = shop
    split = last_split(everything.histories.users())
    known = everything.only(split.fit)
    return known, {c.kind: fit_ranker(c, known.histories, len(known.items), content) for c in FAST}


def ndcg(shop, fitted, kind: str):
    (everything, _), (known, rankers) = shop, fitted
    wanted = everything.only(last_split(everything.histories.users()).valid).histories
    users = range(len(everything.users))
    nothing = [np.zeros(0, int)] * len(everything.users)
    held = Heldout(everything.users, [wanted.of(user)[0] for user in users], nothing, known.counts())
    made = evaluate_ranking(lambda some: rankers[kind].scores(known.histories.take(some)), held, resamples=1_000)
    return made.report.metric("ndcg@10").interval


def test_each_family_finds_the_structure_that_is_there(shop, fitted) -> None:
    found = {kind: ndcg(shop, fitted, kind) for kind in fitted[1]}
    for kind in ("item_knn", "ease", "als", "sasrec", "two_tower"):
        assert found[kind].low > found["popularity"].value, found
    # What comes next depends on what came last (the companion): only a model of order can know it.
    assert found["sasrec"].low > found["ease"].value, found


def test_a_sampled_softmax_learns_the_same(shop, fitted) -> None:
    config = FAST[4].model_copy(update={"negatives": 40})
    sampled = fit_ranker(config, fitted[0].histories, len(fitted[0].items))
    both = fitted[0], {"sampled": sampled}
    assert ndcg(shop, both, "sampled").value > 0.7 * ndcg(shop, fitted, "sasrec").value


@pytest.mark.parametrize("kind", [config.kind for config in FAST])
def test_a_ranker_is_the_same_when_it_was_saved(kind, fitted, tmp_path) -> None:
    known, rankers = fitted
    some = known.histories.take(range(7))
    saved = SavedRanker(rankers[kind], known.items, known.users, known.histories, known.counts(), (), np.zeros((0, 0)))
    save_ranker(saved, tmp_path)
    loaded = load_ranker(tmp_path)
    assert np.allclose(loaded.scorer.scores(some), rankers[kind].scores(some), atol=1e-6)
    assert loaded.items == known.items and (loaded.histories.items == known.histories.items).all()


@pytest.mark.parametrize("kind", [config.kind for config in FAST])
def test_one_history_scores_as_it_does_among_others(kind, fitted) -> None:
    known, rankers = fitted
    together = rankers[kind].scores(known.histories.take([3, 9, 4]))
    assert np.allclose(rankers[kind].scores(known.histories.take([9]))[0], together[1], atol=1e-5)
    items, weights = known.histories.of(9)
    assert rankers[kind].support(items, weights, int(together[1].argmax())).shape == items.shape


def test_the_network_in_numpy_is_the_one_in_torch(fitted) -> None:
    import torch

    from bessemer.models.ranking.sequence_network import SequenceNetwork
    from bessemer.train.recommend.batches import last_events

    known, rankers = fitted
    fast = rankers["sasrec"]
    network = SequenceNetwork(fast.items, 32, 20, 2, 1, 0.2).eval()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in fast.weights.items()})
    some = known.histories.take(range(30))
    with torch.no_grad():
        slow = network(torch.from_numpy(last_events(some, 20)))[:, -1].numpy()
    assert np.allclose(fast.queries(some), slow, atol=1e-4)


rows = st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=8)


def inverse_of(lists: list[list[int]], ridge: float = 2.0) -> Ease:
    return fit_ranker(EaseConfig(regularisation=ridge), Histories.of_lists(lists), 6)


@given(rows, rows)
def test_an_event_changes_ease_as_fitting_anew_would(before, after) -> None:
    size = min(len(before), len(after))
    before, after = before[:size], after[:size]
    was, now = (Histories.of_lists(lists).seen(6) for lists in (before, after))
    assert np.allclose(inverse_of(before).changed(was, now).inverse, inverse_of(after).inverse, atol=1e-9)


@given(rows)
def test_ease_is_the_best_linear_autoencoder_without_self_weights(lists) -> None:
    seen = Histories.of_lists(lists).seen(6).astype(float)
    weights = fit_ranker(EaseConfig(regularisation=2.0), Histories.of_lists(lists), 6).scores(
        Histories.of_lists([[item] for item in range(6)])
    )
    # At the minimum the gradient off the diagonal is zero: X'(X - XB) = ridge x B.
    gradient = seen.T @ (seen - seen @ weights) - 2.0 * weights
    np.fill_diagonal(gradient, 0)
    assert np.allclose(gradient, 0, atol=1e-4) and np.allclose(np.diag(weights), 0, atol=1e-6)


@given(rows)
def test_factors_solve_for_what_they_say(lists) -> None:
    histories = Histories.of_lists(lists)
    factors = fit_ranker(AlsConfig(width=3, rounds=2, regularisation=0.5), histories, 6)
    assert isinstance(factors, Factors)
    confidence = 1 + 4.0 * histories.seen(6)
    vectors = factors.vectors.astype(float)
    for row, user in zip(confidence, factors.queries(histories), strict=True):
        liked = (row > 1).astype(float)
        right = np.linalg.solve((vectors.T * row) @ vectors + 0.5 * np.eye(3), (vectors.T * row) @ liked)
        assert np.allclose(user, right, atol=1e-3)
    items, weights = histories.of(0)
    parts = factors.support(items, weights, 2).sum()
    assert parts == pytest.approx(factors.scores(histories)[0, 2], abs=1e-3)


def test_the_strongest_event_of_a_user_with_an_item_counts_once() -> None:
    histories = Histories.of_lists([[1, 1, 2, 0]], [[1.0, 4.0, -1.0, 2.0]])
    assert matrix(histories, 3, weighted=True).toarray().tolist() == [[2, 4, 0]]
    assert matrix(histories, 3).toarray().tolist() == [[1, 1, 0]]


def test_what_is_no_event_is_refused_with_its_row() -> None:
    good = {"user": "u", "item": "i", "time": 1}
    for change in ({"user": ""}, {"time": "soon"}, {"item": None}, {"weight": float("inf")}):
        with pytest.raises(ConfigError, match="row 1"):
            Interactions.of_rows([good, good | change])
    with pytest.raises(ConfigError, match="no events"):
        Interactions.of_rows([])
    with pytest.raises(ConfigError, match="more than 2 items"):
        fit_ranker(EaseConfig(most_items=2), Histories.of_lists([[0, 1, 2]]), 3)


def movielens() -> Path:
    """Return where the installed recbole keeps MovieLens-100k; it is found, not imported."""
    found = importlib.util.find_spec("recbole")
    assert found and found.origin
    return Path(found.origin).parent / "dataset_example" / "ml-100k"


def test_movielens_100k_is_ranked_as_well_as_the_literature_does() -> None:
    everything = Interactions.of_rows(movielens_events(movielens()))
    films = {row["item"]: row["category"] for row in movielens_items(movielens())}
    split = random_split(everything.histories.users())
    known, seen, wanted = (everything.only(part).histories for part in (split.fit, split.fit | split.valid, split.test))
    assert [len(part.items) for part in (known, wanted)] == pytest.approx([80_000, 10_000], rel=0.02)
    users = range(len(everything.users))
    names = sorted(set(films.values()))
    held = Heldout(
        everything.users,
        [wanted.of(user)[0] for user in users],
        [seen.of(user)[0] for user in users],
        everything.only(split.fit).counts(),
        categories=[names.index(films[item]) for item in everything.items],
    )

    def reached(config) -> float:
        ranker = fit_ranker(config, known, len(everything.items))
        made = evaluate_ranking(lambda some: ranker.scores(known.take(some)), held, resamples=1_000)
        return made.report.metric("ndcg@10").value

    # Settings were chosen on the validation events.
    assert reached(PopularityConfig()) == pytest.approx(0.138, abs=0.01)
    assert reached(EaseConfig(regularisation=500)) >= 0.2796
    assert reached(AlsConfig(width=32, alpha=2, regularisation=10, rounds=8)) >= 0.259


def test_a_column_of_vectors_counts_as_it_is_beside_words() -> None:
    rows = [
        {"text": "red tent", "image": [3.0, 0.0, 0.0]},
        {"text": "red tent", "image": [0.0, 2.0, 0.0]},
        {"text": "gas stove", "image": [9.0, 0.1, 0.0]},
        {"text": "gas stove", "image": None},
    ]
    content = content_features(rows)
    assert np.allclose(np.linalg.norm(content, axis=1), 1)
    assert np.allclose(content[0, -3:], [0.5**0.5, 0, 0], atol=1e-6), "its length says nothing, its direction half"
    assert np.allclose(content[3, -3:], 0) and np.allclose(content[0, :-3], content[1, :-3])
    like = content @ content.T
    assert like[0, 0] > like[0, 1] and like[0, 2] > like[0, 3], "by the picture, where words are the same"
    assert np.allclose(content_features(rows, ("item", "image")), content_features([{"text": r["text"]} for r in rows]))


def test_lists_that_are_no_vectors_are_words_and_vectors_of_two_lengths_are_refused() -> None:
    tagged = content_features([{"tags": ["a", "b"]}, {"tags": ["a", "c"]}, {"tags": ["d", "e"]}])
    assert tagged.shape == (3, 256) and tagged[0] @ tagged[1] > tagged[0] @ tagged[2]
    for wrong in ([1.0, 0.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ConfigError, match="'image'"):
            content_features([{"image": [1.0, 0.0]}, {"image": wrong}])
