"""Rules for any text with headings: what a reader asks about a manual, a README or a folder of notes.

Owns the questions, and what counts as a sentence that explains something. Needs no facts but heading and text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence

from bessemer.train.drafts import Draft, Rule, Section, is_python, plain

MIN_SENTENCE_CHARACTERS = 25
MAX_SENTENCE_CHARACTERS = 240

_DEFINES = re.compile(
    r"^(?P<what>[`*]{0,2}[A-Z`*][\w`*.-]*(?: [\w`*.-]+){0,3}?) (?P<verb>is|are) (?:a|an|the|used|how) "
)
_NOT_A_NAME = re.compile(r"(?i)(?:it|this|that|these|those|there|here|they|we|you|he|she|what|which)\b")
_POINTS_AWAY = re.compile(r"(?i)\b(?:for more|see (?:the|our|also)|refer to|check ?out|click|visit)\b")


def about(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """What a section says first."""
    first = next(_sentences(section), "")
    if is_python(section.document) or not first:
        return None
    question = chance.choice(('What is "{}" about?', 'What does the documentation say about "{}"?'))
    return Draft(question.format(section.heading), first, (section,), first)


def define(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """What something is, where a sentence of the form "X is a ..." says so."""
    if is_python(section.document):
        return None
    for sentence in _sentences(section):
        found = _DEFINES.match(sentence)
        if found and not _NOT_A_NAME.match(found.group("what")):
            what = re.sub(r"^(?:An?|The)\b", lambda article: article.group().lower(), found.group("what"))
            question = f"What {found.group('verb')} {what}?"
            return Draft(question, sentence, (section,), sentence)
    return None


def covers(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """Which section explains something, among its neighbours."""
    first = next(_sentences(section), "")
    others = [other for other in beside if other.heading != section.heading]
    if is_python(section.document) or not first or not others:
        return None
    shown = (section, *chance.sample(others, min(len(others), 2)))
    words = " ".join(first.rstrip(".").split()[:12])
    question = chance.choice(("Which section covers this: {}?", "Under which heading is this explained: {}?"))
    return Draft(question.format(words), section.heading, tuple(chance.sample(shown, len(shown))), section.heading)


def command(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """The one line of code that a section shows."""
    blocks = re.findall(r"^(?:```|~~~)[^\n]*\n(.*?)^(?:```|~~~)", section.text, re.DOTALL | re.MULTILINE)
    lines = [block.strip().removeprefix("$ ") for block in blocks]
    one = next((line for line in lines if 4 < len(line) <= 120 and "\n" not in line), "")
    if is_python(section.document) or not one:
        return None
    return Draft(f'Which code does "{section.heading}" show?', one, (section,), one)


TEXT_RULES: Mapping[str, Rule] = {rule.__name__: rule for rule in (about, define, covers, command)}


def _sentences(section: Section) -> Iterator[str]:
    """Yield a section's prose sentences, as they stand in the text but for Markdown's marks and line breaks."""
    prose = re.sub(r"^(?:```|~~~).*?^(?:```|~~~)[^\n]*$", "", section.body, flags=re.DOTALL | re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", prose):
        if re.match(r"\s*(?:[-*+|>#=.:\[!<]|\d+[.)]|\t| {4})", paragraph):
            continue  # lists, tables, quotes, badges, directives, code: no prose
        for sentence in re.split(r"(?<=[.!?]) +(?=[A-Z`\"])", plain(paragraph)):
            fits = MIN_SENTENCE_CHARACTERS <= len(sentence) <= MAX_SENTENCE_CHARACTERS and sentence[-1] in ".!?"
            if fits and not _POINTS_AWAY.search(sentence):
                yield sentence
