"""Scorers: each grades one answer against its reference, from 0 (wrong) to 1 (right).

Owns the table of names and what counts as the same answer. Other packages add scorers with an entry point in the
group ``bessemer.scorers``. Knows no model.

What counts as the same follows SQuAD (case, articles and punctuation of prose do not matter; Rajpurkar et al. 2016,
arXiv:1606.05250, section 6) with one change, because answers here are often code: marks that carry meaning in a
signature stay. So ``f(a, *b)`` differs from ``f(a, b)``, and ``os.path.join`` is one word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from bessemer.core.registry import Registry
from bessemer.evals.nouns import Sample

Scorer = Callable[[str, Sample], float]
"""From (answer, sample) to a value between 0 and 1; higher is better."""

SCORERS = Registry(
    "bessemer.scorers",
    {
        "exact_match": "bessemer.evals.scorers:exact_match",
        "token_f1": "bessemer.evals.scorers:token_f1",
        "rouge_l": "bessemer.evals.scorers:rouge_l",
        "contains": "bessemer.evals.scorers:contains",
    },
)

_ARTICLE = re.compile(r"\b(?:a|an|the)\s+(?=\w)")
# An article stands before a word; the parameter `a` of `f(a, b)` stands before a mark and is kept.

_TOKEN = re.compile(
    r"""
      (?<=[=(\[{,])\s?(?:'[^'\n]*'|"[^"\n]*")   # a string literal in code: sep=' ' is not sep=''
    | (?<![\w)])-?\d+(?:\.\d+)?(?![\w.])        # a number with its sign
    | \w+(?:\.\w+)*                             # a word, or a dotted name
    | \.\.\. | -> | \*\* | //                   # Ellipsis, result, keyword arguments, floor division
    | [()\[\]{}*/=|@<>+%&^~]                    # brackets and operators
    """,
    re.VERBOSE,
)


def tokens(text: str) -> list[str]:
    """Return the words and meaningful marks of an answer, lower case, without articles.

    Commas, colons, quotes around prose, backticks, dashes and the full stop at a sentence's end say nothing that
    the other tokens do not, and are left out.

    >>> tokens("The `os.path.join(a, *p)` function.")
    ['os.path.join', '(', 'a', '*', 'p', ')', 'function']
    >>> tokens('split(sep=" ", maxsplit=-1)') == tokens("split(sep=' ',maxsplit=-1)")
    True
    """
    folded = _ARTICLE.sub("", text.casefold().replace("`", ""))
    return [found.strip().replace('"', "'") for found in _TOKEN.findall(folded)]


def exact_match(answer: str, sample: Sample) -> float:
    """Return 1 if the answer says what the reference says and nothing else."""
    return float(tokens(answer) == tokens(sample.target))


def contains(answer: str, sample: Sample) -> float:
    """Return 1 if the reference stands in the answer, in one piece."""
    found, wanted = tokens(answer), tokens(sample.target)
    starts = range(len(found) - len(wanted) + 1)
    return float(any(found[start : start + len(wanted)] == wanted for start in starts))


def token_f1(answer: str, sample: Sample) -> float:
    """Return the harmonic mean of precision and recall over tokens, their order ignored.

    Source: Rajpurkar et al. 2016, arXiv:1606.05250, section 6.
    """
    found, wanted = tokens(answer), tokens(sample.target)
    shared = (Counter(found) & Counter(wanted)).total()
    return _f1(shared, len(found), len(wanted))


def rouge_l(answer: str, sample: Sample) -> float:
    """Return the F1 of the longest common subsequence of tokens: the order counts, gaps are allowed.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", equations 2 to 4 with beta = 1.
    """
    found, wanted = tokens(answer), tokens(sample.target)
    longest = [0] * (len(wanted) + 1)
    for token in found:
        diagonal = 0
        for column, other in enumerate(wanted, start=1):
            above = longest[column]
            longest[column] = diagonal + 1 if token == other else max(above, longest[column - 1])
            diagonal = above
    return _f1(longest[-1], len(found), len(wanted))


def _f1(shared: int, found: int, wanted: int) -> float:
    """Return 2 x shared / (found + wanted); two empty answers agree."""
    return 2 * shared / (found + wanted) if found + wanted else 1.0
