"""An agent behind the gateway: keys hold its tools, acts are told to those who ask, one entry has all its tokens."""

from __future__ import annotations

import importlib.util
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError

from bessemer.core.acting import Act
from bessemer.core.errors import Unsupported
from bessemer.core.nouns import Subject
from bessemer.infer.agents import AgentBudget, AgentConfig, AgentEngine, AgentParts, callable_tool
from bessemer.infer.agents.records import open_records
from bessemer.serve import GatewayConfig
from bessemer.serve.chat import chat_reader
from bessemer.serve.keys import Key
from bessemer.serve.observing import Seen
from bessemer.serve.privacy import Capture
from bessemer.serve.serving import Caller
from bessemer.serve.wire.responses import response_reader
from bessemer.serve.wire.store import AnswerStore

_spec = importlib.util.spec_from_file_location(
    "scripted", Path(__file__).parents[1] / "infer" / "agents" / "scripted.py"
)
assert _spec and _spec.loader
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

QUESTION: Any = [{"role": "user", "content": "What is twice 21?"}]
done: list[str] = []


@callable_tool(trusted=True)
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


@callable_tool(effects="once", approval=True)
def wipe(what: str) -> str:
    """Wipe something."""
    done.append(what)
    return f"wiped {what}"


def agent(*lines: Any, journal: Any = None) -> Any:
    model = _module.Scripted(*lines)
    config = AgentConfig(name="played", budget=AgentBudget(tokens=5_000))
    made = AgentEngine(model, [double, wipe], config, AgentParts(journal=journal))
    made.go_on = threading.Event()  # type: ignore[attr-defined]
    return made


LINES = ([("double", {"number": 21})], "It is 42.")


def test_it_answers_like_any_model_and_is_booked_once(start: Any) -> None:
    made = agent(*LINES, *LINES, *LINES)
    running = start(made)
    answer = running.client().chat.completions.create(model="played", messages=QUESTION)
    assert answer.choices[0].message.content == "It is 42."
    assert "acts" not in answer.choices[0].message.model_dump()
    (entry,) = running.meter.entries()
    assert entry.usage == made.engine.counters.total and answer.usage.total_tokens == entry.usage.total_tokens
    said = running.client().responses.create(model="played", input="What is twice 21?")
    assert said.output_text == "It is 42." and [item.type for item in said.output] == ["message"]
    pieces = list(running.client().chat.completions.create(model="played", messages=QUESTION, stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == "It is 42."
    assert sum(e.usage.total_tokens for e in running.meter.entries()) == made.counters.total.total_tokens


def test_its_acts_are_told_to_those_who_ask(start: Any) -> None:
    running = start(agent(*LINES, *LINES, *LINES, *LINES))
    client, asked = running.client(), {"include": ["acts"]}
    answer = client.chat.completions.create(model="played", messages=QUESTION, extra_body=asked)
    acts = answer.choices[0].message.model_dump()["acts"]
    assert [(act["kind"], act["name"], act.get("output")) for act in acts][1] == ("tool", "double", "42")
    pieces = client.chat.completions.create(model="played", messages=QUESTION, stream=True, extra_body=asked)
    streamed = [act for p in pieces for act in p.choices[0].delta.model_dump().get("acts") or ()]
    assert [act["name"] for act in streamed] == ["scripted", "double", "scripted"]
    said = client.responses.create(model="played", input="What is twice 21?", include=["acts"])  # type: ignore[list-item]
    assert [item.type for item in said.output] == ["mcp_call", "message"]
    call: Any = said.output[0]
    assert (call.name, call.arguments, call.output, call.error) == ("double", '{"number": 21}', "42", None)
    events = client.responses.create(model="played", input="Twice 21?", stream=True, include=["acts"])  # type: ignore[list-item]
    final = next(event for event in events if event.type == "response.completed").response
    assert [item.type for item in final.output] == ["mcp_call", "message"]


def test_a_key_holds_the_tools(start: Any) -> None:
    made = agent([("wipe", {"what": "disk"})], "No.")
    running = start(made)
    _, secret = running.keys.create("few", models=["played", "played/double"])
    running.client(secret).chat.completions.create(
        model="played", messages=QUESTION, metadata={"tools": "wipe", "approve": "call_1_0"}
    )
    assert [tool.name for tool in made.engine.asked[0].tools] == ["double"] and not done
    _, wrong = running.keys.create("wrong", models=["played", "played/triple"])
    with pytest.raises(APIStatusError, match="triple"):
        running.client(wrong).chat.completions.create(model="played", messages=QUESTION)
    _, other = running.keys.create("none", models=["other"])
    with pytest.raises(APIStatusError) as refused:
        running.client(other).chat.completions.create(model="played", messages=QUESTION)
    assert refused.value.status_code in (403, 404)


def test_a_run_waits_for_approval_and_goes_on_over_the_wire(start: Any, tmp_path: Path) -> None:
    done.clear()
    records = open_records(f"sqlite:///{tmp_path}/records.sqlite")
    running = start(agent([("wipe", {"what": "disk"})], "Done.", journal=records))
    ask = running.client().chat.completions.create
    waits = ask(model="played", messages=QUESTION, metadata={"run": "r1"})
    assert "approval" in waits.choices[0].message.content and not done
    answer = ask(model="played", messages=QUESTION, metadata={"run": "r1", "approve": "call_1_0"})
    assert answer.choices[0].message.content == "Done." and done == ["disk"]
    again = ask(model="played", messages=QUESTION, metadata={"run": "r1"})
    assert again.choices[0].message.content == "Done." and done == ["disk"] and again.usage.total_tokens == 0
    with pytest.raises(APIStatusError) as refused:
        ask(model="played", messages=[{"role": "user", "content": "Other."}], metadata={"run": "r1"})
    assert refused.value.status_code == 409
    records.close()


def test_a_project_deletes_its_own_sessions_and_runs(start: Any, tmp_path: Path) -> None:
    records = open_records(f"sqlite:///{tmp_path}/records.sqlite")
    running = start(agent(*LINES, *LINES, *LINES, journal=records))
    clients = {project: running.client(running.keys.create(project)[1]) for project in ("shop", "docs")}
    for client in clients.values():
        client.chat.completions.create(model="played", messages=QUESTION, metadata={"session": "a/b", "run": "r"})
    _, few = running.keys.create("shop", models=["other"])

    def delete(path: str, client: Any) -> Any:
        return client.delete(f"/agents/{path}", cast_to=dict)

    for path, client in (("played/sessions/none", clients["shop"]), ("other/runs/r", clients["shop"]),
                         ("played/sessions/a/b", running.client(few))):  # fmt: skip
        with pytest.raises(APIStatusError) as refused:
            delete(path, client)
        assert refused.value.status_code == 404
    told = delete("played/sessions/a/b", clients["shop"])
    assert told == {"id": "a/b", "object": "agent.session.deleted", "deleted": True, "records": 2}
    assert delete("played/runs/r", clients["shop"])["deleted"]
    with pytest.raises(APIStatusError):
        delete("played/sessions/a/b", clients["shop"])
    assert delete("played/sessions/a/b", clients["docs"])["records"] == 2, "another project's was left alone"
    records.close()


async def test_its_worst_case_is_what_a_hard_budget_reserves() -> None:
    made = agent(*[[("double", {"number": 1})]] * 50)
    caller = Caller(Key(id="k", project="p", created_at=0), "req_1", 0, GatewayConfig(), {"played": made})
    order = await chat_reader(None)(json.dumps({"model": "played", "messages": QUESTION}).encode(), caller)
    most = made.config.budget.most()
    assert (order.most.input_tokens, order.most.output_tokens) == (most.input_tokens, most.output_tokens)
    answer = await order.engine.respond(order.wanted[0])
    assert answer.finish_reason == "length" and len(made.engine.asked) > 1
    assert (
        answer.usage.input_tokens <= order.most.input_tokens and answer.usage.output_tokens <= order.most.output_tokens
    )


async def test_what_a_project_keeps_no_words_of_has_no_sessions(tmp_path: Path) -> None:

    key = Key(id="k", project="p", created_at=0)
    caller = Caller(key, "req_1", 0, GatewayConfig(), {"played": agent()})
    for number, kept in enumerate((Capture(stores=False), Capture(pii="mask"), Capture())):
        store = AnswerStore(tmp_path / f"{number}.sqlite", capture=lambda project, kept=kept: kept)
        for reader, words in ((chat_reader, {"messages": QUESTION}), (response_reader, {"input": "Hi"})):
            body = json.dumps({"model": "played", **words, "metadata": {"session": "s"}}).encode()
            if kept == Capture():
                await reader(store)(body, caller)
                continue
            with pytest.raises(Unsupported, match="no words"):
                await reader(store)(body, caller)
        store.close()


def test_each_act_is_a_span_below_the_request_s() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from bessemer.serve.tracing import Traces

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    seen = Seen(Subject(kind="request", id="r", model="clerk"), 100.0)
    seen.seconds, seen.status = 3.0, "ok"
    seen.acts = (
        Act(number=0, kind="model", name="m", output="private words", began=100.0, seconds=1.0),
        Act(
            number=1,
            kind="tool",
            name="sql",
            call_id="c",
            arguments="private",
            error="late",
            began=101.0,
            seconds=1.0,
        ),
    )
    traces = Traces(provider)
    traces.ended(seen)
    told = {span.name: span for span in spans.get_finished_spans()}
    assert set(told) == {"invoke_agent clerk", "chat m", "execute_tool sql"}
    tool, request = told["execute_tool sql"], told["invoke_agent clerk"]
    assert tool.parent.span_id == request.context.span_id and tool.start_time == 101 * 10**9
    assert tool.attributes["gen_ai.tool.name"] == "sql" and tool.attributes["error.type"] == "late"
    assert "private" not in str([dict(span.attributes) for span in told.values()])
    traces.close()
