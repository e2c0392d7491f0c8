"""`bessemer up` with a hard budget, killed in the middle of everything: budget and books agree when it is up again."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Any

import openai
import pytest

from bessemer.infer import EchoConfig, open_engine
from bessemer.meter import MeterConfig, open_ledger, open_meter
from bessemer.serve import GatewayConfig, KeyStore, create_app

from .conftest import Line
from .test_upstream import VARIABLE, declared

CONVERSATION: Any = [{"role": "user", "content": "one two three four five six seven"}]


@pytest.fixture
def line(serve_app: Callable[[Any], AbstractContextManager[str]], tmp_path: Path) -> Iterator[tuple[Line, str]]:
    """Give a line whose model is that of a server which echoes, and a key of that server."""
    keys = KeyStore(tmp_path / "server.sqlite")
    _, secret = keys.create("server")
    with open_meter(MeterConfig(sensors="model"), tmp_path / "server books") as meter:
        app = create_app(GatewayConfig(), {"qwen3-8b": open_engine(EchoConfig())}, keys, meter)
        with serve_app(app) as url:
            yield declared(tmp_path, url), secret
    keys.close()


def said(line: Line, *words: str) -> Any:
    done = subprocess.run(
        line.command(*words, "--json"), env=line.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask(gateway: dict[str, str], secret: str, until: threading.Event) -> None:
    """Ask, one request after the other, until told to stop or cut off."""
    with OPENAI(gateway, secret) as client, suppress(openai.APIConnectionError):
        while not until.is_set():
            try:
                client.chat.completions.create(model=gateway["model"], messages=CONVERSATION, max_tokens=50)
            except openai.RateLimitError as error:
                if error.code == "insufficient_quota":
                    return


def OPENAI(gateway: dict[str, str], secret: str) -> openai.OpenAI:  # noqa: N802
    return openai.OpenAI(base_url=gateway["url"] + "/v1", api_key=secret, max_retries=0, timeout=20)


def test_killed_in_the_middle_of_everything(line: tuple[Line, str]) -> None:
    """Three times killed under load; then the budget is used up, and never exceeded."""
    made, key = line
    secret = said(made, "keys", "create", "--project", "docs")["key"]
    amount = "0.01"
    for _ in range(3):
        said(made, "limits", "budget", amount, "--project", "docs", "--period", "total")
        stop = threading.Event()
        with made.up(environment={VARIABLE: key}) as (process, gateway), ThreadPoolExecutor(6) as threads:
            for _ in range(6):
                threads.submit(ask, gateway, secret, stop)
            time.sleep(0.7)
            process.kill()
            stop.set()
    (before,) = said(made, "limits", "show", "--project", "docs")["budgets"]
    with made.up(environment={VARIABLE: key}) as (process, gateway):
        (after,) = said(made, "limits", "show", "--project", "docs")["budgets"]
        with closing(open_ledger(made.home / "books")) as ledger:
            ledger.sync()
            booked = sum(entry.charge.micros for entry in ledger.entries(kind="request", project="docs", limit=-1))
        assert booked > 0
        assert (after["spent_micros"], after["reserved_micros"]) == (booked, 0)
        assert before["spent_micros"] + before["reserved_micros"] >= booked
        assert booked <= 10_000
        said(made, "limits", "budget", "--period", "total", "--project", "docs", "0.000001")
        time.sleep(1.0)
        with OPENAI(gateway, secret) as client, pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=gateway["model"], messages=CONVERSATION)
        assert caught.value.code == "insufficient_quota"
    assert process.returncode == 0
