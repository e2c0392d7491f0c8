"""Gateways of one home, killed while they stream under a hard budget: budget, books and clients agree afterwards."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bessemer.core.nouns import Entry
from bessemer.core.units import Money
from bessemer.meter import load_price_history, open_ledger
from bessemer.products.auditing import check_books
from bessemer.products.home import Home
from bessemer.serve import Accounts, open_accounts
from tests.programs import program
from tests.serve.conftest import until

WORDS, STREAMS = 400, 5
PRICES = """
version = "t-1"
currency = "EUR"
[default]
input = 1_000_000
output = 3_000_000
"""
SCRIPT = Path(__file__).with_name("killed_gateway.py")


@dataclass
class Streamed:
    """What a client got of one stream."""

    id: str = ""
    words: int = 0


Gateway = tuple[subprocess.Popen[str], str]


def start(stack: ExitStack, folder: Path, database_url: str) -> Gateway:
    """Start a gateway that ends with the stack; return its process and URL."""
    process = stack.enter_context(program([sys.executable, str(SCRIPT), str(folder), database_url]))
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def bury(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def stream(url: str, secret: str, got: Streamed) -> None:
    """Read a stream until it is cut."""
    asked = {
        "model": "echo",
        "stream": True,
        "max_tokens": WORDS,
        "messages": [{"role": "user", "content": "word " * WORDS}],
    }
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        got.id = answer.headers["x-request-id"]
        with suppress(http.client.IncompleteRead, ConnectionError):
            for line in answer:
                got.words += b'"content":"word' in line


def cut(processes: list[Gateway], secret: str, chance: random.Random) -> list[Streamed]:
    """Stream from gateways until the first of them is killed; return what came of its streams."""
    got = [[Streamed() for _ in range(STREAMS)] for _ in processes]
    with ThreadPoolExecutor(STREAMS * len(processes)) as threads:
        done = [
            threads.submit(stream, url, secret, each)
            for (_, url), mine in zip(processes, got, strict=True)
            for each in mine
        ]
        until(lambda: all(each.words for each in got[0]))
        time.sleep(chance.uniform(0.0, 0.2))
        bury(processes[0][0])
        for each in done[:STREAMS]:
            each.result()
    return got[0]


def entries_of(home: Home) -> dict[str, Entry]:
    with closing(open_ledger(home.books, home.ledger_url)) as ledger:
        return {entry.subject.id: entry for entry in ledger.entries(kind="request", limit=-1)}


def test_budget_books_and_clients_agree(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    url = database_url if database_url.startswith("postgresql:") else ""
    home, chance, streams = Home(tmp_path / "home", url), random.Random(database_url[:6]), list[Streamed]()
    with closing(open_accounts(home.accounts)) as accounts, ExitStack() as stack:
        _, secret = accounts.keys.create("shop")
        budget = accounts.budgets.set("project", "shop", "total", Money(micros=10**6, currency="EUR"))
        first = start(stack, tmp_path, url)
        streams += cut([first], secret, chance)
        second, third = start(stack, tmp_path, url), start(stack, tmp_path, url)
        streams += cut([second, third], secret, chance)
        until(lambda: {each.id for each in streams} <= entries_of(home).keys())  # the other one found them
        bury(third[0])
        last = start(stack, tmp_path, url)
        state = Accounts(accounts.database).budgets.spending(budget)
        last[0].terminate()
        last[0].wait(20)
    entries = entries_of(home)
    for each in streams:
        entry = entries[each.id]
        assert entry.status == "broken"
        assert 0 < each.words <= entry.usage.output_tokens < WORDS
        assert entry.charge.micros == entry.usage.input_tokens + 3 * entry.usage.output_tokens
    assert sum(entry.charge.micros for entry in entries.values()) == state.spent_micros
    assert (state.reserved_micros, state.overrun_micros) == (0, 0)
    checks = check_books(home, load_price_history(tmp_path / "prices.toml"))
    assert [check for check in checks if not check.holds] == []
    assert {check.name for check in checks} > {"journal", "meters", "charges"}
