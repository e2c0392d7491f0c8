"""The line of a factory: what it takes in and all its products, as one flow.

Owns which kinds of products there are and the order in which they are made: as declared, so that one may be made of
those before it. What the steps do stands with each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated

from pydantic import Field

from bessemer.flow import Flow, Step
from bessemer.lake import CurateConfig, SourceConfig, open_lake
from bessemer.lake.table_sources import TableSourceConfig
from bessemer.products.agent.config import AgentProductConfig
from bessemer.products.intake import IntakePlace, document_steps, table_step
from bessemer.products.llm import config as llm
from bessemer.products.llm.config import LlmConfig
from bessemer.products.product import LakeState, Place, Product
from bessemer.products.recommender import config as recommender
from bessemer.products.recommender.config import RecommenderConfig
from bessemer.products.synthetic.config import SyntheticConfig

_DIALS = {"llm": llm.SIZES, "recommender": recommender.SIZES}
SIZES = {size: {kind: sizes[size] for kind, sizes in _DIALS.items()} for size in llm.SIZES}
"""For each value of the one size dial, what it implies by kind of product; what the declaration says wins."""

ProductConfig = Annotated[
    LlmConfig | RecommenderConfig | AgentProductConfig | SyntheticConfig, Field(discriminator="kind")
]
"""The union of the kinds' declarations, told apart by `kind`."""

_KINDS = {
    "llm": "bessemer.products.llm.product:LlmProduct",
    "recommender": "bessemer.products.recommender.product:RecommenderProduct",
    "agent": "bessemer.products.agent.product:AgentProduct",
    "synthetic": "bessemer.products.synthetic.product:SyntheticProduct",
}
"""For each kind, the class that is opened with a declaration and a place."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a factory's line is made from.

    Attributes:
        name: of the factory.
        sources: of its documents.
        curate: which documents are dropped.
        tables: of rows, by name.
        products: by name, in their order.
        base: the folder that relative paths start from.
        lake_url: where the tables are.
        events: the gateway's store of events; None keeps none.
        rankings: its store of shown rankings; None keeps none.
    """

    name: str
    sources: tuple[SourceConfig, ...]
    curate: CurateConfig
    tables: Mapping[str, TableSourceConfig]
    products: Mapping[str, ProductConfig]
    base: Path
    lake_url: str
    events: Path | None = None
    rankings: Path | str | None = None


def copies(products: Mapping[str, ProductConfig]) -> list[str]:
    """Return the names of the products that are copies of tables, of which clients may ask more rows."""
    return [name for name, made in products.items() if isinstance(made, SyntheticConfig) and made.tables]


def open_products(declared: Declared) -> dict[str, Product]:
    """Return the products of a factory, by name; nothing is made yet."""
    alone = len(declared.products) == 1 and declared.name in declared.products
    found: dict[str, Product] = {}
    for name, config in declared.products.items():
        place = Place(
            factory=declared.name,
            name=name,
            alone=alone,
            base=declared.base,
            lake_url=declared.lake_url,
            tables={table: f"table_{table}" for table in declared.tables},
            products=dict(found),
            events=declared.events,
            rankings=declared.rankings,
        )
        found[name] = resolve_name(_KINDS[config.kind])(config, place)
    return found


def build_line(declared: Declared, products: Mapping[str, Product], erased: tuple[str, ...] = ()) -> Flow:
    """Return the flow of a factory.

    Args:
        declared: the factory.
        products: of it, from `open_products`; for some of them alone, which are made of tables, no document is read.
        erased: ids of documents that must not be read again.

    Raises:
        NotFound: a source, a base model or a table's file does not exist.
        ConfigError: a source has nothing to read.
    """
    lake = open_lake(declared.lake_url)
    state = LakeState(f"{declared.lake_url} {lake.identity()}", lambda table: str(lake.erasures(table)))
    place = IntakePlace(declared.name, declared.base, state, erased)
    steps: list[Step] = []
    if declared.sources and products.keys() == declared.products.keys():
        steps += document_steps(place, declared.sources, declared.curate)
    steps += [table_step(place, name, source) for name, source in declared.tables.items()]
    for product in products.values():
        steps += product.steps(state)
    return Flow(declared.name, tuple(steps))
