"""A factory that makes several products: each has its own steps, tables, deployment and engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError, NotFound
from bessemer.products.config import FactoryConfig
from bessemer.products.declaration import parse_declaration
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.products.line import SIZES, build_line

TWO = """name: shop
size: tiny
sources: [{kind: folder, path: documents}]
tables:
  orders: {kind: file, path: orders.csv}
products:
  short: {pairs: {train_questions: 8}}
  long: {kind: llm}
"""


def parse(text: str) -> FactoryConfig:
    return parse_declaration(text, "factory.yaml", FactoryConfig, SIZES)


@pytest.fixture
def factory(tmp_path: Path) -> Factory:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "tea.md").write_text("# Tea\n\nA drink.\n")
    (tmp_path / "orders.csv").write_text("id,user\n1,ada\n")
    return Factory(parse(TWO), tmp_path, Home(tmp_path / "home"))


def test_products_share_what_is_taken_in_and_have_their_own_steps(factory: Factory) -> None:
    flow = build_line(factory.declared, factory.products())
    names = [step.name for step in flow.steps]
    assert names.count("ingest") == names.count("curate") == names.count("table_orders") == 1
    assert {"short.train", "long.train"} <= set(names)
    needs = {step.name: step.needs for step in flow.steps}
    assert needs["short.pairs"] == ("curate",)
    assert needs["long.train"] == ("long.base", "long.pairs")
    tables = {step.name: step.config.table for step in flow.steps if step.name.endswith(".pairs") and step.config}  # type: ignore[attr-defined]
    assert tables == {"short.pairs": "shop.short.examples", "long.pairs": "shop.long.examples"}


def test_the_dial_is_laid_under_each_product(factory: Factory) -> None:
    short, long = factory.config.made.values()
    assert short.pairs.train_questions == 8
    assert long.pairs.train_questions == SIZES["tiny"]["llm"]["pairs"]["train_questions"]
    assert short.train == long.train


def test_without_a_deployment_there_is_nothing_to_serve(factory: Factory) -> None:
    with pytest.raises(NotFound, match="'long' is deployed"):
        asyncio.run(asyncio.to_thread(factory.open_engines))


WITH_TOOLS = """name: shop
sources: [{kind: folder, path: documents}]
tables: {orders: {kind: file, path: orders.csv}}
products:
  assistant: {kind: llm}
  recommend: {kind: recommender, events: orders}
  clerk:
    kind: agent
    model: assistant
    tools:
      - {kind: recommender, product: recommend}
      - {kind: search, table: curated}
      - {kind: sql, tables: [orders, shop.orders, documents, assistant.examples, archive.orders]}
"""


@pytest.mark.parametrize(
    ("was", "wrong", "said"),
    [
        (
            "product: recommend",
            "product: ranker",
            "line 11: products.clerk.tools[0].product: no recommender 'ranker' is",
        ),
        ("product: recommend", "product: assistant", "declared before 'clerk'; there is: recommend"),
        ("  recommend:", "  zz-top:", "no recommender 'recommend' is declared before 'clerk'; there is: zz-top"),
        ("table: curated", "table: pages", "line 12: products.clerk.tools[1].table: no table 'pages' is declared here"),
        ("[orders,", "[items,", "line 13: products.clerk.tools[2].tables: no table 'items' is declared here"),
        ("shop.orders", "shop.items", "no table 'shop.items' is declared here; there is: orders, documents, curated"),
    ],
)
def test_a_tool_that_reads_what_is_not_declared_is_refused_before_anything_is_made(
    was: str, wrong: str, said: str
) -> None:
    assert len(parse(WITH_TOOLS).made) == 3, "what is declared, another product's and another factory's are read"
    with pytest.raises(ConfigError) as caught:
        parse(WITH_TOOLS.replace(was, wrong, 1))
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO + "product: {kind: llm}\n", "`product` or `products`"),
        (TWO.replace("long:", "Long:"), "products.Long"),
        (TWO.replace("{kind: llm}", "{kind: lm}"), "line 8: products.long"),
        (TWO.replace("{kind: llm}", "{bas: x}"), "did you mean 'base'?"),
        (TWO.replace("{kind: llm}", "{embeddings: {name: short}}"), "the name 'short' is taken"),
        (TWO.replace("path: orders.csv", "pth: orders.csv"), "line 5: tables.orders.pth: unknown key 'pth'"),
    ],
)
def test_a_mistake_in_several_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert said in caught.value.message


def test_an_agent_by_itself_has_no_recommender_and_no_table() -> None:
    alone = "name: clerk\nproduct:\n  kind: agent\n  learn: {}\n  practice: {}\n  tools: [{kind: %s}]\n"
    for kind, key in (("recommender", "product"), ("search", "table"), ("sql", "tables")):
        with pytest.raises(ConfigError, match=rf"line 6: product.tools\[0\].{key}: no .*; there is: none"):
            parse(alone % kind)
