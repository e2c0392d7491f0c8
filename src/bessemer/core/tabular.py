"""Tables with typed columns: what is declared of them, and the form in which rooms hand them to each other.

Owns the schema, the constraints and the relations; knows no file, no array library and no model. The values of a
`Column` are a NumPy array: this module only passes it on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from bessemer.core.config import Config, explain, refusal
from bessemer.core.errors import ConfigError, NotFound

ColumnKind = Literal["numerical", "integer", "categorical", "boolean", "datetime", "id"]
NUMERIC: frozenset[str] = frozenset({"numerical", "integer", "datetime"})
"""Kinds whose values are float64, NaN where missing; a datetime is Unix seconds. The others are codes of categories."""

Bound = float | datetime | None
UUID = "uuid"
_UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class ColumnConfig(Config):
    """What a column holds.

    Attributes:
        kind: how its values are read, modelled and written.
        low: the least value that there may be, declared and not learnt; a number, or a time in ISO 8601.
        high: the greatest.
        decimals: how many a numerical value is rounded to; None leaves it as it comes.
        categories: all values that there may be, declared and not learnt; empty are those of the data.
        written: how values are written to a file: as they stand, as whole numbers, as dates without time.
        pattern: of a text id: ``uuid``, or a prefix and the digits of a counter such as ``C{:05d}``.
    """

    kind: ColumnKind = "categorical"
    low: Bound = None
    high: Bound = None
    decimals: Annotated[int, Field(ge=0, le=15)] | None = None
    categories: tuple[str, ...] = ()
    written: Literal["text", "integer", "date"] = "text"
    pattern: str = ""

    @property
    def numeric(self) -> bool:
        """Whether values are numbers rather than codes."""
        return self.kind in NUMERIC

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The declared bounds as numbers; times are Unix seconds, in UTC unless they say otherwise."""
        return _number(self.low), _number(self.high)


def _number(bound: Bound) -> float | None:
    if isinstance(bound, datetime):
        return (bound if bound.tzinfo else bound.replace(tzinfo=UTC)).timestamp()
    return bound


Columns = Annotated[tuple[str, ...], Field(min_length=1)]
Name = Annotated[str, Field(min_length=1)]


class Range(Config):
    """A number or time lies between two bounds; with `strict`, not on them."""

    kind: Literal["range"] = "range"
    column: Name = ""
    low: Bound = None
    high: Bound = None
    strict: bool = False

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The bounds as numbers."""
        return _number(self.low), _number(self.high)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it speaks of."""
        return (self.column,)


class Positive(Config):
    """A number is above zero, or not below it where `strict` is false."""

    kind: Literal["positive"] = "positive"
    column: Name = ""
    strict: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it speaks of."""
        return (self.column,)


class Inequality(Config):
    """The value of one column is at most that of another, or below it where `strict`; missing values satisfy it."""

    kind: Literal["inequality"] = "inequality"
    low: Name = ""
    high: Name = ""
    strict: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it speaks of."""
        return (self.low, self.high)


class Unique(Config):
    """No two rows have the same values in these columns."""

    kind: Literal["unique"] = "unique"
    columns: Columns = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it speaks of."""
        return self.columns


class FixedCombinations(Config):
    """Only combinations of values that the data has may stand in a row, such as a city with its country."""

    kind: Literal["fixed_combinations"] = "fixed_combinations"
    columns: Annotated[tuple[str, ...], Field(min_length=2)] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it speaks of."""
        return self.columns


Constraint = Annotated[Range | Positive | Inequality | Unique | FixedCombinations, Field(discriminator="kind")]


class TableDeclaration(Config):
    """What a person says of a table; what is left out is seen from the data.

    Attributes:
        columns: some of them, by name.
        primary_key: a column of ids that tells rows apart; empty is none.
        sequence_key: the column that says whose sequence a row is part of; empty if rows are no sequences.
        sequence_order: the numeric column that a sequence is ordered by.
        constraints: what every row satisfies.
    """

    columns: dict[str, ColumnConfig] = Field(default_factory=dict)
    primary_key: str = ""
    sequence_key: str = ""
    sequence_order: str = ""
    constraints: tuple[Constraint, ...] = ()

    def with_columns(self, columns: Mapping[str, ColumnConfig]) -> TableSchema:
        """Return the schema of a table that has these columns.

        Raises:
            ConfigError: a key or a constraint names a column that is not there.
        """
        try:
            return TableSchema.model_validate({**self.model_dump(), "columns": dict(columns)})
        except ValidationError as error:
            raise ConfigError(explain(error)[0][1]) from error


class TableSchema(TableDeclaration):
    """A declaration of all columns of a table, in order."""

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for at, constraint in enumerate(self.constraints):
            for name in constraint.names:
                if name not in self.columns:
                    raise refusal(("constraints", at), self.unknown(name))
        for role in ("primary_key", "sequence_key", "sequence_order"):
            if (name := getattr(self, role)) and name not in self.columns:
                raise refusal((role,), self.unknown(name))
        return self

    def unknown(self, name: str) -> str:
        """Return what to say of a column that is not there."""
        return f"there is no column '{name}'; the columns are: {', '.join(self.columns)}"


class Relation(Config):
    """Rows of one table belong to rows of another: ``child.key`` names ``parent``'s primary key."""

    parent: Name = ""
    child: Name = ""
    key: Name = ""


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one column.

    Attributes:
        config: what they are.
        values: float64 (rows) with NaN where missing if the kind is numeric; else int32 codes (rows), -1 missing.
        categories: what the codes mean, as text; empty for numeric kinds.
    """

    config: ColumnConfig
    values: Any
    categories: tuple[str, ...] = ()

    def take(self, rows: Any) -> Column:
        """Return the column with the rows of an index array or mask."""
        return Column(self.config, self.values[rows], self.categories)


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one length, with their schema."""

    schema: TableSchema
    columns: Mapping[str, Column]
    rows: int

    def take(self, rows: Any) -> Table:
        """Return the table with the rows of an index array."""
        return Table(self.schema, {name: column.take(rows) for name, column in self.columns.items()}, len(rows))

    def column(self, name: str) -> Column:
        """Return a column.

        Raises:
            NotFound: there is none of that name.
        """
        if name not in self.columns:
            raise NotFound(self.schema.unknown(name))
        return self.columns[name]


def related(tables: Mapping[str, TableSchema], relations: tuple[Relation, ...]) -> tuple[str, ...]:
    """Return the names of tables so that parents stand before their children.

    Raises:
        ConfigError: a relation names what is not there, a parent has no primary key, or relations form a ring.
    """
    for relation in relations:
        for name in (relation.parent, relation.child):
            if name not in tables:
                raise ConfigError(f"a relation names the table '{name}'", hint=f"Known: {', '.join(tables)}.")
        if relation.key not in tables[relation.child].columns:
            raise ConfigError(f"{relation.child}: {tables[relation.child].unknown(relation.key)}")
        if not tables[relation.parent].primary_key:
            raise ConfigError(f"'{relation.parent}' is a parent without a primary key", hint="Declare `primary_key`.")
    ordered: list[str] = []
    left = list(tables)
    while left:
        free = [name for name in left if all(r.parent in ordered for r in relations if r.child == name)]
        if not free:
            raise ConfigError(f"the relations between {', '.join(left)} form a ring", hint="Leave one of them out.")
        ordered += free
        left = [name for name in left if name not in free]
    return tuple(ordered)


def id_pattern(values: Sequence[str]) -> str:
    """Return the pattern of ids, empty if there is none.

    >>> id_pattern(["C0001", "C0017"])
    'C{:04d}'
    """
    if not values:
        return ""
    if all(_UUID_TEXT.fullmatch(value) for value in values):
        return UUID
    parts = [re.fullmatch(r"(.*?)(\d+)", value, re.DOTALL) for value in values]
    if not all(parts) or len({part[1] for part in parts if part}) > 1:
        return ""
    prefix = parts[0][1] if parts[0] else ""
    widths = {len(part[2]) for part in parts if part}
    width = widths.pop() if len(widths) == 1 else 0
    return prefix.replace("{", "{{").replace("}", "}}") + (f"{{:0{width}d}}" if width else "{:d}")
