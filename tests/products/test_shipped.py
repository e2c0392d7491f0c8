"""The declarations that are shipped, and those that pages tell a reader to write: each is whole as it stands."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

from bessemer.infer import EchoConfig, open_engine
from bessemer.products.agent.config import AgentProductConfig, RecommenderTool
from bessemer.products.agent.serving import open_tool
from bessemer.products.config import FactoryConfig, load_factory
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.products.llm.config import LlmConfig
from bessemer.products.product import Opening, Place
from bessemer.products.recommender.config import RecommenderConfig
from bessemer.products.template import write_template

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "agents.md"
SHIPPED = {path.parent.name: path for path in sorted((ROOT / "examples").glob("*/factory.yaml"))}
ELSEWHERE = {"built in": None, "init": Path("written by init"), "agents.md": PAGE}


def page_blocks() -> list[str]:
    """Return the declarations that the page of agents shows: a whole one first."""
    return re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture(params=[*SHIPPED, *ELSEWHERE])
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    path = {**SHIPPED, **ELSEWHERE}[request.param]
    if request.param == "init":
        path = write_template(tmp_path / "mine")
        (path.parent / "documents" / "tea.md").write_text("# Tea\n\nA drink.\n")
    elif request.param == "agents.md":
        path = tmp_path / "factory.yaml"
        path.write_text(page_blocks()[0])
    config, base = load_factory(path)
    return Factory(config, base, Home(tmp_path / "home"))


def test_its_line_is_built_and_each_step_is_there_to_run(factory: Factory) -> None:
    products = factory.products()
    flow = factory.line(products)
    assert {f"table_{name}" for name in factory.config.tables} <= {step.name for step in flow.steps}
    for step in flow.steps:
        assert callable(resolve_name(step.run))
        assert all(find_spec(module) for module in step.code)
    assert {product.served for product in products.values()} <= {step.name for step in flow.steps}


async def test_its_tools_are_opened(factory: Factory, tmp_path: Path) -> None:
    agents = {name: one for name, one in factory.config.made.items() if isinstance(one, AgentProductConfig)}
    rankers = {name: open_engine(EchoConfig()) for name, one in factory.config.made.items()
               if isinstance(one, RecommenderConfig)}  # fmt: skip
    place = Place(factory.config.name, "agent", False, tmp_path, factory.lake_url, {}, {})
    opening = Opening(factory.lake_url, rankers, tmp_path / "state")
    for agent in agents.values():
        told = [tool for tool in agent.tools if tool.kind not in ("sql", "search")]  # whose tables a run makes first
        opened = [each for tool in told for each in open_tool(tool, place, opening)]
        assert len({each.tool.name for each in opened}) == len(opened) >= len(told) > 0
        for each in opened:
            if each.close:
                await each.close()


def test_its_price_book_names_its_products_and_leaves_no_unit_free(factory: Factory) -> None:
    config = factory.config
    with factory.open_meter() as meter:
        prices = meter.prices
    if not config.meter.price_book:
        return
    assert prices.models.keys() <= config.made.keys(), "a price that nothing is charged by"
    for name, product in config.made.items():
        tools = product.tools if isinstance(product, AgentProductConfig) else ()
        ranks = any(isinstance(tool, RecommenderTool) for tool in tools)
        if ranks or not isinstance(product, LlmConfig | AgentProductConfig):
            assert prices.price(name)[0].unit > 0, f"what {name} delivers by the unit is free"


def test_the_wheel_has_no_declaration_that_is_not_tried_here() -> None:
    told = (ROOT / "pyproject.toml").read_text("utf-8")
    assert re.findall(r'"bessemer/products/examples/(.*?)"', told) == ["pydocs.yaml"], "what `built in` above loads"


def test_the_page_s_other_tools_can_be_declared() -> None:
    (more,) = [block for block in page_blocks() if block.startswith("tools:")]
    agent = AgentProductConfig.model_validate({"model": "m", **yaml.safe_load(more)})
    clerk = FactoryConfig.model_validate(yaml.safe_load(page_blocks()[0])).made["clerk"]
    assert isinstance(clerk, AgentProductConfig)
    assert len({tool.kind for tool in (*agent.tools, *clerk.tools)}) == 8, "each kind once"
