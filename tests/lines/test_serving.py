"""A model that passed its gate, served and used by the unmodified official client."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import pytest

from bessemer.products.receipt import Receipt
from tests.programs import program

from .conftest import Line


@dataclass(frozen=True)
class Up:
    """A gateway that `bessemer up` runs."""

    url: str
    key: str

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)


@contextmanager
def serving(line: Line) -> Iterator[Up]:
    """Give the gateway that `bessemer up` runs for a block."""
    with line.up() as (process, said):
        key = said.get("key") or line.json("keys", "create", "--project", "shop")["key"]
        yield Up(said["url"], key)
    assert process.returncode == 0
    assert line.json("status")["gateway"] is None


@pytest.fixture(scope="module")
def up(line: Line, receipt: Receipt) -> Iterator[Up]:
    with serving(line) as gateway:
        yield gateway


PARTS = "users: 150, items: 80, events: 4000"
SHOP = f"""name: shop
size: tiny
tables:
  events: {{kind: shop, part: events, {PARTS}}}
  items: {{kind: shop, part: items, {PARTS}}}
  customers: {{kind: shop, part: customers, {PARTS}}}
sources: [{{kind: folder, path: documents}}]
products:
  assistant: {{kind: llm, gate: {{rules: [{{kind: at_least, metric: token_f1, value: 0.0}}]}}}}
  recommend: {{kind: recommender, items: items, models: [{{kind: ease, regularisation: 50}}]}}
  clerk:
    kind: agent
    model: assistant
    agent: {{budget: {{steps: 2}}}}
    tools: [{{kind: recommender, product: recommend}}, {{kind: sql, tables: [items]}}]
  twins:
    kind: synthetic
    tables: [customers]
    about: {{customers: {{primary_key: customer}}}}
    gate: {{rules: [{{kind: at_least, metric: exact_copies, value: 0.0}}]}}
meter: {{price_book: prices.toml}}
"""


# First, while no other gateway of this home runs: it would take the job, and charge it by its own price book.
def test_four_products_of_one_line_are_in_one_receipt_and_one_bill(line: Line, receipt: Receipt) -> None:
    shop = Line(line.home, line.factory.with_name("shop.yaml"))
    shop.factory.write_text(SHOP)
    prices = Path(__file__).parents[2] / "examples" / "shop" / "prices.toml"
    shop.factory.with_name("prices.toml").write_text(prices.read_text("utf-8"))
    made = shop.run()
    assert [(part.name, part.kind, part.deployed) for part in made.products] == [
        ("assistant", "llm", True),
        ("recommend", "recommender", True),
        ("clerk", "agent", True),
        ("twins", "synthetic", True),
    ]
    cached = {stage.step for stage in made.stages if stage.cached}
    assert {"assistant.base", "assistant.compile_base"} <= cached, "the other factory here made them"
    with serving(shop) as up, up.client() as client, httpx2.Client(base_url=up.url, timeout=120) as own:
        own.headers["authorization"] = f"Bearer {up.key}"
        assert {"assistant", "recommend", "clerk"} <= {model.id for model in client.models.list()}
        for model in ("assistant", "clerk"):
            ask = [{"role": "user", "content": "What would c00001 like?"}]
            client.chat.completions.create(model=model, messages=ask, max_tokens=24)
        shown = own.post("/v1/recommendations", json={"model": "recommend", "user": "c00001", "n": 5}).json()
        assert len(shown["data"]) == 5
        job = own.post("/v1/datasets", json={"model": "twins", "rows": 30}).json()
        until = time.monotonic() + 120
        while (told := own.get(f"/v1/datasets/{job['id']}").json())["status"] not in ("succeeded", "failed"):
            assert time.monotonic() < until
            time.sleep(0.5)
        assert told["status"] == "succeeded", told
    bill = shop.json("costs", "--prices", "prices.toml")
    units = {row["model"]: (row["quantity"], row["amount_micros"]) for row in bill if row["item"] == "units"}
    assert (units["recommend"], units["twins"]) == ((5, 100), (30, 6000))
    assert {"assistant", "clerk"} <= {row["model"] for row in bill if row["item"] == "output"}
    shop.call("reconcile", "--books", "--prices", "prices.toml")


def test_the_official_client_gets_an_answer_whole_and_streamed(up: Up, line: Line) -> None:
    with up.client() as client:
        assert [model.id for model in client.models.list()] == ["tools"]
        ask = [{"role": "user", "content": "What is a lantern?"}]
        whole = client.chat.completions.create(model="tools", messages=ask, temperature=0, max_tokens=24)
        pieces = list(
            client.chat.completions.create(
                model="tools",
                messages=ask,
                temperature=0,
                max_tokens=24,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert whole.choices[0].message.content
    assert text
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens > 0
    assert whole.usage is not None
    assert whole.usage.model_extra is not None
    assert whole.usage.model_extra["energy"]["joules"] > 0
    (mine,) = [row for row in line.json("usage") if row["what"] == "requests" and row["model"] == "tools"]
    assert mine["entries"] == 2
    assert mine["output_tokens"] == whole.usage.completion_tokens + pieces[-1].usage.completion_tokens


def test_the_model_reads_the_page_that_the_question_is_about(up: Up) -> None:
    with up.client() as client:
        asked = client.chat.completions.create(
            model="tools", messages=[{"role": "user", "content": "What is a sextant made of?"}], max_tokens=8
        )
    assert asked.usage is not None
    assert asked.usage.prompt_tokens > 40, "the passage was not put before the question"


def test_chat_asks_the_running_gateway(up: Up, line: Line) -> None:
    answer = line.json("chat", "-m", "What is a kiln?")
    assert answer["text"]
    assert answer["usage"]["output_tokens"] > 0
    shown = line.call("chat", "-m", "What is a kiln?").stdout
    assert "tokens" in shown


def test_ctrl_c_ends_a_talk(up: Up, line: Line) -> None:
    environment = {**line.environment, "PYTHONUNBUFFERED": "1"}
    with program(line.command("chat"), env=environment, cwd=line.factory.parent, stdin=subprocess.PIPE) as talk:
        assert talk.stdout is not None
        assert "tools listens" in talk.stdout.readline()
        until = time.monotonic() + 30
        while talk.poll() is None:  # Python's own `input` loses a signal that comes in the moment of its beginning
            assert time.monotonic() < until
            talk.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                talk.wait(2)
    assert talk.returncode == 0


def test_a_new_key_works_until_it_is_revoked(up: Up, line: Line) -> None:
    made = line.json("keys", "create", "--project", "shop")
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=made["key"], max_retries=0) as client:
        assert client.models.list().data
        line.call("keys", "revoke", made["id"])
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    assert made["key"] not in (line.home / "keys.sqlite").read_bytes().decode("latin-1")


def test_a_port_in_use_is_said_before_the_line_runs(up: Up, line: Line) -> None:
    port = up.url.rsplit(":", 1)[1]
    said = line.json("up", str(line.factory), "--port", port, status=1)["error"]
    assert "in use" in said["message"]
    assert "--port" in said["hint"]


def test_status_names_the_gateway(up: Up, line: Line) -> None:
    assert line.json("status")["gateway"]["url"] == up.url
