"""Dataset jobs from the wire to the books: a client's tables in, rows in a file out, each accepted row charged once."""

from __future__ import annotations

import asyncio
import csv as csv_reader
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bessemer.core.errors import BackendError, ConfigError
from bessemer.core.nouns import ChatRequest, Entry, Message, Usage
from bessemer.infer import EchoConfig, open_engine
from bessemer.infer.echo import EchoEngine
from bessemer.meter import LocalMeter, MeterConfig, open_ledger, open_meter
from bessemer.products.counted import Counted
from bessemer.products.home import Deployment, Home
from bessemer.products.synthetic import jobs, making, quick
from bessemer.products.synthetic.config import SyntheticConfig
from bessemer.products.synthetic.jobs import DatasetDriver, maker
from bessemer.products.synthetic.lending import Lending
from bessemer.products.tuning.driver import JobParts
from bessemer.serve import Accounts, GatewayParts, JobsConfig, WebhookStore, Work, open_work
from bessemer.serve.accounts.projects import Projects
from bessemer.serve.work.datasets import Dataset, DatasetResult
from bessemer.train.tables.keeping import save_model
from tests.serve.conftest import Running, start_in

from .conftest import customers

PRICES = 'version = "t-1"\ncurrency = "EUR"\n[default]\ninput = 1\noutput = 1\nunit = 5_000_000\n'


@dataclass
class Desk:
    """A gateway that takes datasets, the thread's work done by hand, and a client of each of two projects."""

    home: Home
    work: Work
    meter: LocalMeter
    driver: DatasetDriver
    shop: httpx2.Client
    docs: httpx2.Client
    webhooks: WebhookStore
    engine: EchoEngine
    counted: Counted
    few: str
    projects: Projects

    def upload(self, text: str | bytes, name: str = "customers.csv") -> str:
        sent = {"file": (name, text if isinstance(text, bytes) else text.encode())}
        answer = self.shop.post("/files", files=sent, data={"purpose": "user_data"})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def entries(self) -> list[Entry]:
        with closing(open_ledger(self.home.books)) as ledger:
            ledger.sync()
            return list(ledger.entries(kind="request", limit=-1))

    def ask(self, path: str = "", **asked: object) -> httpx2.Response:
        return self.shop.post(f"/datasets{path}", json=asked)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with ExitStack() as stack:
        (tmp_path / "prices.toml").write_text(PRICES)
        home = Home(tmp_path / "home")
        work = open_work(home.work, JobsConfig())
        stack.callback(work.close)
        webhooks = WebhookStore(home.webhooks)
        stack.callback(webhooks.close)
        meter = stack.enter_context(open_meter(MeterConfig(price_book=str(tmp_path / "prices.toml")), home.books))
        engine = open_engine(EchoConfig())
        engine.go_on = type("Never", (), {"set": lambda self: None})()  # what the harness does at the end
        running: Running = start_in(tmp_path, stack, engine, GatewayParts(work=work, webhooks=webhooks))
        counted = Counted()
        lending = Lending({"played": engine}, counted.lend)
        stack.callback(lending.close)
        assert running.server._loop is not None
        running.server._loop.call_soon_threadsafe(lending.begin)
        projects = Accounts(running.keys._database).projects
        parts = JobParts(home, work, meter, webhooks, is_archived=projects.is_archived)
        work.datasets.maker = maker(parts, frozenset({"twins"}), lending)
        clients = []
        for project in ("shop", "docs"):
            secret = running.keys.create(project)[1]
            headers = {"Authorization": f"Bearer {secret}"}
            clients.append(stack.enter_context(httpx2.Client(base_url=running.url + "/v1", headers=headers)))
        _, few = running.keys.create("shop", models=["other"])
        driver = DatasetDriver(parts, lending)
        yield Desk(home, work, meter, driver, clients[0], clients[1], webhooks, engine, counted, few, projects)


def test_a_table_comes_back_as_rows_that_are_nobody_s_and_each_is_charged_once(desk: Desk) -> None:
    file = desk.upload(customers())
    job = desk.ask(tables={"customers": file}, rows=300, seed=4, metadata={"for": "tests"}).json()
    assert job["status"] == "queued" and job["object"] == "dataset"
    desk.shop.delete(f"/files/{file}")  # the job keeps what it was given
    assert desk.driver.turn()
    done = desk.shop.get(f"/datasets/{job['id']}").json()
    assert done["status"] == "succeeded", done["error"]
    assert done["accepted_rows"] == 300
    assert done["figures"]["customers"]["exact_copies"] == 0
    text = desk.shop.get(f"/files/{done['result_files']['customers']}/content").text
    rows = list(csv_reader.DictReader(io.StringIO(text)))
    assert len(rows) == 300 and set(rows[0]) == {"customer_id", "age", "plan", "joined", "score"}
    assert desk.shop.get(f"/files/{done['result_files']['card']}/content").text.startswith("# customers")
    with closing(open_ledger(desk.home.books)) as ledger:
        ledger.sync()
        entry = ledger.entry(f"request:{job['id']}")
    assert entry.usage.units == 300 and entry.charge.micros == 1500
    assert entry.subject.project == "shop" and entry.subject.model == "synthetic"
    assert not desk.driver.turn() and not list(desk.work.datasets.folder.iterdir())
    assert [each["id"] for each in desk.shop.get("/datasets").json()["data"]] == [job["id"]]


BOMB = {"t0": {"kind": "drawn", "values": ["x" * 1000]}} | {
    f"t{at}": {"kind": "template", "text": f"{{t{at - 1}}}" * 1000} for at in (1, 2, 3)
}
QUESTIONS = {
    "model": "played",
    "given": "passages",
    "heldout": "known",
    "dataset": {
        "rows": 3,
        "columns": {
            "passage": {"kind": "given", "field": "text"},
            "number": {"kind": "number", "high": 999},
            "question": {"kind": "written", "prompt": "What is said of {passage} in {number}?"},
            "answer": {"kind": "written", "prompt": "Of {passage} much is said, such as {number}"},
        },
        "validators": [{"kind": "length", "column": "answer", "least": 38}],
        "shape": {"kind": "talk", "user": "question", "assistant": "answer"},
    },
}


def asked_texts(desk: Desk) -> dict[str, Any]:
    passages = desk.upload("text\nlong rivers\nhigh mountains\ntea\n", "passages.csv")
    known = desk.upload('{"text": "nobody would write this here"}\n', "known.jsonl")
    return {"texts": QUESTIONS, "tables": {"passages": passages, "known": known}}


def test_a_served_model_writes_rows_and_each_accepted_one_is_charged(desk: Desk) -> None:
    asked = asked_texts(desk)
    shown = desk.ask("/preview", **asked, preview_rows=1).json()
    assert [len(rows) for rows in shown["rows"].values()] == [1] and shown["kinds"]["rows"]["answer"] == "written"
    assert [entry.usage.units for entry in desk.entries()] == [1], "who looks and never asks pays for what they saw"
    job = desk.ask(**asked, rows=4, metadata={"for": "tests"}).json()
    assert (job["status"], job["format"]) == ("queued", "jsonl"), job
    assert desk.driver.turn()
    done = desk.shop.get(f"/datasets/{job['id']}").json()
    assert (done["status"], done["accepted_rows"]) == ("succeeded", 4), done["error"]
    assert done["rejected"] == {"answer: length is not 38 to 10000": 1}, "the short passage's"
    assert done["figures"]["rows"]["contaminated"] == 0
    text = desk.shop.get(f"/files/{done['result_files']['rows']}/content").text
    talks = [json.loads(line)["messages"] for line in text.splitlines()]
    assert len(talks) == 4 and talks[0][0]["content"].startswith("What is said of long rivers in ")
    assert talks[0][1]["content"].startswith("Of long rivers much is said, such as ")
    card = desk.shop.get(f"/files/{done['result_files']['card']}/content").text
    assert "4 rows written by played, as talk" in card and "1 rows were rejected: answer: length" in card
    assert "held against the first 100 rows that it may be like" in card
    entries = desk.entries()
    assert sorted(entry.usage.units for entry in entries) == [1, 4]
    assert {(entry.subject.project, entry.subject.model) for entry in entries} == {("shop", "synthetic-texts")}
    assert sum(entry.charge.micros for entry in entries) == 25
    desk.counted.closed("played", desk.engine)
    assert desk.engine.counters.total.output_tokens > 50
    assert desk.counted()["played"] == Usage(), "its tokens are no client's: rows were charged"


def test_preferences_and_tool_calls_are_written_too(desk: Desk) -> None:
    tool = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    columns = {
        "n": {"kind": "number", "high": 9999},
        "request": {"kind": "template", "text": "weather number {n}"},
        "calls": {"kind": "calls", "prompt": "{request}", "tools": [tool]},
    }
    calls = {"model": "played", "dataset": {"columns": columns, "rows": 2, "shape": {"kind": "calls"}}}
    gate = {"rules": [{"kind": "at_least", "metric": "contaminated", "value": 0.0}]}
    job = desk.ask(texts={**calls, "gate": gate}).json()
    desk.driver.turn()
    done = desk.shop.get(f"/datasets/{job['id']}").json()
    assert done["status"] == "succeeded", done["error"]
    lines = desk.shop.get(f"/files/{done['result_files']['rows']}/content").text.splitlines()
    called = json.loads(lines[0])["messages"][1]["tool_calls"][0]["function"]
    assert called["name"] == "weather" and "city" in json.loads(called["arguments"])
    columns = {
        "question": {"kind": "template", "text": "why"},
        "one": {"kind": "template", "text": "B"},
        "other": {"kind": "template", "text": "A"},
        "preferred": {"kind": "preferred", "prompt": "Echo says A first:"},
    }
    job = desk.ask(
        texts={"model": "played", "dataset": {"columns": columns, "rows": 1, "shape": {"kind": "preference"}}}
    )
    desk.driver.turn()
    done = desk.shop.get(f"/datasets/{job.json()['id']}").json()
    assert done["status"] == "failed" and done["accepted_rows"] is None
    assert "another is preferred in the other order" in done["error"]["message"], "who says A to all prefers nothing"
    assert [entry.usage.units for entry in desk.entries()] == [2]


def test_a_job_whose_gateway_stops_begins_again_under_the_next(desk: Desk) -> None:
    job = desk.ask(**asked_texts(desk)).json()
    served, over = desk.driver._lending._loop, asyncio.new_event_loop()
    over.close()
    desk.driver._lending._loop = over
    desk.driver.turn()
    assert not desk.driver.turn(), "it is left to the next"
    assert desk.shop.get(f"/datasets/{job['id']}").json()["status"] == "running"
    again = Lending({"played": desk.engine}, desk.counted.lend)
    again._loop = served
    assert DatasetDriver(desk.driver._parts, again).turn()
    assert desk.shop.get(f"/datasets/{job['id']}").json()["status"] == "succeeded"
    assert [entry.usage.units for entry in desk.entries()] == [3]
    again.close()


async def test_what_a_stopped_job_was_delivered_is_told_apart_from_what_clients_pay() -> None:
    """A job that ends in the middle of an answer leaves no token in the books that no entry has."""
    engine, counted = open_engine(EchoConfig(token_seconds=0.005)), Counted()
    lending = Lending({"played": engine}, counted.lend)
    lending.begin()
    said = Message(role="user", content="word " * 1000)

    async def stopped() -> None:
        answer = asyncio.create_task(lending.engine("played").respond(ChatRequest(messages=(said,))))
        await asyncio.sleep(0.2)
        answer.cancel()
        with suppress(asyncio.CancelledError):
            await answer

    await asyncio.to_thread(asyncio.run, stopped())
    await asyncio.sleep(0.1)  # the engine is told in its own loop
    assert 5 < engine.counters.total.output_tokens < 500
    counted.closed("played", engine)
    assert counted()["played"] == Usage()
    lending.close()


@pytest.mark.parametrize("of_texts", [True, False])
def test_few_previews_of_a_kind_run_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch, of_texts: bool) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()
    look = desk.work.datasets.preview

    def slow(*asked: Any) -> Any:
        begun.release()
        assert go_on.wait(30)
        return look(*asked)

    of_tables = {"tables": {"customers": desk.upload(customers(60))}}
    mine, other = (asked_texts(desk), of_tables) if of_texts else (of_tables, asked_texts(desk))
    with ThreadPoolExecutor(2) as others, monkeypatch.context() as patched:
        patched.setattr(desk.work.datasets, "preview", slow)
        first = [others.submit(desk.ask, "/preview", **mine) for _ in range(2)]
        assert all(begun.acquire(timeout=10) for _ in first)
        refused = desk.ask("/preview", **mine)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1, refused.text
        patched.undo()
        assert desk.ask("/preview", **other).status_code == 200, "tables and texts do not wait for each other"
        go_on.set()
        assert [each.result().status_code for each in first] == [200, 200]
    assert desk.ask("/preview", **mine).status_code == 200, "who is done makes room"


def test_no_text_preview_runs_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_texts(desk)
    monkeypatch.setattr("bessemer.products.synthetic.text_jobs._PREVIEW_SECONDS", 0.0)
    late = desk.ask("/preview", **asked)
    assert late.status_code == 504 and late.json()["error"]["code"] == "timeout", late.text
    assert desk.entries() == [] and not list(desk.work.datasets.folder.iterdir())


def test_a_text_preview_ends_when_its_client_leaves(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_texts(desk)
    with monkeypatch.context() as patched:
        patched.setattr(desk.engine, "_config", EchoConfig(token_seconds=0.2))
        for _ in range(2):
            with pytest.raises(httpx2.TimeoutException):
                desk.shop.post("/datasets/preview", json={**asked, "preview_rows": 20}, timeout=0.5)
        deadline = time.monotonic() + 5
        while list(desk.work.datasets.folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not list(desk.work.datasets.folder.iterdir()), "20 rows would take a quarter of a minute"
    assert 0 < desk.engine.counters.total.output_tokens < 100
    assert desk.entries() == [], "nobody saw a row"
    assert desk.ask("/preview", **asked).status_code == 200, "who left makes room"


def test_texts_that_are_all_rejected_end_early(desk: Desk) -> None:
    asked = asked_texts(desk)
    never = QUESTIONS["dataset"] | {"validators": [{"kind": "length", "column": "answer", "least": 1_000_000}]}
    asked["texts"] = QUESTIONS | {"dataset": never | {"attempts": 10}}
    looked = desk.ask("/preview", **asked, preview_rows=20)
    assert looked.status_code == 400 and "No row was accepted of 5" in looked.json()["error"]["message"], looked.text
    assert desk.engine.counters.requests < 120, "two columns a row: of 200 tries some 50 were made"
    job = desk.ask(**asked, rows=1000).json()
    desk.driver.turn()
    error = desk.shop.get(f"/datasets/{job['id']}").json()["error"]
    assert "no row was accepted of 5" in error["message"], error
    assert desk.engine.counters.requests < 240 and desk.entries() == []


def test_tables_that_a_killed_gateway_left_are_let_go_of(desk: Desk) -> None:
    queued = desk.ask(tables={"customers": desk.upload(customers(50))}).json()["id"]
    folder = desk.work.datasets.folder
    for name, age in (("dataset-killed", 3600), ("dataset-looked-at", 0)):
        (folder / name).mkdir()
        (folder / name / "t.csv").touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    os.utime(folder / queued, (0, 0))
    desk.shop.post(f"/datasets/{queued}/cancel")
    kept = desk.ask(tables={"customers": desk.upload(customers(50))}).json()["id"]
    os.utime(folder / kept, (0, 0))
    desk.work.datasets.sweep(600)
    assert {each.name for each in folder.iterdir()} == {"dataset-looked-at", kept}
    desk.shop.post(f"/datasets/{kept}/cancel")
    (folder / "dataset-killed").mkdir()
    os.utime(folder / "dataset-killed", (0, 0))
    desk.driver.turn()
    assert {each.name for each in folder.iterdir()} == {"dataset-looked-at"}, "whoever drives sweeps first"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dataset": {"columns": BOMB}}, "a cell of 't1' may have 1,000,000 characters"),
        (
            {"dataset": {"columns": {"a": {"kind": "drawn", "values": ["x" * 50_000]}}, "rows": 9_000}},
            "all rows together may have 1,800,000,000 characters",
        ),
        ({"model": "nobody"}, "no language model is called 'nobody'"),
        ({"model": ""}, "by a model, and none is given"),
        ({"given": "others"}, "the table 'others' is not given"),
        ({"heldout_field": "words"}, "has no column 'words'"),
        ({"dataset": {"columns": {"a": {"kind": "drawn", "values": ["x"]}}, "rows": 20_000}}, "20,000 rows are wanted"),
        (
            {"dataset": {"columns": {"a": {"kind": "written", "prompt": "x", "max_output_tokens": 4096}}}},
            "4,096 tokens",
        ),
        ({"dataset": {"columns": {"a": {"kind": "writen"}}}}, "texts.dataset.columns.a"),
        ({"dataset": QUESTIONS["dataset"] | {"validators": [{"kind": "pattern", "column": "answer"}]}}, "never end"),
    ],
)
def test_texts_that_cannot_be_are_refused_at_once(desk: Desk, changed: dict[str, Any], said: str) -> None:
    asked = asked_texts(desk)
    for path in ("", "/preview"):
        answer = desk.ask(path, **asked | {"texts": QUESTIONS | changed})
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["error"]["message"].lower(), "the sentence begins with a capital"
    assert desk.entries() == [] and desk.engine.counters.requests == 0
    assert not list(desk.work.datasets.folder.iterdir())


def test_a_key_writes_with_models_that_it_may_ask(desk: Desk) -> None:
    asked = asked_texts(desk)
    answer = desk.shop.post("/datasets", json=asked, headers={"Authorization": f"Bearer {desk.few}"})
    assert answer.status_code in (403, 404), answer.text
    assert "format" not in asked and desk.ask(**asked, format="csv").status_code == 400


def test_another_project_sees_nothing_of_it(desk: Desk) -> None:
    file = desk.upload(customers(50))
    job = desk.ask(tables={"customers": file}).json()
    assert desk.docs.get(f"/datasets/{job['id']}").status_code == 404
    assert desk.docs.get("/datasets").json()["data"] == []
    assert desk.docs.post(f"/datasets/{job['id']}/cancel").status_code == 404
    assert desk.docs.post("/datasets", json={"tables": {"customers": file}}).status_code == 404


def test_a_job_of_an_archived_project_is_cancelled(desk: Desk) -> None:
    job = desk.ask(tables={"customers": desk.upload(customers(50))}).json()
    desk.projects.archive("shop")
    assert not desk.driver.turn()
    assert desk.work.datasets.get("shop", job["id"]).status == "cancelled"
    assert not desk.work.datasets.given(job["id"]) and not desk.entries()


def test_a_database_that_is_away_for_a_moment_fails_no_job(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = desk.ask(tables={"customers": desk.upload(customers(50))}).json()

    def away(*_: object) -> None:
        raise BackendError("the runs in Postgres cannot be used")

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "run_watched", away)
        with pytest.raises(BackendError):
            desk.driver.turn()
    assert desk.work.datasets.get("shop", job["id"]).status == "running"
    assert desk.driver.turn()
    assert desk.work.datasets.get("shop", job["id"]).status == "succeeded"


def test_a_cancelled_job_is_not_made_and_not_charged(desk: Desk) -> None:
    job = desk.ask(tables={"customers": desk.upload(customers(50))}).json()
    assert desk.shop.post(f"/datasets/{job['id']}/cancel").json()["status"] == "cancelled"
    assert desk.shop.post(f"/datasets/{job['id']}/cancel").status_code == 409
    assert not desk.driver.turn()
    with closing(open_ledger(desk.home.books)) as ledger:
        ledger.sync()
        assert ledger.entries(limit=-1) == []


def test_a_dataset_that_does_not_pass_its_gate_is_not_given_out_and_not_charged(desk: Desk) -> None:
    gate = {"rules": [{"kind": "at_least", "metric": "column_shapes", "value": 1.1}]}
    job = desk.ask(tables={"customers": desk.upload(customers(80))}, declaration={"gate": gate}).json()
    desk.driver.turn()
    done = desk.shop.get(f"/datasets/{job['id']}").json()
    assert done["status"] == "failed" and done["error"]["code"] == "gate_failed"
    assert "column_shapes is 0.9" in done["error"]["message"] and done["result_files"] == {}
    assert done["figures"]["customers"]["column_shapes"] > 0.5, "how near it was is said"
    with closing(open_ledger(desk.home.books)) as ledger:
        ledger.sync()
        assert ledger.entries(kind="request", limit=-1) == []


def test_a_preview_is_at_once_and_keeps_nothing(desk: Desk) -> None:
    found = desk.ask("/preview", tables={"customers": desk.upload(customers(60))}, preview_rows=3).json()
    assert found["kinds"]["customers"]["joined"] == "datetime"
    assert len(found["rows"]["customers"]) == 3
    assert desk.shop.get("/datasets").json()["data"] == [] and not list(desk.work.datasets.folder.iterdir())


def test_more_rows_of_a_dataset_of_the_factory(desk: Desk, csv: Path, tmp_path: Path) -> None:
    assert desk.ask(model="twins").status_code == 404, "nothing is deployed yet"
    config = SyntheticConfig(tables=("customers",))
    asked = quick.of_files({"customers": csv}, config)
    save_model(making.fit(making.parts_of(asked.tables, config), config), tmp_path / "model")
    desk.home.deploy(Deployment(name="twins", run="r", key="k", path=str(tmp_path / "model"), deployed_at=0.0))
    job = desk.ask(model="twins", rows=50, format="parquet").json()
    desk.driver.turn()
    done = desk.shop.get(f"/datasets/{job['id']}").json()
    assert done["status"] == "succeeded" and done["accepted_rows"] == 50, done
    assert desk.shop.get(f"/files/{done['result_files']['customers']}/content").content[:4] == b"PAR1"


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        (b"a\nJos\xe9\n", {}, "not UTF-8"),
        (b"a,b\n1,2\n", {}, "too few to learn from"),
        (customers(20), {"declaration": {"abut": {}}}, "unknown key 'abut'"),
        (customers(20), {"declaration": {"about": {"customers": {"primary_key": "id"}}}}, "no column 'id'"),
        (customers(20), {"declaration": {"about": {"other": {}}}}, "not among this product's tables"),
        (customers(20), {"model": "twins"}, "one of them"),
    ],
)
def test_what_cannot_be_is_said_at_once(desk: Desk, text, more, said) -> None:
    answer = desk.ask(tables={"customers": desk.upload(text)}, **more)
    assert answer.status_code in (400, 404), answer.text
    assert said in answer.json()["error"]["message"]
    assert not list(desk.work.datasets.folder.iterdir())


def test_nothing_is_made_without_a_maker(desk: Desk) -> None:
    desk.work.datasets.maker = None
    assert desk.ask(model="twins").status_code == 400


def test_a_job_whose_tables_cannot_be_learnt_from_fails_with_the_reason(desk: Desk) -> None:
    text = "a,b\n" + "x,1\ny,2\n" * 40
    job = desk.ask(tables={"t": desk.upload(text)}, rows=50).json()
    desk.driver.turn()
    done = desk.shop.get(f"/datasets/{job['id']}").json()
    assert done["status"] == "failed" and "copy of a row of the data" in done["error"]["message"]


def test_a_declaration_is_checked(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"declaration\.fit\.knots"):
        from bessemer.products.synthetic.job_steps import config_of

        config_of(Dataset(id="d", created_at=0, tables={"t": "f"}, declaration={"fit": {"knots": 1}}))


def test_a_gateway_that_was_killed_before_it_booked_books_once_after(desk: Desk, tmp_path: Path) -> None:
    job = desk.ask(tables={"customers": desk.upload(customers(50))}).json()
    (tmp_path / "rows.csv").write_text("a\n1\n")
    store = desk.work.datasets
    store.move("shop", job["id"], "running", ("queued",))
    store.succeed("shop", job["id"], DatasetResult({"customers": (tmp_path / "rows.csv", "rows.csv")}, 7, {}, {}))
    for _ in range(2):  # the next driver finds a job that is over and of which nobody was told
        desk.driver.turn()
    with closing(open_ledger(desk.home.books)) as ledger:
        ledger.sync()
        assert [entry.usage.units for entry in ledger.entries(kind="request", limit=-1)] == [7]
