"""How varied and how new texts are that a model wrote.

Owns the figures. Knows no model. Words are runs of letters and digits, in lower case.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bessemer.evals.nouns import Better, Metric, Report

_WORD = re.compile(r"\w+")
_SHINGLE_WORDS = 3
_HASHES, _BANDS = 128, 32
_PRIME = np.uint64((1 << 31) - 1)
_BLEU = 4
MOST_CANDIDATES = 100
"""Earlier texts that one is compared with."""

_MOST_TEXTS = 500
"""Texts that self-BLEU is taken of: it compares each with all others."""


def words(text: str) -> list[str]:
    """Return the words of a text.

    >>> words("It's 2 pm.")
    ['it', 's', '2', 'pm']
    """
    return _WORD.findall(text.lower())


def near_duplicates(texts: Sequence[str], similarity: float = 0.8) -> list[tuple[int, int]]:
    """Return (earlier, later) for each text whose shingles of three words are about those of an earlier one.

    Candidates share a band of their MinHash signatures (128 hashes in 32 bands of 4: a pair of similarity 0.8 is missed
    once in ten million); their similarity is then computed exactly, so no pair is below what is asked. Where a text has
    more than 100 candidates, the earliest 100 are compared: of rows all made alike each would have all others.
    Source: Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman & Ullman, "Mining of
    Massive Datasets", section 3.4.

    Args:
        texts: in their order.
        similarity: of Jaccard, at least.
    """
    shingles = [_shingles(text) for text in texts]
    signatures = _signatures(shingles)
    wide = _HASHES // _BANDS
    buckets: dict[tuple[int, bytes], list[int]] = {}
    earliest: dict[frozenset[int], int] = {}
    found = []
    for at, own in enumerate(shingles):
        if own in earliest:  # what it is like the first of its kind is like too, and that stands in the buckets
            found.append((earliest[own], at))
            continue
        bands = [(band, signatures[at, band * wide : (band + 1) * wide].tobytes()) for band in range(_BANDS)]
        candidates = set[int]().union(*(buckets.get(key, [])[:MOST_CANDIDATES] for key in bands))
        near = sorted(candidates)[:MOST_CANDIDATES]
        earlier = next((o for o in near if _jaccard(shingles[o], own) >= similarity), None)
        if earlier is not None:
            found.append((earlier, at))
        earliest[own] = at if earlier is None else earlier
        for key in bands:
            buckets.setdefault(key, []).append(at)
    return found


def _shingles(text: str) -> frozenset[int]:
    found = words(text)
    size = min(_SHINGLE_WORDS, max(1, len(found)))
    parts = (" ".join(found[at : at + size]) for at in range(max(1, len(found) - size + 1)))
    return frozenset(zlib.crc32(part.encode()) for part in parts)


def _signatures(shingles: Sequence[frozenset[int]]) -> NDArray[np.uint64]:
    random = np.random.default_rng(0)
    a = random.integers(1, int(_PRIME), _HASHES, dtype=np.uint64)
    b = random.integers(0, int(_PRIME), _HASHES, dtype=np.uint64)
    found = np.empty((len(shingles), _HASHES), dtype=np.uint64)
    for at, each in enumerate(shingles):
        values = np.fromiter(each, np.uint64, len(each)) % _PRIME
        found[at] = ((values[:, None] * a + b) % _PRIME).min(axis=0)
    return found


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / len(one | other)


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Return the share of different runs of `n` words among all; 1 is the most varied. 0 where there are none.

    Source: Li et al. 2016, "A diversity-promoting objective function", arXiv:1510.03055.
    """
    runs = [run for text in texts for run in _runs(words(text), n)]
    return len(set(runs)) / len(runs) if runs else 0.0


def self_bleu(texts: Sequence[str]) -> float:
    """Return the mean BLEU-4 of each text against all others; 1 is all the same, lower is more varied.

    Runs that no other text has count half a one (Chen & Cherry 2014, method 1, with a half). Of more than 500 texts
    those at even distances are taken. Source: Zhu et al. 2018, "Texygen", arXiv:1802.01886.
    """
    if len(texts) > _MOST_TEXTS:
        texts = [texts[round(at * (len(texts) - 1) / (_MOST_TEXTS - 1))] for at in range(_MOST_TEXTS)]
    split = [words(text) for text in texts]
    if len(split) < 2:
        return 0.0
    counts = [[Counter(_runs(each, n)) for n in range(1, _BLEU + 1)] for each in split]
    most = [_two_highest(each[n] for each in counts) for n in range(_BLEU)]
    return sum(_bleu(at, split, counts, most) for at in range(len(split))) / len(split)


def _two_highest(counts: Iterable[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Return for each run the highest count in one text, which text that is, and the highest in any other."""
    found: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for at, each in enumerate(counts):
        for run, count in each.items():
            high, where, second = found.get(run, (0, -1, 0))
            found[run] = (count, at, high) if count > high else (high, where, max(second, count))
    return found


def _bleu(
    at: int,
    split: Sequence[list[str]],
    counts: Sequence[list[Counter[tuple[str, ...]]]],
    most: Sequence[dict[tuple[str, ...], tuple[int, int, int]]],
) -> float:
    total = 0.0
    for n in range(_BLEU):
        own = counts[at][n]
        if not own:
            return 0.0
        shared = 0
        for run, count in own.items():
            high, where, second = most[n][run]
            shared += min(count, second if where == at else high)
        total += math.log(max(shared, 0.5) / sum(own.values())) / _BLEU
    length = len(split[at])
    nearest = min((abs(len(o) - length), len(o)) for other, o in enumerate(split) if other != at)[1]
    return math.exp(total + min(0.0, 1 - nearest / max(length, 1)))


def _runs(found: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(found[at : at + n]) for at in range(len(found) - n + 1)]


def contamination(texts: Sequence[str], heldout: Sequence[str], n: int = 8) -> list[int]:
    """Return the numbers of the texts that share a run of `n` words with one that is held out.

    Shorter ones count if they are held out whole. Source: Brown et al. 2020, arXiv:2005.14165, appendix C, which takes
    runs of 8 to 13 words.
    """
    known = {run for text in heldout for run in _runs(words(text), n)}
    short = {tuple(found) for text in heldout if len(found := words(text)) < n}
    return [
        at
        for at, text in enumerate(texts)
        if (found := words(text)) and (any(run in known for run in _runs(found, n)) or tuple(found) in short)
    ]


def judge_texts(texts: Sequence[str], heldout: Sequence[str] = ()) -> Report:
    """Return the figures of texts as a report that a gate can rule on."""
    count = len(texts)
    figures: list[tuple[str, Better, float]] = [
        ("near_duplicates", "lower", len(near_duplicates(texts)) / max(1, count)),
        ("distinct_1", "higher", distinct(texts, 1)),
        ("distinct_2", "higher", distinct(texts, 2)),
        ("self_bleu", "lower", self_bleu(texts)),
        ("contaminated", "lower", float(len(contamination(texts, heldout)))),
    ]
    metrics = (
        Metric(name=name, better=better, value=value, interval=None, samples=count, groups=0)
        for name, better, value in figures
    )
    return Report(task="texts", model="synthetic", metrics=tuple(metrics), scores=(), seconds=0.0)
