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
