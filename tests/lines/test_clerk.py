"""The shop's clerk asks the shop's ranker, behind a gateway: what it did, what was booked, and what that costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bessemer.core.nouns import ChatRequest, Message
from bessemer.flow.executors import EXECUTORS, InlineExecutor
from bessemer.infer import EchoConfig, open_engine
from bessemer.products.config import FactoryConfig, load_factory
from bessemer.products.counted import Counted
from bessemer.products.declaration import parse_declaration
from bessemer.products.factory import Factory
from bessemer.products.home import Deployment, Home
from bessemer.products.line import SIZES, open_products
from bessemer.products.llm.config import LlmConfig
from bessemer.products.product import Opening
from bessemer.serve import GatewayConfig, KeyStore, create_app
from tests.infer.agents.scripted import Scripted

from .conftest import Line

SHOP = Path(__file__).parents[2] / "examples" / "shop"
PRICES = SHOP / "prices.toml"
SAYS = ([("recommend", {"user": "c00001", "n": 3})], "Take the first.")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Factory, FactoryConfig]:
    """Give the example's factory with a small shop, of which the ranker is made, and the example's declaration."""
    text = (SHOP / "factory.yaml").read_text("utf-8")
    text = text.replace("users: 400, items: 200, events: 16000", "users: 150, items: 80, events: 4000")
    whole = parse_declaration(text, "factory.yaml", FactoryConfig, SIZES)
    folder = tmp_path_factory.mktemp("clerk")
    (folder / PRICES.name).write_bytes(PRICES.read_bytes())
    ranker = whole.model_copy(update={"sources": (), "products": {"recommend": whole.products["recommend"]}})
    return ran(Factory(ranker, folder, Home(folder / "home"))), whole


def ran(made: Factory) -> Factory:
    """Return a factory whose line was run; torch is imported once, not by each of its steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXECUTORS, "process", InlineExecutor)
        made.run()
    return made


def clerk_of(made: Factory, whole: FactoryConfig, engines: dict[str, Any]) -> Any:
    """Return the example's clerk, with all its tools, and a given model in place of one that it would train."""
    clerk = whole.products["clerk"].model_copy(update={"model": "assistant", "learn": None, "practice": None})
    declared = replace(made.declared, products={"assistant": LlmConfig(), **whole.products, "clerk": clerk})
    opening = Opening(made.lake_url, engines, made.home.product("clerk"))
    done = Deployment(name="clerk", run="r", key="k", path=".", deployed_at=0)
    return open_products(declared)["clerk"].open(done, opening)["clerk"]


def test_what_the_clerk_had_ranked_is_told_booked_and_charged(
    shop: tuple[Factory, FactoryConfig], serve_app: Callable[[Any], AbstractContextManager[str]]
) -> None:
    made, whole = shop
    engines, counted = made.open_engines(), Counted()
    engines["assistant"] = Scripted(*SAYS)
    engines["clerk"] = clerk_of(made, whole, engines)
    keys = KeyStore(made.home.path / "keys.sqlite")
    _, secret = keys.create("shop")
    with made.open_meter() as meter:
        meter.counted = counted
        app = create_app(GatewayConfig(), engines, keys, meter)
        with serve_app(app) as url, httpx2.Client(base_url=url, timeout=60) as client:
            client.headers["authorization"] = f"Bearer {secret}"
            asked = {"model": "clerk", "messages": [{"role": "user", "content": "What next?"}], "include": ["acts"]}
            said = client.post("/v1/chat/completions", json=asked).json()
            alone = client.post("/v1/recommendations", json={"model": "recommend", "user": "c00001", "n": 3}).json()
        for name, engine in engines.items():
            asyncio.run(engine.close())
            counted.closed(name, engine)
    keys.close()
    message = said["choices"][0]["message"]
    assert message["content"] == "Take the first."
    assert [(act["kind"], act["name"]) for act in message["acts"]] == [
        ("model", "scripted"), ("tool", "recommend"), ("model", "scripted"),
    ]  # fmt: skip
    told = json.loads(message["acts"][1]["output"])
    assert [each["item"] for each in told] == [each["item"] for each in alone["data"]], (
        "of that customer, by that ranker"
    )
    assert len(told) == 3 and all(each["reason"] for each in told)
    line = Line(made.home.path, PRICES)
    used = {row["model"]: row["units"] for row in line.json("usage") if row["what"] == "requests"}
    assert used == {"clerk": 3, "recommend": 3}
    bill = line.json("costs", "--prices", str(PRICES))
    units = {row["model"]: (row["quantity"], row["amount_micros"]) for row in bill if row["item"] == "units"}
    assert units == {"clerk": (3, 60), "recommend": (3, 60)}, "an item costs the same, whoever asked for it"
    line.call("reconcile", "--books", "--prices", str(PRICES))


async def test_the_page_s_first_declaration_runs_as_it_stands_but_for_the_model_that_it_trains(tmp_path: Path) -> None:
    page = (SHOP.parents[1] / "docs" / "howto" / "agents.md").read_text("utf-8")
    (tmp_path / "factory.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    whole, base = load_factory(tmp_path / "factory.yaml")
    ranker = whole.model_copy(update={"products": {"recommend": whole.products["recommend"]}})
    made = await asyncio.to_thread(ran, Factory(ranker, base, Home(tmp_path / "home")))
    says = [("find_order", {"order_id": "A17"}), ("recommend", {}), ("sql", {"sql": "SELECT count(*) FROM items"})]
    engines = {**made.open_engines(), "assistant": Scripted([*says, ("calculator", {"expression": "6*7"})], "Done.")}
    clerk = clerk_of(made, whole, engines)
    answer = await clerk.respond(ChatRequest(messages=(Message(role="user", content="Where is order A17?"),)))
    done = [act for act in answer.acts if act.kind == "tool"]
    assert [(act.name, act.error) for act in done] == [(name, "") for name, _ in [*says, ("calculator", {})]]
    assert "Iris Jones" in done[0].output and "[[100]]" in done[2].output and "42" in done[3].output
    for engine in (clerk, *engines.values()):
        await engine.close()


async def test_a_model_that_calls_what_a_question_names_reaches_the_ranker(shop: tuple[Factory, FactoryConfig]) -> None:
    made, whole = shop
    engines = {**made.open_engines(), "assistant": open_engine(EchoConfig())}
    clerk = clerk_of(made, whole, engines)
    answer = await clerk.respond(ChatRequest(messages=(Message(role="user", content="Please recommend"),)))
    assert [act.name for act in answer.acts if act.kind == "tool"] == ["recommend"] and answer.usage.units == 1
    for engine in (clerk, *engines.values()):
        await engine.close()
