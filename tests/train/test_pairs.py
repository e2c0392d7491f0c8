"""Questions come from the documents, answers follow from their contexts, and nothing held out is learnt from."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.core.nouns import Document
from bessemer.train import PairsConfig, build_examples
from bessemer.train.drafts import plain


def text_document(title: str, text: str, group: str) -> Document:
    return Document(id=f"id-{group}-{title}", source=f"{group}/{title}.md", title=title, text=text, group=group)


def test_python_rules_ask_what_a_programmer_asks(documents: list[Document]) -> None:
    made = list(build_examples(documents, PairsConfig(train_questions=500)))
    asked = {(example.rule, example.question, example.answer) for example in made}
    by_rule = Counter(example.rule for example in made)
    assert set(by_rule) == {"signature", "parameters", "default", "summary", "module", "related", "find", "passage"}
    answers = {(rule, answer) for rule, _, answer in asked}
    assert ("signature", "mod1.brew(leaf, minutes=3)") in answers
    assert ("parameters", "leaf, minutes") in answers
    assert {("default", "3"), ("default", "True"), ("default", "2")} <= answers
    assert any(rule == "summary" and answer.startswith("Make number 1 of module") for rule, answer in answers)
    assert any(rule == "module" and answer.startswith(("mod", "from mod")) for rule, answer in answers)
    assert any(rule == "find" and answer.endswith(".pour") for rule, answer in answers)


def test_text_rules_ask_about_sections() -> None:
    text = (
        "# Kettles\n\nA kettle is a pot that boils water for tea. It has a spout.\n\n"
        "## Buying one\n\nThe shop in the town sells kettles on every Monday.\n\n```sh\n$ buy kettle --big\n```\n\n"
        "## Cleaning it\n\nVinegar removes the chalk that hard water leaves behind.\n"
    )
    made = list(build_examples([text_document("kettles", text, g) for g in "ab"], PairsConfig()))
    found = {(example.rule, example.answer) for example in made}
    assert ("define", "A kettle is a pot that boils water for tea.") in found
    assert ("command", "buy kettle --big") in found
    assert ("about", "Vinegar removes the chalk that hard water leaves behind.") in found
    assert ("covers", "Cleaning it") in found
    assert "What is a kettle?" in {example.question for example in made}


def test_every_answer_follows_from_a_bounded_context(documents: list[Document]) -> None:
    config = PairsConfig(train_questions=500, context_characters=150)
    made = [example for example in build_examples(documents, config) if example.question]
    assert made
    for example in made:
        assert 0 < len(example.context) <= 150
        if example.rule in ("signature", "summary", "find"):
            assert plain(example.answer) in plain(example.context)


def test_an_example_names_every_document_that_it_quotes(documents: list[Document]) -> None:
    made = list(build_examples(documents, PairsConfig(train_questions=500, crowded_ratio=1.0)))
    for example in made:
        shown = f"{example.context}\n{example.answer}"
        quoted = {d.id for d in documents if d.meta["summary"] in shown or f"{d.meta['name']}," in f"{example.answer},"}
        assert quoted - set(example.document_ids) <= {f"id-{example.answer}"}, "a module's name says where it is from"
    assert {"related", "find", "summary"} <= {e.rule for e in made if len(e.document_ids) > 1}


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    ratio=st.floats(0.05, 0.9),
    groups=st.lists(st.integers(0, 30), min_size=2, max_size=30, unique=True),
)
def test_no_held_out_text_or_name_is_trained_on(seed: int, ratio: float, groups: list[int]) -> None:
    shared = "This paragraph is long enough to be worth learning and stands in every document of the test."
    made = []
    for g in groups:
        neighbour = groups[(groups.index(g) + 1) % len(groups)]
        text = f"lib{g}.open(path)\n\nOpen the file number {g} for reading.\n\nSee also lib{neighbour}.open for more."
        text += f"\n\n{shared}" if g % 3 == 0 else ""
        facts = {"kind": "function", "name": f"lib{g}.open", "module": f"lib{g}", "signature": f"lib{g}.open(path)"}
        facts["summary"] = f"Open the file number {g} for reading."
        made.append(Document(id=str(g), source="s", title=f"lib{g}.open", text=text, group=f"lib{g}", meta=facts))
    examples = list(build_examples(made, PairsConfig(seed=seed, heldout_ratio=ratio)))
    heldout = {document.group for document in made} - {e.group for e in examples if e.split == "train"}
    learnt = [e for e in examples if e.split == "train"]
    assert {e.group for e in examples if e.split == "heldout"}.isdisjoint({e.group for e in learnt})
    names = {f"{e.group}.open" for e in examples if e.split == "heldout"}
    assert heldout
    for example in learnt:
        words = f"{example.context} {example.question} {example.answer}".replace("(", " ").split()
        assert names.isdisjoint(words)
    if any(shared in e.context + e.answer for e in examples if e.split == "heldout"):
        assert not any(shared in e.context + e.answer for e in learnt)


def test_the_order_of_documents_does_not_matter(documents: list[Document]) -> None:
    mixed = random.Random(1).sample(documents, len(documents))
    config = PairsConfig(closed_book_ratio=0.3)
    assert list(build_examples(mixed, config)) == list(build_examples(documents, config))


def test_caps_are_kept_and_every_rule_has_a_share(documents: list[Document]) -> None:
    config = PairsConfig(
        train_questions=28, train_passages=3, heldout_questions=7, heldout_passages=2, heldout_ratio=0.3
    )
    made = list(build_examples(documents, config))
    count = Counter((example.split, bool(example.question)) for example in made)
    assert count == {("train", True): 28, ("train", False): 3, ("heldout", True): 7, ("heldout", False): 2}
    shares = Counter(e.rule for e in made if e.split == "train" and e.question)
    assert len(shares) == 7 and max(shares.values()) <= 6


def test_questions_share_contexts(documents: list[Document]) -> None:
    asked = [e for e in build_examples(documents, PairsConfig(train_questions=30, crowded_ratio=0.5)) if e.question]
    single = [e for e in asked if e.rule in ("signature", "parameters", "default", "summary", "module")]
    assert len({e.context for e in single}) <= len(single) / 2


def test_closed_book_hides_contexts_from_training_only(documents: list[Document]) -> None:
    made = [e for e in build_examples(documents, PairsConfig(closed_book_ratio=1.0)) if e.question]
    assert {bool(e.context) for e in made if e.split == "train"} == {False}
    assert {bool(e.context) for e in made if e.split == "heldout"} == {True}


def test_dropped_documents_give_nothing(documents: list[Document]) -> None:
    dropped = [document.model_copy(update={"dropped": "stub"}) for document in documents]
    assert list(build_examples(dropped, PairsConfig())) == []


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_groups_hold_nothing_out(documents: list[Document], count: int) -> None:
    few = [document for document in documents if document.group == "mod1"][: 4 * count]
    assert {example.split for example in build_examples(few, PairsConfig())} == ({"train"} if count else set())
