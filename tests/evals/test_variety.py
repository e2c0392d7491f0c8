"""Near-duplicates, distinct words, self-BLEU and contamination against slower ways to the same number."""

from __future__ import annotations

import random

import pytest

from bessemer.evals.texts import variety
from bessemer.evals.texts.variety import (
    _jaccard,
    _shingles,
    contamination,
    distinct,
    judge_texts,
    near_duplicates,
    self_bleu,
)

WORDS = [f"word{number}" for number in range(400)]


def texts(count: int, seed: int = 0, length: int = 30) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=length)) for _ in range(count)]


def test_near_duplicates_are_those_that_all_pairs_find() -> None:
    found = texts(60)
    draw = random.Random(1)
    for number in range(25):  # copies with some words changed, from none to many
        copy = found[number].split()
        for at in draw.sample(range(30), number // 4):
            copy[at] = "changed"
        found.append(" ".join(copy))
    parts = [_shingles(text) for text in found]
    expected = {b for b in range(len(found)) if any(_jaccard(parts[a], parts[b]) >= 0.8 for a in range(b))}
    assert {later for _, later in near_duplicates(found)} == expected
    assert 3 <= len(expected) < 25
    assert near_duplicates(["", "a b", "A, b!"]) == [(1, 2)]


def test_rows_all_made_alike_are_compared_with_the_earliest_only(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(variety, "_jaccard", lambda one, other: compared.append(1) or _jaccard(one, other))
    draw, like = random.Random(2), WORDS[:40]
    alike = [" ".join(draw.choice(WORDS) if at in draw.sample(range(40), 4) else like[at] for at in range(40))
             for _ in range(600)]  # fmt: skip
    monkeypatch.setattr(variety, "MOST_CANDIDATES", 20)
    near_duplicates(alike)
    assert 10 * 600 < len(compared) <= 20 * 600, "of 180,000 pairs"
    compared.clear()
    assert near_duplicates(["the same words here"] * 600) == [(0, at) for at in range(1, 600)] and not compared


def test_distinct_is_counted() -> None:
    assert distinct(["a b a b"], 1) == 0.5
    assert distinct(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct([], 2) == 0.0


def test_self_bleu_tells_sameness_from_variety() -> None:
    same, varied = ["the cat sat on the mat today"] * 5, texts(40, 3)
    assert self_bleu(same) == pytest.approx(1.0)
    assert self_bleu(varied) < 0.1
    assert self_bleu(varied[:20] + same) > self_bleu(varied[:25])
    # By hand: words of the one are 4 of 5 in the other, pairs 3 of 4, threes 2 of 3, fours 1 of 2.
    by_hand = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert self_bleu(["a b c d x", "a b c d y"]) == pytest.approx(by_hand)


def test_contamination_needs_a_whole_run() -> None:
    held = ["one two three four five six seven eight nine", "short answer"]
    found = ["zero one two three four five six seven eight", "one two three four five six seven", "Short answer.", ""]
    assert contamination(found, held) == [0, 2]


def test_a_report_for_a_gate() -> None:
    found = judge_texts([*texts(20), texts(1)[0]], held := texts(2))
    assert found.metric("near_duplicates").value == pytest.approx(1 / 21)
    assert found.metric("contaminated").value == 3 and len(held) == 2
