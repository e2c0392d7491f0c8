"""Opens an agent: its model, its tools, and where its runs and sessions are written down.

Owns which declared tool becomes which capability. Knows no wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Any, cast

from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Usage
from bessemer.evals import World
from bessemer.infer import OpenVinoConfig, open_engine
from bessemer.infer.agents import AgentEngine, AgentParts, Capability, callable_tool
from bessemer.infer.agents.calculator import calculator
from bessemer.infer.agents.records import ANY, open_records
from bessemer.infer.agents.sandbox import python_tool
from bessemer.products.agent.config import (
    AgentProductConfig,
    DomainTool,
    FunctionTool,
    McpTool,
    PythonTool,
    RecommenderTool,
    SearchTool,
    SqlTool,
    ToolConfig,
)
from bessemer.products.agent.domain import find_domain
from bessemer.products.agent.lake_tools import open_lake_tool
from bessemer.products.agent.outside import open_mcp
from bessemer.products.agent.recommending import recommend_with
from bessemer.products.agent.steps import told
from bessemer.products.home import AGENT_RECORDS, Deployment
from bessemer.products.product import Opening, Place


def open_agent(config: AgentProductConfig, place: Place, deployment: Deployment, opening: Opening) -> AgentEngine:
    """Return the agent of a declaration.

    Raises:
        NotFound: its model, a table or a product that a tool needs is not there.
        ConfigError: a tool cannot be opened as declared.
        Unsupported: this machine does not give the isolation that a tool asks for.
        MissingDependency: a tool's package is not installed.
    """
    engine: Any
    if config.learn:
        engine = open_engine(OpenVinoConfig(path=deployment.path, prefix_caching=True))
    elif config.model in opening.engines:
        engine = opening.engines[config.model]
    else:
        raise NotFound(f"the model '{config.model}' of '{place.name}' is not served", hint="`bessemer run` makes it.")
    settings, rates = config.agent.model_copy(update={"name": place.name}), config.rates
    if config.practice:
        settings = told(settings, find_domain(config.practice.domain).instructions)
    opening.state.mkdir(parents=True, exist_ok=True)
    priced = bool(rates.input_micros or rates.output_micros)
    parts = AgentParts(
        price=_price(rates.input_micros, rates.output_micros) if priced else None,
        energy=(lambda usage: usage.total_tokens * rates.joules_per_token) if rates.joules_per_token else None,
        journal=open_records(f"sqlite:///{opening.state.absolute() / AGENT_RECORDS}", config.records),
        asks=config.model,
        margin_tokens=_margin(config, place),
        owns=config.learn is not None,
        quotes=frozenset({ANY} if _reads(config, place) else ()),
    )
    capabilities = [each for tool in config.tools for each in open_tool(tool, place, opening)]
    return AgentEngine(engine, capabilities, settings, parts)


def open_tool(tool: ToolConfig, place: Place, opening: Opening) -> Sequence[Capability]:
    """Return the capabilities that a declared tool comes to; see `open_agent` for what it raises."""
    openers: dict[str, Callable[[], Sequence[Capability]]] = {
        "calculator": lambda: [calculator()],
        "python": lambda: [python_tool(cast(PythonTool, tool).sandbox)],
        "function": lambda: [_function(cast(FunctionTool, tool))],
        "domain": lambda: _domain(cast(DomainTool, tool)),
        "recommender": lambda: [_recommender(cast(RecommenderTool, tool), opening)],
        "mcp": lambda: open_mcp(cast(McpTool, tool), opening.secret),
        "search": lambda: [open_lake_tool(cast(SearchTool, tool), place, opening)],
        "sql": lambda: [open_lake_tool(cast(SqlTool, tool), place, opening)],
    }
    return openers[tool.kind]()


def _margin(config: AgentProductConfig, place: Place) -> int:
    """Return how many tokens the model may read besides what it is asked: never more than the bytes of its passages."""
    return 512 + 4 * _reads(config, place)


def _reads(config: AgentProductConfig, place: Place) -> int:
    """Return how many characters of documents the model reads before it answers, which nobody tells apart then."""
    retrieval = getattr(getattr(place.products.get(config.model), "config", None), "retrieval", None)
    return int(retrieval.max_characters) if retrieval and retrieval.passages else 0


def _price(read: int, written: int) -> Callable[[Usage], float]:
    return lambda usage: (usage.input_tokens * read + usage.output_tokens * written) / 1e6


def _function(tool: FunctionTool) -> Capability:
    try:
        found = resolve_name(tool.run)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"the tool '{tool.run}' cannot be found: {error}", hint="Write package.module:name."
        ) from error
    if isinstance(found, Capability):
        return found
    if not callable(found):
        raise ConfigError(f"'{tool.run}' is no function", hint="Name a function whose parameters have types.")
    return callable_tool(effects=tool.effects, approval=tool.approval)(found)


def _domain(tool: DomainTool) -> list[Capability]:
    domain = find_domain(tool.run)
    return list(domain.tools(World(domain.start)))


def _recommender(tool: RecommenderTool, opening: Opening) -> Capability:
    if tool.product not in opening.engines:
        told = f"the recommender '{tool.product}' is not served"
        raise NotFound(told, hint="Declare it before the agent; `bessemer run` makes it.")
    return recommend_with(opening.engines[tool.product], tool.product, tool.name, tool.items)
