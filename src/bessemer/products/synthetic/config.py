"""What a factory declares about a synthetic dataset.

Owns the declaration of this product. Imports configs only, so that it stays light.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bessemer.core.config import Config, refusal
from bessemer.core.tabular import Relation, TableDeclaration
from bessemer.evals import AtLeast, GateConfig
from bessemer.lake.writing.columns import WritingConfig
from bessemer.train.tables.config import CopulaConfig

LEAK_TOLERANCE = 0.02
"""By how much rows may be told from others beyond chance, at the end of the interval that speaks least for it."""

USUAL_GATE = GateConfig(
    rules=(
        AtLeast(metric="column_shapes", value=0.85),
        AtLeast(metric="pair_trends", value=0.8),
        AtLeast(metric="exact_copies", value=0.0),
        AtLeast(metric="membership_leak", value=LEAK_TOLERANCE),
        AtLeast(metric="closeness_leak", value=LEAK_TOLERANCE),
    )
)
"""What must hold of every table unless a declaration says else."""

SIZES: dict[str, dict[str, Any]] = {size: {} for size in ("tiny", "small", "medium")}
"""A table's model is as large as the table is wide: the dial implies nothing here."""


class JudgeConfig(Config):
    """How a synthetic table is judged.

    Attributes:
        holdout_ratio: of the rows of each table that its model never sees, against which privacy and use are measured.
        target: table -> the column that a learner predicts from it; the last with few categories unless given.
        most_rows: that distances between rows are taken of.
    """

    holdout_ratio: Annotated[float, Field(gt=0, lt=0.9)] = 0.2
    target: dict[str, str] = Field(default_factory=dict)
    most_rows: Annotated[int, Field(ge=10, le=100_000)] = 2000


TEXT_GATE = GateConfig(
    rules=(
        AtLeast(metric="near_duplicates", value=0.05),
        AtLeast(metric="distinct_2", value=0.2),
        AtLeast(metric="contaminated", value=0.0),
    )
)
"""What must hold of texts that a model writes unless a declaration says else."""


class TextsConfig(Config):
    """Texts that a model writes.

    Attributes:
        model: the product, declared before, whose model writes; empty where no column needs one.
        given: the table whose rows are written about; empty is none.
        dataset: the columns and what is accepted.
        heldout: the table of texts that must not be repeated, such as those that a model will be asked about.
        heldout_field: which of its columns.
        gate: what must hold of them.
    """

    model: str = ""
    given: str = ""
    dataset: WritingConfig = WritingConfig()
    heldout: str = ""
    heldout_field: str = "text"
    gate: GateConfig = TEXT_GATE


class SyntheticConfig(Config):
    """A synthetic copy of tables, or texts that a model writes.

    Attributes:
        tables: which of the factory's tables are copied.
        texts: what a model writes instead; then no table is copied.
        about: table -> what is declared of it: kinds of columns, keys, bounds, constraints; the rest is seen.
        relations: which rows belong to which.
        rows: of each table without parents; the default is as many as the data has.
        fit: how the model is fitted, with differential privacy or without.
        judge: how what it makes is judged.
        gate: what must hold of each table before it may leave.
        seed: of all draws but the noise of differential privacy.
    """

    kind: Literal["synthetic"] = "synthetic"
    tables: tuple[str, ...] = ()
    texts: TextsConfig | None = None
    about: dict[str, TableDeclaration] = Field(default_factory=dict)
    relations: tuple[Relation, ...] = ()
    rows: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    fit: CopulaConfig = CopulaConfig()
    judge: JudgeConfig = JudgeConfig()
    gate: GateConfig = USUAL_GATE
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _tables_are_chosen(self) -> Self:
        if bool(self.tables) == bool(self.texts):
            raise ValueError("give `tables` to copy or `texts` to write, one of them")
        known = ", ".join(self.tables)
        for place in ("about", "judge.target"):
            named = self.about if place == "about" else self.judge.target
            for name in named:
                if name not in self.tables:
                    raise refusal((*place.split("."), name), f"'{name}' is not among this product's tables: {known}")
        for at, relation in enumerate(self.relations):
            for name in (relation.parent, relation.child):
                if name not in self.tables:
                    raise refusal(("relations", at), f"'{name}' is not among this product's tables: {known}")
        return self
