"""Rules for Python documentation: what a programmer asks about a module, a class, a function or a method.

Owns the questions and how a signature is read. Relies on the facts that the reader of Python documentation leaves
in `Document.meta`: kind, name, module, signature, summary.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Mapping, Sequence

from bessemer.train.drafts import Draft, Rule, Section, is_python

MAX_ANSWER_CHARACTERS = 240
MAX_LISTED = 3


def signature(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """How it is called."""
    answer = section.fact("signature")
    if not _callable(section) or not 3 < len(answer) <= MAX_ANSWER_CHARACTERS:
        return None
    question = chance.choice(("What is the signature of `{}`?", "How is `{}` called?", "Show the signature of `{}`."))
    return _draft(question.format(section.heading), answer, section)


def parameters(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """Which parameters it takes, in order."""
    names = [name for name, _ in _parameters(section.fact("signature"))]
    if not _callable(section) or len(names) < 2:
        return None
    question = chance.choice(("Which parameters does `{}` take?", "What are the arguments of `{}`?"))
    return _draft(question.format(section.heading), ", ".join(names), section, section.fact("signature"))


def default(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """What a parameter is when it is not given."""
    given = [(name, value) for name, value in _parameters(section.fact("signature")) if value]
    if not _callable(section) or not given:
        return None
    name, value = chance.choice([pair for pair in given if pair[1] != "None"] or given)
    question = chance.choice(("What is the default of `{}` in `{}`?", "Which value does `{}` of `{}` have by default?"))
    return _draft(question.format(name, section.heading), value, section, section.fact("signature"))


def summary(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """What it does, in the documentation's own first sentence."""
    answer = _summary(section)
    if not answer:
        return None
    forms = {"module": ("What is the module `{}` for?",), "class": ("What is `{}`?", "What is the class `{}` for?")}
    question = chance.choice(forms.get(section.fact("kind"), ("What does `{}` do?", "What is `{}` for?")))
    return _draft(question.format(section.heading), answer, section)


def module(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """Where it is imported from."""
    home = section.fact("module")
    own = section.heading.removeprefix(home + ".")
    if section.fact("kind") == "module" or not home or own == section.heading:
        return None
    if chance.random() < 0.5:
        return _draft(f"Which module is `{own}` in?", home, section, section.heading)
    line = f"from {home} import {own.partition('.')[0]}"
    return _draft(f"How do I import `{own}`?", line, section, section.heading)


def related(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """What else the same module has, as far as the context shows it."""
    others = [other for other in beside if is_python(other.document) and other.fact("kind") != "module"]
    if section.fact("kind") == "module" or not others:
        return None
    shown = chance.sample(others, min(len(others), chance.randint(1, MAX_LISTED - 1)))
    mixed = _shuffled((section, *shown), chance)
    answer = ", ".join(other.heading for other in mixed if other is not section)
    question = chance.choice(("What is related to `{}`?", "What else is there besides `{}`?"))
    return Draft(question.format(section.heading), answer, mixed, evidence=answer.partition(",")[0])


def find(section: Section, beside: Sequence[Section], chance: random.Random) -> Draft | None:
    """Which name a description belongs to, among neighbours."""
    wanted = _summary(section)
    others = [other for other in beside if is_python(other.document) and _summary(other) not in ("", wanted)]
    own = section.heading.rpartition(".")[2]
    if not wanted or own in wanted or section.fact("kind") == "module" or not others:
        return None
    mixed = _shuffled((section, *chance.sample(others, min(len(others), MAX_LISTED - 1))), chance)
    what = wanted[0].lower() + wanted[1:].rstrip(".") if wanted[1:2].islower() else wanted.rstrip(".")
    question = chance.choice(("What can I use for this: {}?", "Which name stands for this: {}?"))
    return Draft(question.format(what), section.heading, mixed, evidence=section.heading)


PYTHON_RULES: Mapping[str, Rule] = {
    rule.__name__: rule for rule in (signature, parameters, default, summary, module, related, find)
}


def _draft(question: str, answer: str, section: Section, evidence: str = "") -> Draft:
    return Draft(question, answer, (section,), evidence or answer)


def _callable(section: Section) -> bool:
    return is_python(section.document) and "(" in section.fact("signature")


def _summary(section: Section) -> str:
    """Return the first sentence of a summary when it says something, else an empty string."""
    text = " ".join(section.fact("summary").split()) if is_python(section.document) else ""
    first = re.split(r"(?<=[.!?]) (?=[A-Z])", text)[0]
    telling = len(first.split()) >= 3 and "(" not in first.partition(" ")[0] and not first.endswith(":")
    return first if telling and len(first) <= MAX_ANSWER_CHARACTERS else ""


def _shuffled(sections: Sequence[Section], chance: random.Random) -> tuple[Section, ...]:
    return tuple(chance.sample(sections, len(sections)))


def _parameters(signature: str) -> list[tuple[str, str]]:
    """Return (name, default or "") of each parameter but self and cls; none if it cannot be read.

    >>> _parameters("dumps(obj, *, indent=None, **kw)")
    [('obj', ''), ('indent', 'None'), ('kw', '')]
    """
    inside = signature[signature.find("(") :] if "(" in signature else ""
    try:
        parsed = ast.parse(f"def f{inside}: ...")
    except (SyntaxError, ValueError):
        return []
    function = parsed.body[0]
    if not isinstance(function, ast.FunctionDef):
        return []
    args = function.args
    plain = [*args.posonlyargs, *args.args]
    values = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    found = list(zip(plain, values, strict=True))
    found += [(args.vararg, None)] if args.vararg else []
    found += list(zip(args.kwonlyargs, args.kw_defaults, strict=True))
    found += [(args.kwarg, None)] if args.kwarg else []
    return [(a.arg, ast.unparse(value) if value else "") for a, value in found if a.arg not in ("self", "cls")]
