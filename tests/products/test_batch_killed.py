"""A batch under kill -9: each line is answered once and billed once, at the price of batches."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from openai import OpenAI

from bessemer.meter import open_ledger
from bessemer.products.home import Home
from bessemer.serve import KeyStore
from tests.programs import program

KILLS = 8
LINES = 300
PRICES = """
version = "t-1"
currency = "EUR"
[default]
input = 1_000_000
output = 1_000_000
[default.batch]
input = 500_000
output = 500_000
"""
SCRIPT = Path(__file__).with_name("killed_gateway.py")


@contextmanager
def gateway(folder: Path, database: str, secret: str) -> Iterator[OpenAI]:
    """Run a gateway, which is killed at the end of the block."""
    with program([sys.executable, str(SCRIPT), str(folder), database]) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as client:
            yield client
            process.kill()  # while the client still holds its connection


def test_killed_at_any_time_each_line_is_answered_and_billed_once(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    home, most = Home(tmp_path / "home", database_url), KILLS if database_url.startswith("sqlite") else KILLS // 2
    with closing(KeyStore(home.accounts)) as keys:
        _, secret = keys.create("shop")
    chance, kills = random.Random(7), 0
    with gateway(tmp_path, database_url, secret) as client:
        lines = [
            {"custom_id": f"id-{n}", "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": "echo", "messages": [{"role": "user", "content": f"one two {n}"}]}}
            for n in range(LINES)
        ]  # fmt: skip
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file = client.files.create(file=("b.jsonl", content), purpose="batch")
        id = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h").id
        time.sleep(0.3 + chance.random() / 2)
    while True:
        kills += 1
        with gateway(tmp_path, database_url, secret) as client:
            end = time.monotonic() + (0.1 + chance.random() if kills < most else 120)
            while (batch := client.batches.retrieve(id)).status != "completed" and time.monotonic() < end:
                time.sleep(0.01)
            if batch.status == "completed":
                assert batch.request_counts is not None
                assert batch.request_counts.completed == LINES
                output = client.files.content(batch.output_file_id or "").text
                break
            assert kills < most, "it does not come to its end"
    assert kills > 2, "the batch was over before anything was killed"
    told = [json.loads(line) for line in output.splitlines()]
    assert [line["custom_id"] for line in told] == [f"id-{n}" for n in range(LINES)]
    assert [line["response"]["body"]["choices"][0]["message"]["content"] for line in told] == [
        f"one two {n}" for n in range(LINES)
    ]
    with closing(open_ledger(home.books, home.ledger_url)) as ledger:
        ledger.sync()
        entries = [entry for entry in ledger.entries(kind="request", limit=-1) if entry.status == "ok"]
    assert sorted(entry.subject.id for entry in entries) == sorted(line["response"]["request_id"] for line in told)
    assert {(entry.usage.total_tokens, entry.charge.micros, entry.subject.batch) for entry in entries} == {(6, 3, True)}
