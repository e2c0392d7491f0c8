"""Readiness: whether a set of documents is fit to learn from, in numbers and in words.

Owns the judgement. Knows neither the filters nor the model: it counts what they left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from bessemer.core.nouns import Document, Noun
from bessemer.lake.document import reason_name

_FEW_DOCUMENTS = 200
_FEW_GROUPS = 5
_LARGE_SHARE = 0.5

Fitness = Literal["ready", "thin", "unfit"]


class Readiness(Noun):
    """What a set of documents holds and how fit it is.

    Attributes:
        documents: all of them.
        kept: without a reason to be dropped.
        dropped: how many by each reason's name, the commonest first.
        characters: of the kept texts.
        groups: among the kept; data is split by them, so that at least two are needed.
        largest_group_ratio: share of the kept documents in the largest group.
        duplicate_ratio: share of all documents that repeat another.
        media_types: how many kept documents of each.
        fitness: ``ready``, ``thin`` (it runs, but expect little) or ``unfit`` (nothing to train on or to hold out).
        sentences: why, for people.
    """

    documents: int
    kept: int
    dropped: Mapping[str, int]
    characters: int
    groups: int
    largest_group_ratio: float
    duplicate_ratio: float
    media_types: Mapping[str, int]
    fitness: Fitness
    sentences: tuple[str, ...]


def readiness(documents: Iterable[Document]) -> Readiness:
    """Return the judgement on a stream of curated documents."""
    total = characters = 0
    dropped: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    media: Counter[str] = Counter()
    for document in documents:
        total += 1
        if document.dropped:
            dropped[reason_name(document.dropped)] += 1
            continue
        characters += len(document.text)
        groups[document.group] += 1
        media[document.media_type] += 1
    kept = groups.total()
    largest = max(groups.values(), default=0) / kept if kept else 0.0
    duplicates = dropped["duplicate"] / total if total else 0.0
    fitness, sentences = _judge(total, kept, len(groups), largest, dropped)
    return Readiness(
        documents=total,
        kept=kept,
        dropped=dict(dropped.most_common()),
        characters=characters,
        groups=len(groups),
        largest_group_ratio=largest,
        duplicate_ratio=duplicates,
        media_types=dict(media.most_common()),
        fitness=fitness,
        sentences=sentences,
    )


def _judge(
    total: int, kept: int, groups: int, largest: float, dropped: Counter[str]
) -> tuple[Fitness, tuple[str, ...]]:
    """Return the fitness and the sentences that explain it; the bounds are rules of thumb, not measurements."""
    said = [f"{kept:,} of {total:,} documents are fit, in {groups:,} groups."]
    if not kept:
        return "unfit", (*said, "There is nothing to learn from.")
    if groups < 2:
        return "unfit", (*said, "All documents are of one group: none can be held out without leaking.")
    thin = []
    if kept < _FEW_DOCUMENTS:
        thin.append(f"Fewer than {_FEW_DOCUMENTS} documents: expect a small effect and a wide confidence interval.")
    if groups < _FEW_GROUPS:
        thin.append(f"Fewer than {_FEW_GROUPS} groups: the held-out part stands for little.")
    if largest > _LARGE_SHARE:
        thin.append(f"One group holds {largest:.0%} of them: what is learnt is mostly that group.")
    if dropped and dropped.total() > total / 2:
        name, count = dropped.most_common(1)[0]
        said.append(f"More than half is dropped, most often as '{name}' ({count:,}).")
    return ("thin" if thin else "ready"), (*said, *thin)
