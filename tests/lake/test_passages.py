"""Passages: never too long, nothing lost, cut where a reader would cut."""

import re

from hypothesis import given
from hypothesis import strategies as st

from bessemer.lake.readers.html import parse as parse_html
from bessemer.lake.readers.markdown import parse as parse_markdown
from bessemer.lake.readers.passages import split_sections, split_text
from bessemer.lake.readers.raw import Section


@given(st.text(st.sampled_from("ab .\n`")) | st.text(), st.integers(1, 40))
def test_no_piece_is_too_long_and_no_letter_is_lost(text: str, limit: int) -> None:
    pieces = split_text(text, limit)
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@given(
    st.lists(st.tuples(st.lists(st.sampled_from("ABC"), max_size=3), st.text(max_size=300)), max_size=6),
    st.integers(50, 400),
)
def test_sections_keep_their_text(parts: list[tuple[list[str], str]], limit: int) -> None:
    sections = tuple(Section(tuple(heading), text) for heading, text in parts)
    passages = split_sections(sections, limit)
    assert all(0 < len(p.text) <= limit for p in passages)
    kept = "".join("".join(p.text for p in passages).split())
    words = iter(kept)
    for section in sections:
        assert all(letter in words for letter in "".join(section.text.split())), "in order, none missing"


def test_a_fenced_block_is_not_cut_at_a_blank_line() -> None:
    block = "```\na = 1\n\nb = 2\n```"
    assert split_text(f"Words before.\n\n{block}\n\nWords after.", 24) == ["Words before.", block, "Words after."]


def test_cuts_prefer_paragraphs_then_lines_then_sentences() -> None:
    assert split_text("aa bb.\n\ncc dd.", 10) == ["aa bb.", "cc dd."]
    assert split_text("aa bb\ncc dd", 7) == ["aa bb", "cc dd"]
    assert split_text("Aa bb. Cc dd.", 8) == ["Aa bb.", "Cc dd."]
    assert split_text("aaaaaaa", 3) == ["aaa", "aaa", "a"]


def test_short_neighbours_are_joined_under_their_common_heading() -> None:
    long = "x" * 200
    made = split_sections(
        (
            Section(("T", "A"), "short a"),
            Section(("T", "B"), "short b"),
            Section(("T", "C"), long),
            Section(("T",), ""),
        ),
        500,
    )
    assert [s.heading for s in made] == [("T",)]
    assert made[0].text.startswith("A\nshort a\n\nB\nshort b\n\nC\nxxx")
    assert [s.heading for s in split_sections((Section(("T", "A"), long), Section(("T", "B"), long)), 500)] == [
        ("T", "A"),
        ("T", "B"),
    ]


def test_without_a_limit_a_text_stays_whole() -> None:
    assert split_sections((Section(("T", "A"), "a"), Section(("T", "B"), "b")), 0) == [Section(("T",), "A\na\n\nB\nb")]


@given(st.text(st.sampled_from("#`~-= \nab[]()!<>:|")) | st.text())
def test_markdown_reads_any_text(text: str) -> None:
    letters = re.sub(r"[^ab]", "", "".join(s.text + "".join(s.heading) for s in parse_markdown(text).sections))
    assert set(letters) <= set(text)


def test_markdown_headings_of_both_kinds() -> None:
    parsed = parse_markdown("Title\n=====\nintro\n\nPart\n----\nbody\n\n### Deep ###\n*x*\n\n# Second\ny\n\n---\nz")
    assert parsed.title == "Title"
    assert [s.heading for s in parsed.sections] == [
        ("Title",),
        ("Title", "Part"),
        ("Title", "Part", "Deep"),
        ("Second",),
    ]


def test_markdown_front_matter_that_is_none() -> None:
    assert parse_markdown("---\n: : [\n---\nx").meta == {}
    assert parse_markdown("---\njust words\n---\nx").meta == {}
    assert parse_markdown("a\n---\nb").title == ""


@given(st.text(st.sampled_from("<>/=\"'abhpl12 \n&;!-")) | st.text())
def test_html_reads_any_text(text: str) -> None:
    parse_html(text)


def test_html_nests_deeply() -> None:
    assert "deep" in parse_html("<div>" * 5_000 + "deep" + "</div>" * 5_000).sections[0].text


def test_html_hides_what_is_no_content() -> None:
    page = "<body><header><nav>menu</nav></header><aside>ad</aside><div hidden>h</div><p>kept</p><form>f</form></body>"
    assert [s.text for s in parse_html(page).sections] == ["kept"]
