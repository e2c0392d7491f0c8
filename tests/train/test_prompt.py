"""The prompt is bounded and keeps the best first."""

from hypothesis import given
from hypothesis import strategies as st

from bessemer.train.prompt import excerpt, join_context, prompt_messages


@given(st.lists(st.text(max_size=300), max_size=5), st.integers(40, 500))
def test_a_context_never_exceeds_its_limit(texts: list[str], limit: int) -> None:
    assert len(join_context(texts, limit)) <= limit


@given(st.text(max_size=400), st.integers(1, 200))
def test_an_excerpt_is_a_bounded_beginning(text: str, limit: int) -> None:
    cut = excerpt(text, limit)
    assert len(cut) <= limit
    assert text.strip().startswith(cut)


def test_a_short_text_leaves_its_room_to_the_next() -> None:
    joined = join_context(["short", "word " * 40], 150)
    assert joined.startswith("short")
    assert len(joined) > 130


def test_without_context_the_question_stands_alone() -> None:
    assert prompt_messages("Why?")[-1].content == "Why?"
    assert prompt_messages("Why?", "Because.")[-1].content.startswith("Because.")
