"""The columns of a dataset that a model writes, and what a row must be to be accepted: declarations only.

A text with ``{name}`` in it depends on the column of that name. Owns the declarations and the order that they imply.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bessemer.core.config import Config, refusal
from bessemer.core.nouns import Tool

MOST_CHARACTERS = 100_000
"""Of one cell or one prompt: columns made of columns grow by powers, so a short declaration could fill any memory."""

_TOKEN_CHARACTERS = 8
"""Of a token that a model writes, at most in the long run: English has about 4."""
_ASIDE_CHARACTERS = 100
"""Of what is said in a prompt besides, at most: the scale of a mark, or the letters of what is preferred."""
_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
Text = Annotated[str, Field(min_length=1)]
ColumnName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Drawn(Config):
    """One of some values, by chance; `weights` are relative, empty is all alike."""

    kind: Literal["drawn"] = "drawn"
    values: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if self.weights and (len(self.weights) != len(self.values) or not sum(self.weights)):
            raise ValueError("give one weight for each value, and one above zero")
        return self


class Number(Config):
    """A number between two bounds, by chance, with so many decimals."""

    kind: Literal["number"] = "number"
    low: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    high: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    decimals: Annotated[int, Field(ge=0, le=12)] = 0

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not math.isfinite(self.high - self.low):
            raise ValueError("the bounds lie too far apart to draw between them")
        return self


class Given(Config):
    """A field of the rows that are given to write about, such as the text of a passage."""

    kind: Literal["given"] = "given"
    field: Text = "text"


class Template(Config):
    """A text with other columns in it."""

    kind: Literal["template"] = "template"
    text: Text = ""


class Written(Config):
    """What the model answers to a prompt.

    Attributes:
        prompt: with other columns in it.
        system: what the model is told first.
        temperature: 0 takes the likeliest.
        max_output_tokens: of the answer.
        json_schema: the answer is JSON of this schema; the engine must be able to.
        field: of that JSON; empty takes all of it.
    """

    kind: Literal["written"] = "written"
    prompt: Text = ""
    system: str = ""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] = 128
    json_schema: dict[str, Any] | None = None
    field: str = ""


class Calls(Config):
    """The tool calls that the model makes upon a prompt, as a JSON list; a row without a call is rejected."""

    kind: Literal["calls"] = "calls"
    prompt: Text = ""
    system: str = ""
    tools: Annotated[tuple[Tool, ...], Field(min_length=1)] = ()
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] = 128


class Judged(Config):
    """A mark from 1 to `best` that the model gives; rows below `at_least` are rejected, as are answers without one.

    Attributes:
        prompt: with what is judged in it; the scale is told besides.
    """

    kind: Literal["judged"] = "judged"
    prompt: Text = ""
    best: Annotated[int, Field(ge=2, le=10)] = 5
    at_least: Annotated[int, Field(ge=1, le=10)] = 3


class Preferred(Config):
    """Which of two columns the model prefers, as its name. It is asked in both orders; who is not of one mind rejects.

    Attributes:
        prompt: what the answers are to.
        one: a column.
        other: another.
    """

    kind: Literal["preferred"] = "preferred"
    prompt: Text = ""
    one: ColumnName = "one"
    other: ColumnName = "other"


WritingColumn = Annotated[
    Drawn | Number | Given | Template | Written | Calls | Judged | Preferred, Field(discriminator="kind")
]


class Length(Config):
    """A text has so many characters."""

    kind: Literal["length"] = "length"
    column: ColumnName = "text"
    least: Annotated[int, Field(ge=0)] = 1
    most: Annotated[int, Field(ge=1)] = 10_000


class Pattern(Config):
    """A text matches a regular expression somewhere; or nowhere, where `absent`."""

    kind: Literal["pattern"] = "pattern"
    column: ColumnName = "text"
    pattern: Text = "."
    absent: bool = False


class Differs(Config):
    """Two texts differ, spaces and capitals aside."""

    kind: Literal["differs"] = "differs"
    columns: Annotated[tuple[ColumnName, ...], Field(min_length=2, max_length=2)] = ("one", "other")


class Grounded(Config):
    """So large a share of the words of a text stands in another one, such as an answer's in its passage."""

    kind: Literal["grounded"] = "grounded"
    column: ColumnName = "answer"
    within: ColumnName = "passage"
    least_ratio: Annotated[float, Field(gt=0, le=1)] = 0.6


Validator = Annotated[Length | Pattern | Differs | Grounded, Field(discriminator="kind")]


class TalkShape(Config):
    """Rows as conversations to learn from: a question and its answer."""

    kind: Literal["talk"] = "talk"
    user: ColumnName = "question"
    assistant: ColumnName = "answer"
    system: str = ""


class PreferenceShape(Config):
    """Rows as a prompt with a chosen and a rejected answer; `preferred` is a column of that kind."""

    kind: Literal["preference"] = "preference"
    user: ColumnName = "question"
    preferred: ColumnName = "preferred"


class CallShape(Config):
    """Rows as a request and the tool calls upon it; `calls` is a column of that kind."""

    kind: Literal["calls"] = "calls"
    user: ColumnName = "request"
    calls: ColumnName = "calls"


class PlainShape(Config):
    """Rows with all columns as they are."""

    kind: Literal["plain"] = "plain"


Shape = Annotated[TalkShape | PreferenceShape | CallShape | PlainShape, Field(discriminator="kind")]


class WritingConfig(Config):
    """A dataset that a model writes.

    Attributes:
        columns: by name; a text in braces names another column, which is then made before.
        validators: what a row must be besides.
        shape: what is written of each accepted row.
        rows: accepted ones that are wanted.
        attempts: rows that are tried at most, for each that is wanted.
        concurrency: rows that are written at once.
        unique: columns whose combination no two rows may share; empty are all that are written.
        seed: of what is drawn, and of the model where it takes one.
    """

    columns: Annotated[dict[ColumnName, WritingColumn], Field(min_length=1)] = Field(
        default_factory=lambda: dict[str, WritingColumn](text=Drawn(values=("",)))
    )
    validators: tuple[Validator, ...] = ()
    shape: Shape = PlainShape()
    rows: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    attempts: Annotated[int, Field(ge=1, le=100)] = 4
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    unique: tuple[ColumnName, ...] = ()
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _is_a_graph(self) -> Self:
        known = ", ".join(self.columns)
        for name, column in self.columns.items():
            for needed in needs(column):
                if needed not in self.columns:
                    raise refusal(("columns", name), f"names '{{{needed}}}', but the columns are: {known}")
        order = ordered(self.columns)
        if len(order) < len(self.columns):
            ring = ", ".join(name for name in self.columns if name not in order)
            raise refusal(("columns",), f"{ring} need each other in a ring")
        if told := too_long(self.columns):
            raise refusal(("columns", told[0]), told[1])
        places: list[tuple[tuple[str | int, ...], Any]] = [(("shape",), self.shape), (("unique",), self)]
        places += [(("validators", at), each) for at, each in enumerate(self.validators)]
        for where, named in places:
            for column_name in _named(named):
                if column_name not in self.columns:
                    raise refusal(where, f"names the column '{column_name}', but the columns are: {known}")
        _check_shape(self)
        return self


def _named(part: Any) -> tuple[str, ...]:
    if isinstance(part, WritingConfig):
        return part.unique
    if isinstance(part, Differs):
        return part.columns
    fields = ("column", "within", "user", "assistant", "preferred", "calls")
    return tuple(getattr(part, field) for field in fields if hasattr(part, field))


def _check_shape(config: WritingConfig) -> None:
    shape, kind, name = config.shape, "", ""
    if isinstance(shape, PreferenceShape):
        kind, name = "preferred", shape.preferred
    elif isinstance(shape, CallShape):
        kind, name = "calls", shape.calls
    if kind and config.columns[name].kind != kind:
        raise refusal(("shape",), f"'{name}' is {config.columns[name].kind}, not {kind}")


def needs(column: WritingColumn) -> tuple[str, ...]:
    """Return the columns that a column is made of.

    >>> needs(Template(text="{city} in {country}"))
    ('city', 'country')
    """
    texts = [getattr(column, field, "") for field in ("text", "prompt", "system")]
    found = [name for text in texts for name in _PLACE.findall(text)]
    if isinstance(column, Preferred):
        found += [column.one, column.other]
    return tuple(dict.fromkeys(found))


def ordered(columns: Mapping[str, WritingColumn]) -> tuple[str, ...]:
    """Return the names of columns so that each stands after those that it is made of; those of a ring are left out."""
    order: list[str] = []
    while free := [n for n, c in columns.items() if n not in order and all(need in order for need in needs(c))]:
        order += free
    return tuple(order)


def longest(columns: Mapping[str, WritingColumn], given: Mapping[str, int] | None = None) -> dict[str, tuple[int, int]]:
    """Return the most characters that each column's cell and its prompt, with its system text, can come to.

    Args:
        columns: by name, without a ring.
        given: field of the given rows -> characters of its longest text; one that is not known counts none.

    >>> longest({"a": Drawn(values=("tea", "rain")), "b": Template(text="{a} or {a}")})
    {'a': (4, 0), 'b': (12, 0)}
    """
    cells: dict[str, int] = {}
    found: dict[str, tuple[int, int]] = {}
    for name in ordered(columns):
        column = columns[name]
        prompt = sum(_most(getattr(column, field, ""), cells) for field in ("prompt", "system"))
        if isinstance(column, Drawn):
            cells[name] = max(map(len, column.values))
        elif isinstance(column, Number):
            cells[name] = max(len(str(int(bound))) for bound in (column.low, column.high)) + column.decimals + 2
        elif isinstance(column, Given):
            cells[name] = (given or {}).get(column.field, 0)
        elif isinstance(column, Template):
            cells[name] = _most(column.text, cells)
        elif isinstance(column, Written | Calls):
            cells[name] = _TOKEN_CHARACTERS * column.max_output_tokens
        else:
            two = (column.one, column.other) if isinstance(column, Preferred) else ()
            cells[name] = max(2, *map(len, two)) if two else 2
            prompt += _ASIDE_CHARACTERS + sum(cells[each] for each in two)
        found[name] = cells[name], prompt
    return found


def _most(text: str, cells: Mapping[str, int]) -> int:
    """Return the most characters of a text with cells in it."""
    return len(text) + sum(cells[match[1]] - len(match[0]) for match in _PLACE.finditer(text))


def too_long(columns: Mapping[str, WritingColumn], given: Mapping[str, int] | None = None) -> tuple[str, str] | None:
    """Return the first column whose cell or prompt may be too long, and a sentence that says so; None if none may."""
    for name, sizes in longest(columns, given).items():
        if (most := max(sizes)) > MOST_CHARACTERS:
            what = "cell" if most == sizes[0] else "prompt"
            return name, f"a {what} of '{name}' may have {most:,} characters of {MOST_CHARACTERS:,} at most"
    return None


def filled(text: str, row: Mapping[str, Any]) -> str:
    """Return a text with the values of a row in it; braces that name no column stay.

    >>> filled("{a} and {b}", {"a": 1})
    '1 and {b}'
    """
    return _PLACE.sub(lambda match: str(row.get(match[1], match[0])), text)
