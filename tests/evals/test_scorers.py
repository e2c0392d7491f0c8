"""What counts as the same answer, in prose and in code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import NotFound
from bessemer.core.nouns import Message
from bessemer.evals import SCORERS, Sample, contains, exact_match, rouge_l, token_f1
from bessemer.evals.scorers import tokens


def asked(target: str) -> Sample:
    return Sample(id="s", messages=(Message(role="user", content="?"),), target=target, group="g")


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("Return the absolute path.", "return absolute path"),
        ("`os.path.join(a, *p)`", "os.path.join(a,*p)"),
        ("f(sep=' ')", 'f(sep=" ")'),
        ("  an   Event\n", "event"),
        ("(…) -> None", "( … ) -> none"),
    ],
)
def test_differences_that_do_not_matter(answer: str, target: str) -> None:
    assert exact_match(answer, asked(target)) == 1
    assert token_f1(answer, asked(target)) == 1


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("f(a, *b)", "f(a, b)"),
        ("f(a, /, b)", "f(a, b)"),
        ("f(a, **b)", "f(a, *b)"),
        ("f(a)", "f(the)"),
        ("f(n=-1)", "f(n=1)"),
        ("f(n=1.5)", "f(n=1)"),
        ("f(sep=' ')", "f(sep='')"),
        ("f() -> int", "f()"),
        ("os.path", "os path"),
        ("tuple[int, ...]", "tuple[int]"),
        ("a | b", "a b"),
    ],
)
def test_differences_that_matter_in_a_signature(answer: str, target: str) -> None:
    assert exact_match(answer, asked(target)) == 0
    assert token_f1(answer, asked(target)) < 1


def test_the_parameter_a_is_no_article() -> None:
    assert "a" in tokens("f(a, b)")
    assert "a" in tokens("f(x, a=1)")
    assert "a" not in tokens("a file")


def test_token_f1_by_hand() -> None:
    # two of three found tokens are among the four wanted: precision 2/3, recall 1/2
    assert token_f1("open file now", asked("open file for reading")) == pytest.approx(
        2 * (2 / 3 * 1 / 2) / (2 / 3 + 1 / 2)
    )


def test_token_f1_counts_repetition() -> None:
    assert token_f1("path path path", asked("path")) == pytest.approx(0.5)


def test_rouge_l_minds_the_order_and_token_f1_does_not() -> None:
    target = asked("one two three four")
    assert token_f1("four three two one", target) == 1
    assert rouge_l("four three two one", target) == 0.25
    assert rouge_l("one x two y three four", target) == pytest.approx(2 * 4 / 10)


def test_contains_wants_one_piece() -> None:
    assert contains("It is defined in the module json.decoder, I think.", asked("json.decoder")) == 1
    assert contains("dumps in json", asked("json dumps")) == 0
    assert contains("json.decoder", asked("json")) == 0
    assert contains("", asked("json")) == 0


def test_nothing_against_nothing_agrees() -> None:
    for scorer in (exact_match, token_f1, rouge_l, contains):
        assert scorer("", asked("")) == 1


words = st.lists(st.sampled_from(["open", "path", "(", ")", "os.path", "*", "-1", "'x'", "the", "a"]), max_size=12)


@given(words, words)
def test_bounds_and_symmetry(left: list[str], right: list[str]) -> None:
    one, other = " ".join(left), " ".join(right)
    for scorer in (exact_match, token_f1, rouge_l):
        assert scorer(one, asked(other)) == pytest.approx(scorer(other, asked(one)))
        assert scorer(one, asked(one)) == 1
    exact, in_order, any_order = (scorer(one, asked(other)) for scorer in (exact_match, rouge_l, token_f1))
    assert 0 <= exact <= in_order <= any_order <= 1


@given(st.text(max_size=200))
def test_any_text_has_tokens(text: str) -> None:
    assert all(token and not token.isspace() for token in tokens(text))


def test_scorers_by_name() -> None:
    assert {"exact_match", "token_f1", "contains", "rouge_l"} <= set(SCORERS.names())
    assert SCORERS.load("token_f1") is token_f1
    with pytest.raises(NotFound) as caught:
        SCORERS.load("blue")
    assert "token_f1" in caught.value.hint
