"""A factory that makes nothing but a synthetic table: what `up` says that it serves, and more rows for a client."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import openai

from tests.products.synthetic.conftest import customers

from .conftest import Line

DECLARED = """name: twins
tables: {customers: {kind: file, path: customers.csv}}
product: {kind: synthetic, tables: [customers], about: {customers: {primary_key: customer_id}}}
"""


def test_up_serves_datasets_and_no_model(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text(customers(120), encoding="utf-8")
    (tmp_path / "factory.yaml").write_text(DECLARED, encoding="utf-8")
    line = Line(tmp_path / "state", tmp_path / "factory.yaml")
    with line.up() as (_, said):
        assert (said["model"], said["models"], said["datasets"]) == (None, [], ["twins"])
        with openai.OpenAI(base_url=f"{said['url']}/v1", api_key=said["key"]) as client:
            assert client.models.list().data == []
            job: Any = client.post("/datasets", body={"model": "twins", "rows": 20}, cast_to=object)
            while job["status"] not in ("succeeded", "failed"):
                job = client.get(f"/datasets/{job['id']}", cast_to=object)
                time.sleep(0.1)
            assert job["accepted_rows"] == 20, job
            assert len(client.files.content(job["result_files"]["customers"]).text.splitlines()) == 21
    (used,) = [row for row in line.json("usage", "--project", "default") if row["what"] == "requests"]
    assert (used["model"], used["entries"]) == ("twins", 1)
    assert [check for check in line.json("reconcile", "--books") if not check["holds"]] == []
