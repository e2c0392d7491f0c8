"""Curation: each filter drops what it names, nothing vanishes, and the judgement adds up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bessemer.core.nouns import Document
from bessemer.lake import CurateConfig, curate, readiness
from bessemer.lake.document import make_document, reason_name

FINE = "Bees are insects that collect nectar and turn it into honey. They live in hives."


def doc(text: str, group: str = "g", dropped: str = "", **meta: str) -> Document:
    return make_document(f"s/{group}", text, title="t", group=group, meta=meta, dropped=dropped)


def dropped_by(text: str, config: CurateConfig | None = None, **meta: str) -> str:
    (found,) = curate([doc(text, **meta)], config or CurateConfig())
    return reason_name(found.dropped)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", FINE),
        ("too_short", "Bees."),
        ("too_long", "bee " * 200_000),
        ("low_alphabetic", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 a"),
        ("symbols", "#tag #other words ... and #more then #again words ... and some more words"),
        ("repetitive", "buy honey now " * 60),
        ("repetitive", "\n".join(f"line number {n % 4} of the text says little" for n in range(40))),
        ("boilerplate", "Please enable JavaScript to see this page about bees and honey."),
        ("stub", "Deprecated since version 3.4, use the other function instead."),
        ("stub", "See the documentation of the base class."),
        ("", "# A heading\n\nBees are insects that collect nectar.\n\n## Another\n\nThey live in hives."),
        ("", ">>> f(1)\n1\n>>> f(2)\n2\nThe function f returns its argument unchanged, always."),
        ("", "See if the hive has any bees in it, and return how many there are."),
    ],
)
def test_each_filter_drops_what_it_names(name: str, text: str) -> None:
    assert dropped_by(text) == name
    if name:
        assert dropped_by(text, CurateConfig(off=(name,))) != name  # type: ignore[arg-type]


def test_a_stub_is_judged_after_the_signature() -> None:
    assert dropped_by("a.f(x)\n\nDeprecated, use a.g instead of it.", signature="a.f(x)") == "stub"


def test_twins_name_the_first() -> None:
    first, second, third = curate([doc(FINE), doc(f"  {FINE.upper()}\n"), doc(FINE + " More.")])
    assert (first.dropped, second.dropped, third.dropped) == ("", f"duplicate: same text as {first.id[:12]}", "")


def test_a_dropped_text_is_no_first_twin() -> None:
    _, second = curate([doc(FINE, dropped="binary"), doc(FINE)])
    assert second.dropped == ""


def test_reasons_from_before_stay() -> None:
    (found,) = curate([doc("", dropped="empty")])
    assert found.dropped == "empty"


@given(st.lists(st.tuples(st.text(max_size=80), st.sampled_from(["", "empty"]))))
def test_nothing_vanishes_and_twice_is_once(parts: list[tuple[str, str]]) -> None:
    given_documents = [doc(text, dropped=why) for text, why in parts]
    once = list(curate(given_documents))
    assert [d.id for d in once] == [d.id for d in given_documents]
    assert list(curate(once)) == once
    state = readiness(once)
    assert state.documents == len(parts) == state.kept + sum(state.dropped.values())


def test_it_streams() -> None:
    def endless() -> object:
        number = 0
        while True:
            number += 1
            yield doc(f"{FINE} Number {number}.")

    stream = curate(endless())  # type: ignore[arg-type]
    assert [next(stream).dropped for _ in range(3)] == ["", "", ""]


def test_thresholds_have_ranges_and_filters_have_names() -> None:
    with pytest.raises(ValidationError):
        CurateConfig(min_alphabetic_ratio=2)
    with pytest.raises(ValidationError):
        CurateConfig(off=("no_such_filter",))  # type: ignore[arg-type]


def test_readiness_counts_and_says_why() -> None:
    documents = [
        *curate([doc(f"{FINE} Number {n}.", group=f"g{n % 10}") for n in range(300)]),
        doc("", dropped="empty: x"),
    ]
    state = readiness(documents)
    assert (state.documents, state.kept, state.groups, state.fitness) == (301, 300, 10, "ready")
    assert state.dropped == {"empty": 1}
    assert state.media_types == {"text/plain": 300}
    assert state.largest_group_ratio == pytest.approx(0.1)
    assert state.sentences == ("300 of 301 documents are fit, in 10 groups.",)
    assert type(state).model_validate_json(state.model_dump_json()) == state


@pytest.mark.parametrize(
    ("documents", "fitness", "says"),
    [
        ([], "unfit", "nothing to learn from"),
        ([doc("", dropped="empty")], "unfit", "nothing to learn from"),
        ([doc(FINE), doc(FINE + "x")], "unfit", "one group"),
        ([doc(FINE, group="a"), doc(FINE, group="b")], "thin", "Fewer than 200"),
        ([doc(FINE, group=f"g{min(n, 9)}") for n in range(300)], "thin", "One group holds 97%"),
    ],
)
def test_what_is_not_ready_is_explained(documents: list[Document], fitness: str, says: str) -> None:
    state = readiness(documents)
    assert state.fitness == fitness
    assert says in " ".join(state.sentences)


def test_more_than_half_dropped_is_said() -> None:
    state = readiness([doc(FINE, group="a"), doc(FINE, group="b"), *[doc("", dropped="duplicate: x")] * 4])
    assert "most often as 'duplicate' (4)" in " ".join(state.sentences)
    assert state.duplicate_ratio == pytest.approx(4 / 6)
