"""Dataset jobs from the wire to the books: a client's tables in, rows in a file out, each accepted row charged once."""

from __future__ import annotations

import csv as csv_reader
import io
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from bessemer.core.errors import ConfigError
from bessemer.infer import EchoConfig, open_engine
from bessemer.meter import LocalMeter, MeterConfig, open_ledger, open_meter
from bessemer.products.home import Deployment, Home
from bessemer.products.synthetic import making, quick
from bessemer.products.synthetic.config import SyntheticConfig
from bessemer.products.synthetic.jobs import DatasetDriver, maker
from bessemer.products.tuning.driver import JobParts
from bessemer.serve import GatewayParts, JobsConfig, WebhookStore, Work, open_work
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

    def upload(self, text: str | bytes, name: str = "customers.csv") -> str:
        sent = {"file": (name, text if isinstance(text, bytes) else text.encode())}
        answer = self.shop.post("/files", files=sent, data={"purpose": "user_data"})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def ask(self, path: str = "", **asked: object) -> httpx2.Response:
        return self.shop.post(f"/datasets{path}", json=asked)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with ExitStack() as stack:
        (tmp_path / "prices.toml").write_text(PRICES)
        home = Home(tmp_path / "home")
        work = open_work(home.work, JobsConfig())
        stack.callback(work.close)
        work.datasets.maker = maker(home, frozenset({"twins"}))
        webhooks = WebhookStore(home.webhooks)
        stack.callback(webhooks.close)
        meter = stack.enter_context(open_meter(MeterConfig(price_book=str(tmp_path / "prices.toml")), home.books))
        engine = open_engine(EchoConfig())
        engine.go_on = type("Never", (), {"set": lambda self: None})()  # what the harness does at the end
        running: Running = start_in(tmp_path, stack, engine, GatewayParts(work=work, webhooks=webhooks))
        clients = []
        for project in ("shop", "docs"):
            secret = running.keys.create(project)[1]
            headers = {"Authorization": f"Bearer {secret}"}
            clients.append(stack.enter_context(httpx2.Client(base_url=running.url + "/v1", headers=headers)))
        driver = DatasetDriver(JobParts(home, work, meter, webhooks))
        yield Desk(home, work, meter, driver, clients[0], clients[1], webhooks)


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


def test_another_project_sees_nothing_of_it(desk: Desk) -> None:
    file = desk.upload(customers(50))
    job = desk.ask(tables={"customers": file}).json()
    assert desk.docs.get(f"/datasets/{job['id']}").status_code == 404
    assert desk.docs.get("/datasets").json()["data"] == []
    assert desk.docs.post(f"/datasets/{job['id']}/cancel").status_code == 404
    assert desk.docs.post("/datasets", json={"tables": {"customers": file}}).status_code == 404


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
