"""What a factory's declaration says, from sources to the served products, and where it is read from.

Owns the shape and what has to fit together in it. Wires nothing.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bessemer.core.config import Config, refusal
from bessemer.core.errors import NotFound
from bessemer.lake import CurateConfig, SourceConfig
from bessemer.lake.table_sources import TableSourceConfig
from bessemer.meter import MeterConfig
from bessemer.products.agent.config import AgentProductConfig, RecommenderTool, SearchTool, SqlTool
from bessemer.products.declaration import parse_declaration, read_declaration
from bessemer.products.line import SIZES, ProductConfig
from bessemer.products.llm.config import LlmConfig
from bessemer.products.recommender.config import RecommenderConfig
from bessemer.serve import GatewayConfig, JobsConfig
from bessemer.twin.terms import Expected
from bessemer.twin.workload import Workload

BUILTIN = "pydocs"


class PlanConfig(Config):
    """What the planner is told of a factory.

    Attributes:
        work: what it is asked about; what the product itself asks for if nothing is named.
        expected: what it takes for granted of the product until runs say otherwise.
    """

    work: tuple[Workload, ...] = ()
    expected: Expected = Expected()


ProductName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
TableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class FactoryConfig(Config):
    """The whole line, from sources to the served products.

    Attributes:
        name: of the factory, its tables and its only product; lower case, digits and dashes.
        size: the one dial; it implies values of products that this declaration does not give.
        sources: where documents come from.
        curate: which of them are dropped.
        tables: of rows, by name: events, customers, whatever products are made from that is no text.
        product: what is made, if it is one thing.
        products: what is made, by name, if it is several; each may be made of those before it.
        lake_url: where all tables are: a path, or an object store's URL such as ``s3://bucket/folder``;
            empty keeps them in the home.
        gateway: how it is served.
        jobs: what clients may leave to be done: files, fine-tuning jobs, batches.
        meter: where and at what price energy is used.
        plan: what the planner is told.
    """

    name: ProductName
    size: Literal["tiny", "small", "medium"] = "small"
    sources: tuple[SourceConfig, ...] = ()
    curate: CurateConfig = CurateConfig()
    tables: dict[TableName, TableSourceConfig] = Field(default_factory=dict)
    product: ProductConfig = LlmConfig()
    products: dict[ProductName, ProductConfig] = Field(default_factory=dict)
    lake_url: str = ""
    gateway: GatewayConfig = GatewayConfig()
    jobs: JobsConfig = JobsConfig()
    meter: MeterConfig = MeterConfig()
    plan: PlanConfig = PlanConfig()

    @property
    def made(self) -> dict[str, ProductConfig]:
        """What is made, by name."""
        return self.products or {self.name: self.product}

    @property
    def llm(self) -> LlmConfig | None:
        """The first language model."""
        return next((product for product in self.made.values() if isinstance(product, LlmConfig)), None)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.products and "product" in self.model_fields_set:
            raise refusal(("products",), "give `product` or `products`, one of them")
        models = [
            *self.made,
            *(p.embeddings.served_name for p in self.made.values() if isinstance(p, LlmConfig) and p.embeddings),
        ]
        if twice := next((name for name in models if models.count(name) > 1), ""):
            where = ("products",) if self.products else ("product", "embeddings", "name")
            raise refusal(where, f"the name '{twice}' is taken: another model has that name; give this one another")
        if self.llm and not self.sources:
            raise refusal(("sources",), "field required: say where a language model's documents come from")
        for name, product in self.made.items():
            if isinstance(product, AgentProductConfig):
                self._finds(("products", name) if self.products else ("product",), name, product)
        return self

    def _finds(self, where: tuple[str, ...], agent: str, product: AgentProductConfig) -> None:
        """Refuse a tool of an agent that reads what is not declared: it would be missed only when all else is made.

        A table with a dot in its name is another product's or factory's, which the lake alone knows.
        """
        before = list(self.made.items())[: list(self.made).index(agent)]
        rankers = [name for name, one in before if isinstance(one, RecommenderConfig)]
        tables = [*self.tables, *(("documents", "curated") if self.sources else ())]
        for number, tool in enumerate(product.tools):
            if isinstance(tool, RecommenderTool) and tool.product not in rankers:
                told = f"no recommender '{tool.product}' is declared before '{agent}'"
                raise refusal((*where, "tools", number, "product"), f"{told}; there is: {', '.join(rankers) or 'none'}")
            named = tool.tables if isinstance(tool, SqlTool) else (tool.table,) if isinstance(tool, SearchTool) else ()
            for table in named:
                own = table.removeprefix(f"{self.name}.")
                if "." not in own and own not in tables:
                    key = "tables" if isinstance(tool, SqlTool) else "table"
                    told = f"no table '{table}' is declared here; there is: {', '.join(tables) or 'none'}"
                    raise refusal((*where, "tools", number, key), told)


def load_factory(path: Path | None) -> tuple[FactoryConfig, Path]:
    """Return a declaration and the folder that its relative paths start from; None is the built-in example.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is not a valid declaration; the message names the line.
    """
    if path is not None:
        return read_declaration(path, FactoryConfig, SIZES), path.absolute().parent
    text = builtin_declaration()
    return parse_declaration(text, f"the built-in factory {BUILTIN}", FactoryConfig, SIZES), Path.cwd()


def builtin_declaration() -> str:
    """Return the text of the built-in example; in a checkout it stands under `examples/`."""
    shipped = files("bessemer.products").joinpath("examples", f"{BUILTIN}.yaml")
    if shipped.is_file():
        return shipped.read_text(encoding="utf-8")
    checkout = Path(__file__).parents[3] / "examples" / BUILTIN / "factory.yaml"
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    raise NotFound("the built-in factory is not installed", hint="Install the package again.")
