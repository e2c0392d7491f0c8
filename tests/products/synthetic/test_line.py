"""Synthetic datasets as products: a run with a receipt, the gate, the verbs, mistakes in declarations."""

from __future__ import annotations

import csv as csv_reader
import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from bessemer.cli.app import app
from bessemer.core.errors import ConfigError
from bessemer.infer import EchoConfig, open_engine
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.config import FactoryConfig, load_factory
from bessemer.products.declaration import parse_declaration
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.products.line import SIZES
from bessemer.products.llm.config import LlmConfig, ServerConfig
from bessemer.products.product import LakeState, Place
from bessemer.products.synthetic import quick, text_steps
from bessemer.products.synthetic.asking import wanted
from bessemer.products.synthetic.card import markdown
from bessemer.products.synthetic.config import SyntheticConfig, TextsConfig
from bessemer.products.synthetic.product import SyntheticProduct
from bessemer.serve import GatewayConfig, KeyStore, create_app

ROOT = Path(__file__).resolve().parents[3]
TEXTS = """name: words
tables: {known: {kind: file, path: known.csv}}
product:
  kind: synthetic
  texts:
    heldout: known
    dataset:
      rows: 12
      columns:
        topic: {kind: drawn, values: [tea, rain, iron, wool, salt]}
        number: {kind: number, low: 1, high: 100000}
        question: {kind: template, text: "What is {topic} number {number} and why is that so?"}
      validators: [{kind: pattern, column: question, pattern: "salt", absent: true}]
"""


def parse(text: str) -> FactoryConfig:
    return parse_declaration(text, "factory.yaml", FactoryConfig, SIZES)


def read(path: Path) -> list[dict[str, str]]:
    return list(csv_reader.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_the_example_runs_to_a_receipt(tmp_path: Path) -> None:
    config, base = load_factory(ROOT / "examples" / "synthetic" / "factory.yaml")
    factory = Factory(config, base, Home(tmp_path / "home"))
    receipt = factory.run()
    assert receipt.deployed, receipt.outcomes
    part = receipt.products[0]
    assert part.kind == "synthetic" and part.compared == "held out"
    shown = {line.metric: line.after for line in part.metrics}
    assert shown["customers.exact_copies"] == shown["orders.exact_copies"] == 0
    assert min(shown["customers.column_shapes"], shown["orders.column_shapes"]) > 0.95
    deployed = factory.deployed()["twins"]
    assert (Path(deployed.path) / "model.json").is_file()
    tables = next((tmp_path / "home" / "artifacts" / "published").glob("*/tables"))
    rows = {name: read(tables / f"{name}.csv") for name in ("customers", "orders")}
    assert {row["customer_id"] for row in rows["orders"]} <= {row["customer_id"] for row in rows["customers"]}
    assert all(row["joined"] <= row["last_seen"] for row in rows["customers"])
    real = {(row["city"], row["country"]) for row in read(base / "customers.csv")}
    assert {(row["city"], row["country"]) for row in rows["customers"]} <= real


def test_texts_are_written_held_against_others_and_refused_where_they_repeat_them(tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("text\nsomething else altogether that nobody here would write\n")
    receipt = Factory(parse(TEXTS), tmp_path, Home(tmp_path / "home")).run()
    facts = dict(receipt.products[0].facts)  # type: ignore[union-attr]
    assert facts["rows"].startswith("12 accepted of")
    assert "question: matches salt" in facts["rejected"]
    card = Path(facts["card"]).read_text()
    assert "rows were rejected: question: matches salt" in card and "| contaminated | 0.000 |" in card


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("heldout: known", "heldout: nobody", "takes the table 'nobody', which is not declared"),
        ("heldout: known", "model: assistant", "written by 'assistant', which is not declared before it"),
        ("  texts:\n", "  tables: [known]\n  texts:\n", "one of them"),
        ("column: question", "column: answer", "names the column 'answer'"),
    ],
)
def test_mistakes_in_a_declaration_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TEXTS
    with pytest.raises(ConfigError, match=said):
        Factory(parse(TEXTS.replace(old, new)), tmp_path, Home(tmp_path / "home")).products()


def call(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["synth", *words])
    assert done.exit_code == status, done.output
    return done.output


def test_one_command_from_a_file_to_a_judged_copy(csv: Path) -> None:
    told = json.loads(call("create", str(csv), "--rows", "120", "--target", "plan", "--json").splitlines()[0])
    assert told["card"]["verdict"]["passed"] is True
    made = csv.with_name("customers.synthetic.csv")
    rows = read(made)
    assert len(rows) == 120 and rows[0]["customer_id"] == "C00001"
    assert set(told["written"]) == {str(made), str(csv.with_name("customers.synthetic.card") / "card.md")}
    again = made.read_bytes()
    call("create", str(csv), "--rows", "120", "--target", "plan", "--json")
    assert made.read_bytes() == again, "the same seed makes the same file"


def test_a_copy_that_does_not_pass_is_not_written_unless_it_is_asked_for(csv: Path, tmp_path: Path) -> None:
    factory = tmp_path / "factory.yaml"
    factory.write_text(
        f"name: twins\ntables: {{customers: {{kind: file, path: {csv.name}}}}}\nproduct:\n  kind: synthetic\n"
        "  tables: [customers]\n  gate: {rules: [{kind: at_least, metric: pair_trends, value: 1.5}]}\n"
    )
    out = tmp_path / "out"
    call("create", str(factory), "--out", str(out), "--json", status=3)
    assert not out.exists()
    call("create", str(factory), "--out", str(out), "--anyway", "--json", status=3)
    assert (out / "customers.csv").is_file()


def test_a_preview_and_a_fit(csv: Path, tmp_path: Path) -> None:
    told = json.loads(call("preview", str(csv), "--rows", "2", "--json").splitlines()[0])
    assert told["kinds"]["customers"]["age"] == "integer" and len(told["rows"]["customers"]) == 2
    call("fit", str(csv), "--out", str(tmp_path / "model"), "--json")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "model.json", "arrays.npz", "card.md", "card.json",
    }  # fmt: skip


def test_the_report_is_drawn(csv: Path) -> None:
    from rich.console import Console

    from bessemer.cli.synth_view import draw_made

    made = quick.make(wanted([csv]))
    console = Console(width=100, file=io.StringIO())
    console.print(draw_made(made))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "passed its gate" in text and "made anew" in text and "kept least" in text and "█" in text
    assert "| age | integer |" in markdown(made.card)


def test_texts_are_looked_at_before_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESSEMER_HOME", str(tmp_path / "home"))
    (tmp_path / "known.csv").write_text("text\nx\n")
    (tmp_path / "factory.yaml").write_text(TEXTS)
    told = json.loads(call("preview", str(tmp_path / "factory.yaml"), "--rows", "2", "--json").splitlines()[0])
    assert len(told["rows"]) == 2 and told["rows"][0]["question"].startswith("What is ")
    assert "What is" in call("preview", str(tmp_path / "factory.yaml"), "--rows", "1")


def test_the_model_of_a_product_before_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_steps, "open_model", lambda ctx, config: open_engine(EchoConfig()))
    dataset = {
        "rows": 3,
        "columns": {"n": {"kind": "number", "high": 999}, "a": {"kind": "written", "prompt": "of {n}"}},
    }
    config = text_steps.TextStepConfig.model_validate(
        {"name": "t", "table": "f.texts", "model": "compile", "texts": {"model": "assistant", "dataset": dataset}}
    )
    (tmp_path / "out").mkdir()
    ctx = SimpleNamespace(
        inputs={}, resources={"lake": str(tmp_path / "lake")}, out=tmp_path / "out", key="k" * 64,
        progress=lambda *told: None,
    )  # fmt: skip
    meta = text_steps.write(ctx, config)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in (tmp_path / "out" / "texts" / "rows.jsonl").read_text().splitlines()]
    assert [line["a"] for line in lines] == [f"of {line['n']}" for line in lines]
    assert meta["made"] == 3 and meta["usage"]["output_tokens"] == 6


def test_the_server_of_a_product_before_writes_with_its_key(
    tmp_path: Path, serve_app: Callable[[Any], AbstractContextManager[str]]
) -> None:
    keys = KeyStore(tmp_path / "keys.sqlite")
    _, secret = keys.create("server")
    columns = {"n": {"kind": "number", "high": 999}, "a": {"kind": "written", "prompt": "of {n}"}}
    dataset = {"rows": 2, "columns": columns}
    texts = TextsConfig.model_validate({"model": "assistant", "dataset": dataset})
    with open_meter(MeterConfig(sensors="model"), tmp_path / "books") as meter:
        app = create_app(GatewayConfig(), {"big": open_engine(EchoConfig())}, keys, meter)
        with serve_app(app) as url:
            server = ServerConfig(base_url=f"{url}/v1", model="big", api_key_variable="BIG_KEY")
            writer: Any = SimpleNamespace(config=LlmConfig(engine=server), served="assistant.compile")
            where = Place("f", "t", False, tmp_path, str(tmp_path / "lake"), {}, {"assistant": writer})
            step, _ = SyntheticProduct(SyntheticConfig(texts=texts), where).steps(LakeState("l", lambda table: ""))
            assert step.needs == (), "no model of our own is waited for"
            (tmp_path / "out").mkdir()
            ctx = SimpleNamespace(
                inputs={}, resources={"lake": str(tmp_path / "lake"), "secret BIG_KEY": secret}, out=tmp_path / "out",
                key="k" * 64, progress=lambda *told: None,
            )  # fmt: skip
            meta = text_steps.write(ctx, step.config)  # type: ignore[arg-type]
    assert meta["made"] == 2 and meta["usage"]["output_tokens"] == 4
    assert secret not in step.config.model_dump_json()  # type: ignore[union-attr]
    keys.close()
    products = {"assistant": {"kind": "llm", "engine": server.model_dump()}, "t": {"kind": "synthetic", "texts": texts}}
    config = FactoryConfig.model_validate(
        {"name": "f", "sources": [{"kind": "folder", "path": "d"}], "products": products}
    )
    made = Factory(config, tmp_path, Home(tmp_path / "home"), secret=lambda variable: f"what {variable} holds")
    assert made._keys() == {"secret BIG_KEY": "what BIG_KEY holds"}
