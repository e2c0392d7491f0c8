"""The agent's whole line by itself: a tiny model learns from solved tasks, is judged, served, billed and replayed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from bessemer.core.acting import Asker
from bessemer.core.nouns import ChatRequest, Message, Sampling
from bessemer.flow.executors import EXECUTORS, InlineExecutor
from bessemer.infer.agents.replay import replay
from bessemer.products.config import load_factory
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.products.receipt import FactsPart, Receipt
from tests.infer.conftest import make_llama

from .conftest import Line

DECLARED = """name: porter
product:
  kind: agent
  tools: [{kind: domain, run: "tests.lines.bells:BELLS"}]
  agent: {budget: {steps: 4, tokens: 4000, step_tokens: 40}}
  practice: {domain: "tests.lines.bells:BELLS", heldout: 12, trials: {attempts: 2, k: 2, temperature: 0.3}}
  learn:
    base: ./tiny
    tasks: 64
    compile: {weights: fp16}
    train:
      {rank: 32, alpha: 64, learning_rate: 0.003, batch_tokens: 1024, max_tokens: 40000, max_length_tokens: 512,
       epochs: 100, precision: fp32}
  gate: {rules: [{kind: better_than, metric: solved, than: base}]}
"""
SEEN = """Ring.\n\nAnswer in JSON: {"tool_calls": [{"name": NAME, "arguments": ARGUMENTS}]} calls functions,
{"answer": TEXT} answers without. The functions are:\n{"name": "ring", "description": "Ring a bell.", "parameters":
{"additionalProperties": false, "required": ["room"], "type": "object", "properties": {"room": {"enum": ["red", "blue",
"green", "white"], "type": "string"}}}} {"tool_calls": [{"name": "ring", "arguments": {"room": "green"}}]} Bell number
please ok {"answer": "Done."} """
QUESTION: Any = [{"role": "user", "content": "Bell number 7 please"}]
FORM: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "which",
        "schema": {
            "type": "object",
            "properties": {"room": {"enum": ["red", "green"], "type": "string"}},
            "required": ["room"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp("porter")
    shape = {"hidden_size": 128, "intermediate_size": 256, "initializer_range": 0.15, "max_position_embeddings": 1024}
    make_llama(folder / "tiny", SEEN, **shape)
    (folder / "factory.yaml").write_text(DECLARED, encoding="utf-8")
    return Line(folder / "state", folder / "factory.yaml")


@pytest.fixture(scope="module")
def receipt(line: Line) -> Receipt:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXECUTORS, "process", InlineExecutor)  # torch is imported once, not by each of four steps
        return Factory(*load_factory(line.factory), Home(line.home)).run()


@pytest.fixture(scope="module")
def served(line: Line, receipt: Receipt) -> Iterator[dict[str, Any]]:
    root = str(Path(__file__).resolve().parents[2])
    environment = {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    with line.up(environment=environment) as (_, said):
        yield said


def test_it_learns_from_solved_tasks_and_passes_its_gate(receipt: Receipt) -> None:
    (part,) = receipt.products
    assert isinstance(part, FactsPart) and part.deployed and part.compared == "base"
    found = {each.metric: (each.before, each.after) for each in part.metrics}
    assert found == {"solved": (0.0, 1.0), "pass^2": (0.0, 1.0)}, "each of 12 tasks twice, by a model that was trained"
    facts = dict(part.facts)
    assert facts["trials"].startswith("24 of 24 attempts") and facts["learnt from"].startswith("64 verified")
    assert receipt.lineage[0].what.endswith("weights for openvino") and receipt.total


def test_it_is_served_billed_and_forgets_when_asked(line: Line, served: dict[str, Any]) -> None:
    billed = 0
    with openai.OpenAI(base_url=f"{served['url']}/v1", api_key=served["key"], max_retries=0) as client:
        asked: Any = {"model": "porter", "messages": QUESTION, "temperature": 0}
        whole = client.chat.completions.create(**asked, extra_body={"include": ["acts"]})
        acts = whole.choices[0].message.model_dump()["acts"]
        assert [(act["kind"], act.get("arguments")) for act in acts] == [
            ("model", None), ("tool", '{"room": "green"}'), ("model", None),
        ]  # fmt: skip
        assert whole.choices[0].message.content == "Done."
        said = client.responses.create(model="porter", input=QUESTION, temperature=0, include=["acts"])  # type: ignore[list-item]
        assert [item.type for item in said.output] == ["mcp_call", "message"] and said.output_text == "Done."
        formed = client.chat.completions.create(**asked, response_format=FORM)
        assert json.loads(formed.choices[0].message.content or "")["room"] in ("red", "green")
        run = {"metadata": {"run": "r1", "session": "s1"}}
        first = client.chat.completions.create(**asked, extra_body=run)
        again = client.chat.completions.create(**asked, extra_body=run)
        assert again.choices[0].message.content == first.choices[0].message.content == "Done."
        assert again.usage and again.usage.total_tokens == 0, "what was done is not done twice"
        for each in (whole, formed, first):
            billed += each.usage.total_tokens if each.usage else 0
        billed += said.usage.total_tokens if said.usage else 0
        gone: Any = client.delete("/agents/porter/sessions/s1", cast_to=object)
        assert gone["deleted"] and gone["records"] == 2
    assert line.json("erase", "--sessions-of", "default") == {"sessions and runs of porter": 6}, "the run's records"
    (used,) = [row for row in line.json("usage", "--project", "default") if row["what"] == "requests"]
    assert (used["model"], used["entries"], used["input_tokens"] + used["output_tokens"]) == ("porter", 5, billed)
    assert used["joules"] > 0


async def test_what_it_did_can_be_played_again_and_the_books_balance(line: Line, receipt: Receipt) -> None:
    agent: Any = Factory(*load_factory(line.factory), Home(line.home)).open_engines()["porter"]
    asked = agent.of(Asker(project="p"))
    request = ChatRequest(messages=(Message(role="user", content=QUESTION[0]["content"]),), sampling=Sampling())
    answer = await asked.respond(request)
    assert [act.name for act in answer.acts if act.kind == "tool"] == ["ring"]
    again = await replay(asked.trajectory(), agent.engine, agent.config)
    assert again.differs_at is None, "by the real model, to the last bit"
    await agent.close()
    assert [check for check in line.json("reconcile", "--books") if not check["holds"]] == []
