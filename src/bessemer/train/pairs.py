"""Questions and answers from documents, by rules: what the model learns from and what it is examined on.

Owns the split by group, the guard against leaks, and the balance over rules. The rules themselves stand in
`python_rules` and `text_rules`. Knows no model and no tokenizer.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config
from bessemer.core.digest import digest
from bessemer.core.nouns import Document, Example
from bessemer.train.drafts import Draft, Rule, Section, plain, sections_of
from bessemer.train.prompt import excerpt, join_context
from bessemer.train.python_rules import PYTHON_RULES
from bessemer.train.text_rules import TEXT_RULES

Split = Literal["train", "heldout"]
Beside = Mapping[str, Sequence[Section]]

RULES: Mapping[str, Rule] = {**PYTHON_RULES, **TEXT_RULES}
PASSAGE = "passage"
MIN_PASSAGE_CHARACTERS = 120
MIN_SHARED_CHARACTERS = 60
SECTIONS_PER_QUESTION = 5
"""How many sections are looked at for each question wanted: enough to choose from, few enough to be quick."""
MAX_NEIGHBOURS = 8
"""How many of its neighbours a rule is shown: a large module has thousands."""


class PairsConfig(Config):
    """How examples are made from documents.

    Attributes:
        train_questions: at most so many questions to learn from, shared by the rules.
        train_passages: at most so many plain passages to learn from.
        heldout_questions: at most so many questions to be examined on, shared by the rules.
        heldout_passages: at most so many passages to measure bits per byte on.
        heldout_ratio: share of the groups that are held out.
        context_characters: longest context that a question comes with.
        passage_characters: longest passage.
        crowded_ratio: share of contexts that hold neighbouring sections too, as a retriever's would.
        closed_book_ratio: share of training questions that come without context.
        seed: of the split and of every choice.
    """

    train_questions: Annotated[int, Field(ge=0, le=1_000_000)] = 300
    train_passages: Annotated[int, Field(ge=0, le=1_000_000)] = 60
    heldout_questions: Annotated[int, Field(ge=0, le=100_000)] = 120
    heldout_passages: Annotated[int, Field(ge=0, le=100_000)] = 60
    heldout_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    context_characters: Annotated[int, Field(ge=100, le=20_000)] = 500
    passage_characters: Annotated[int, Field(ge=100, le=20_000)] = 500
    crowded_ratio: Annotated[float, Field(ge=0, le=1)] = 0.3
    closed_book_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 0


def build_examples(documents: Iterable[Document], config: PairsConfig) -> Iterator[Example]:
    """Yield the examples of both splits, in an order that depends only on the documents and the config.

    A group is wholly in one split. Training sections that name a held-out section, or share a paragraph with one,
    are left out. Dropped documents give no example.
    """
    kept = sorted((document for document in documents if not document.dropped), key=lambda document: document.id)
    sections = list(chain.from_iterable(sections_of(document) for document in kept))
    groups = _heldout_groups({section.group for section in sections}, config)
    heldout = [section for section in sections if section.group in groups]
    train = _unleaked([section for section in sections if section.group not in groups], heldout)
    yield from _of_split("train", train, config)
    yield from _of_split("heldout", heldout, config)


# --- the split -------------------------------------------------------------------------------------------------------


def _heldout_groups(groups: set[str], config: PairsConfig) -> set[str]:
    """Return the groups whose hash falls under the ratio: a group stays where it is when others come or go.

    Where chance leaves a side empty, one group changes sides; a single group is all training.
    """
    place = {group: int(digest((config.seed, group))[:12], 16) / 16**12 for group in groups}
    order = sorted(groups, key=lambda group: place[group])
    found = {group for group in order if place[group] < config.heldout_ratio}
    if len(order) < 2:
        return set()
    return (found or {order[0]}) - ({order[-1]} if len(found) == len(order) else set())


def _unleaked(train: Sequence[Section], heldout: Sequence[Section]) -> list[Section]:
    """Return the training sections that neither name a held-out section nor share a paragraph with one."""
    names = {section.heading for section in heldout if _QUALIFIED.fullmatch(section.heading)}
    texts = {paragraph for section in heldout for paragraph in _paragraphs(section)}
    return [
        section
        for section in train
        if names.isdisjoint(_QUALIFIED.findall(section.text)) and texts.isdisjoint(_paragraphs(section))
    ]


_QUALIFIED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def _paragraphs(section: Section) -> set[str]:
    parts = (" ".join(part.split()) for part in re.split(r"\n\s*\n", section.body))
    return {part for part in parts if len(part) >= MIN_SHARED_CHARACTERS}


# --- choosing --------------------------------------------------------------------------------------------------------


def _of_split(split: Split, sections: Sequence[Section], config: PairsConfig) -> Iterator[Example]:
    train = split == "train"
    questions = config.train_questions if train else config.heldout_questions
    passages = config.train_passages if train else config.heldout_passages
    beside: dict[str, list[Section]] = defaultdict(list)
    for section in sections:
        beside[section.neighbourhood].append(section)
    pool = _mixed(sections, f"{config.seed}/pool")[: SECTIONS_PER_QUESTION * questions]
    drafts = {section.id: _drafts(section, beside[section.neighbourhood], config) for section in pool}
    rich = {key: sum(len(draft.sections) == 1 for draft in found.values()) for key, found in drafts.items()}
    order = _mixed(pool, f"{config.seed}/question", rich)
    available = {rule: sum(rule in found for found in drafts.values()) for rule in RULES}
    made = [*islice(_passages(split, sections, config), passages)]
    for rule, quota in _quotas(available, questions).items():
        made += islice(_questions(rule, split, order, drafts, beside, config), quota)
    yield from sorted(made, key=lambda example: example.id)  # mixed: whoever takes the first few gets some of each


def _quotas(available: Mapping[str, int], total: int) -> dict[str, int]:
    """Return how many questions each rule gives: shares go by the square root of how many it could give.

    So common kinds of questions come more often, and rare ones do not vanish.
    """
    quotas = dict.fromkeys(available, 0)
    for _ in range(min(total, sum(available.values()))):
        open_ = [rule for rule in available if quotas[rule] < available[rule]]
        quotas[min(open_, key=lambda rule: (quotas[rule] + 1) / math.sqrt(available[rule]))] += 1
    return quotas


def _drafts(section: Section, beside: Sequence[Section], config: PairsConfig) -> dict[str, Draft]:
    """Return what each rule makes of a section, by rule."""
    near = _chance(config, "near", section).sample(beside, min(len(beside), MAX_NEIGHBOURS))
    others = [other for other in near if other is not section]
    made = ((name, rule(section, others, _chance(config, name, section))) for name, rule in RULES.items())
    return {name: draft for name, draft in made if draft is not None}


def _questions(
    rule: str,
    split: Split,
    order: Sequence[Section],
    drafts: Mapping[str, Mapping[str, Draft]],
    beside: Beside,
    config: PairsConfig,
) -> Iterator[Example]:
    """Yield one rule's examples; a question with its answer is asked once.

    All rules go through the sections in the same order, so that several questions share a context.
    """
    seen: set[tuple[str, str]] = set()
    for section in order:
        draft = drafts[section.id].get(rule)
        if draft is None or (draft.question, draft.answer) in seen:
            continue
        seen.add((draft.question, draft.answer))
        shown, context = _context(draft, beside[section.neighbourhood], _chance(config, "context", section), config)
        if context:
            closed = split == "train" and _chance(config, f"closed/{rule}", section).random() < config.closed_book_ratio
            yield _example((section, *shown), rule, split, draft.answer, draft.question, "" if closed else context)


def _chance(config: PairsConfig, what: str, section: Section) -> random.Random:
    """Return the source of one kind of choices about one section: no choice depends on other sections."""
    return random.Random(f"{config.seed}/{what}/{section.id}")


def _context(
    draft: Draft, beside: Sequence[Section], chance: random.Random, config: PairsConfig
) -> tuple[Sequence[Section], str]:
    """Return a context that holds the draft's evidence, crowded with neighbours if chance wants it; or nothing.

    With it come the sections that it, or the draft's answer, was made from.
    """
    choices = [draft.sections]
    if len(draft.sections) == 1 and len(beside) > 1 and chance.random() < config.crowded_ratio:
        more = [other for other in chance.sample(beside, min(len(beside), 3)) if other is not draft.sections[0]][:2]
        choices.insert(0, tuple(chance.sample((*draft.sections, *more), len(more) + 1)))
    for sections in choices:
        context = join_context([section.shown for section in sections], config.context_characters)
        if plain(draft.evidence) in plain(context):
            return (*draft.sections, *sections), context
    return (), ""


def _passages(split: Split, sections: Sequence[Section], config: PairsConfig) -> Iterator[Example]:
    for section in _mixed(sections, f"{config.seed}/{PASSAGE}"):
        text = excerpt(section.text, config.passage_characters)
        if len(text) >= MIN_PASSAGE_CHARACTERS:
            yield _example((section,), PASSAGE, split, text)


def _mixed(sections: Sequence[Section], salt: str, weights: Mapping[str, int] | None = None) -> list[Section]:
    """Return sections in a seeded order in which every group's first comes before any group's second.

    Within a group, a section with twice the weight comes first four times as often: what answers many questions at
    once is read for less.

    Source: weighted sampling by keys u ** (1 / w), Efraimidis and Spirakis, 2006.
    """
    by_group: dict[str, list[tuple[float, Section]]] = defaultdict(list)
    for section in sections:
        weight = (weights[section.id] if weights else 1) ** 2
        key = random.Random(f"{salt}/{section.id}").random() ** (1 / weight) if weight else 0.0
        by_group[section.group].append((key, section))
    ranked = []
    for group, members in by_group.items():
        members.sort(key=lambda member: (-member[0], member[1].id))
        ranked += [(rank, digest((salt, group)), section) for rank, (_, section) in enumerate(members)]
    return [section for _, _, section in sorted(ranked, key=lambda item: item[:2])]


def _example(
    sections: Sequence[Section], rule: str, split: Split, answer: str, question: str = "", context: str = ""
) -> Example:
    """Return an example about the first of the sections; erasing any of their documents erases it."""
    section = sections[0]
    return Example(
        id=digest((section.id, rule, question, context, answer)),
        document_ids=tuple(dict.fromkeys(other.document.id for other in sections)),
        group=section.group,
        rule=rule,
        context=context,
        question=question,
        answer=answer,
        split=split,
    )
