"""What a factory declares about an agent: its model, its tools, where it practises, and what must hold.

Owns the declaration of this product. Imports configs only, so that it stays light.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from bessemer.core.acting import Effects
from bessemer.core.config import Config, refusal
from bessemer.evals.gate import BetterThan, GateConfig
from bessemer.evals.trials import TrialsConfig
from bessemer.infer.agents.config import AgentConfig, RetentionConfig
from bessemer.infer.agents.sandbox_config import SandboxConfig
from bessemer.infer.config import CompileConfig
from bessemer.train.config import SftConfig

_PATH = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
_VARIABLE = r"^([A-Za-z_][A-Za-z0-9_]*)?$"
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class CalculatorTool(Config):
    """Arithmetic."""

    kind: Literal["calculator"] = "calculator"


class PythonTool(Config):
    """Python in a process that can reach nothing.

    Attributes:
        sandbox: what it may take; the isolation that is asked for is given, or the agent is not opened.
    """

    kind: Literal["python"] = "python"
    sandbox: SandboxConfig = SandboxConfig()


class SearchTool(Config):
    """Search in a table of documents: by words (BM25), and by meaning too where an encoder is named.

    With an encoder the line makes vectors of the table's passages; what both ways find is put in one order by
    reciprocal ranks. Without one nothing is found that shares no word with the question.

    Attributes:
        table: of the lake, or the name of one of the factory's own tables.
        name: of the tool.
        column: that is searched; empty: a document's title and text.
        rows: that are found at most.
        encoder: name of a model for vectors that a product before has as its `embeddings`; empty searches by words.
    """

    kind: Literal["search"] = "search"
    table: Annotated[str, Field(min_length=1)] = "documents"
    name: Name = "search"
    column: str = ""
    rows: Annotated[int, Field(ge=1, le=50)] = 3
    encoder: str = ""


class SqlTool(Config):
    """SQL that reads, over tables of the lake: nothing else can be read and nothing written.

    Attributes:
        tables: of the lake, or the factory's own by their names.
        rows: that an answer has at most.
        seconds: after which a query is stopped.
        memory_bytes: that it may take.
    """

    kind: Literal["sql"] = "sql"
    tables: Annotated[tuple[str, ...], Field(min_length=1)] = ("documents",)
    rows: Annotated[int, Field(ge=1, le=1000)] = 20
    seconds: Annotated[float, Field(gt=0, le=600)] = 2.0
    memory_bytes: Annotated[int, Field(ge=1 << 24)] = 1 << 28


class RecommenderTool(Config):
    """The recommendations of a product that is declared before.

    Attributes:
        product: its name.
        name: of the tool.
        items: that it recommends at most.
    """

    kind: Literal["recommender"] = "recommender"
    product: Annotated[str, Field(min_length=1)] = "recommend"
    name: Name = "recommend"
    items: Annotated[int, Field(ge=1, le=100)] = 5


class FunctionTool(Config):
    """A Python function of yours, decorated with `callable_tool` or not.

    Attributes:
        run: ``package.module:function``.
        effects: what it does to the world: none; what may be done twice with the same key; what may not.
        approval: whether each call must be approved.
    """

    kind: Literal["function"] = "function"
    run: Annotated[str, Field(pattern=_PATH)] = "mine.functions:function"
    effects: Effects = "none"
    approval: bool = False


class McpTool(Config):
    """The tools of an MCP server: a command that is started here, or a URL.

    Attributes:
        command: program and arguments of a server that speaks on its standard streams.
        url: of a server that speaks streamable HTTP; one of the two.
        token_variable: environment variable with the token that the server wants; it never reaches the model.
        only: the only tools that are taken; all if none is named.
        effects: what its tools do to the world; a server's own word that a tool only reads is not believed.
        approval: whether each call must be approved.
        seconds: of a call.
    """

    kind: Literal["mcp"] = "mcp"
    command: tuple[str, ...] = ()
    url: Annotated[str, Field(pattern=r"^(https?://[^\s@]+)?$")] = ""
    token_variable: Annotated[str, Field(pattern=_VARIABLE)] = ""
    only: tuple[str, ...] = ()
    effects: Effects = "once"
    approval: bool = False
    seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0

    @model_validator(mode="after")
    def _is_somewhere(self) -> McpTool:
        if bool(self.command) == bool(self.url):
            raise refusal(("command",), "give a command or a url, one of them")
        return self


class DomainTool(Config):
    """The tools of a domain, over its first world, which lives as long as the gateway does.

    Attributes:
        run: ``package.module:NAME`` of a `Domain`.
    """

    kind: Literal["domain"] = "domain"
    run: Annotated[str, Field(pattern=_PATH)] = "bessemer.products.agent.desk:DESK"


ToolConfig = Annotated[
    CalculatorTool | PythonTool | SearchTool | SqlTool | RecommenderTool | FunctionTool | McpTool | DomainTool,
    Field(discriminator="kind"),
]


class PracticeConfig(Config):
    """Where the agent is tried before it is served.

    Attributes:
        domain: ``package.module:NAME`` of a `Domain`.
        heldout: tasks that it is judged by.
        trials: how often each is tried, and how.
        seed: of the tasks.
    """

    domain: Annotated[str, Field(pattern=_PATH)] = "bessemer.products.agent.desk:DESK"
    heldout: Annotated[int, Field(ge=1, le=10_000)] = 60
    trials: TrialsConfig = TrialsConfig()
    seed: Annotated[int, Field(ge=0)] = 0


class LearnConfig(Config):
    """How a model of the agent's own is made from tasks that were solved.

    Attributes:
        base: as an ``llm``'s.
        tasks: whose verified solutions it learns from.
        train: supervised fine-tuning.
        compile: the weights that are served.
    """

    base: str = "smollm2-135m-instruct"
    tasks: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    train: SftConfig = SftConfig(max_length_tokens=1024, batch_tokens=512, learning_rate=1.5e-3, max_tokens=26_000)
    compile: CompileConfig = CompileConfig()


class TokenRates(Config):
    """What tokens come to, for budgets in money and joules: declared, so as good as whoever declares them.

    Attributes:
        input_micros: millionths of a currency unit for a million tokens that are read.
        output_micros: the same for tokens that are written.
        joules_per_token: of either; the receipt of an ``llm`` says what its tokens took.
    """

    input_micros: Annotated[int, Field(ge=0)] = 0
    output_micros: Annotated[int, Field(ge=0)] = 0
    joules_per_token: Annotated[float, Field(ge=0)] = 0.0


class AgentProductConfig(Config):
    """An agent: a model with tools, served like any model.

    Attributes:
        model: name of a product that is declared before; empty: its own, which `learn` makes.
        agent: how it goes about it, and its budgets.
        tools: what it can call.
        practice: where it is tried; none is served without a trial, and the receipt says so.
        learn: makes a model of its own from solved tasks.
        gate: what must hold on held-out tasks.
        rates: what tokens come to, for budgets in money and joules.
        records: how long sessions and runs are kept.
    """

    kind: Literal["agent"] = "agent"
    model: str = ""
    agent: AgentConfig = AgentConfig()
    tools: tuple[ToolConfig, ...] = ()
    practice: PracticeConfig | None = None
    learn: LearnConfig | None = None
    gate: GateConfig = GateConfig(rules=(BetterThan(metric="solved"),))
    rates: TokenRates = TokenRates()
    records: RetentionConfig = RetentionConfig()

    @field_validator("gate")
    @classmethod
    def _metrics_exist(cls, gate: GateConfig) -> GateConfig:
        for number, rule in enumerate(gate.rules):
            if rule.metric != "solved" and not rule.metric.startswith("pass^"):
                raise refusal(("rules", number, "metric"), f"an agent has no metric '{rule.metric}': solved, pass^k")
        return gate

    @model_validator(mode="after")
    def _has_a_model(self) -> AgentProductConfig:
        if bool(self.model) == (self.learn is not None):
            raise refusal(("model",), "name a product that is declared before, or say how to `learn`: one of them")
        if self.learn and not self.practice:
            raise refusal(("practice",), "field required: an agent learns from the tasks of a domain")
        return self
