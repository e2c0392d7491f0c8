"""Limits and stopping: too many at once, a port in use, a graceful end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import openai
import pytest

from bessemer.core.errors import ConfigError, Conflict
from bessemer.core.experiments import ExperimentFigures
from bessemer.meter import open_ledger
from bessemer.serve import FeedbackStore, GatewayConfig, GatewayParts, check_port, open_accounts, run_gateway
from bessemer.serve.server import GatewayServer

from .conftest import HELLO, WAIT_SECONDS, start_in, until


def test_too_many_at_once_are_told_to_come_again(start) -> None:
    running = start(max_concurrent_requests=1)
    running.engine.hold = 1
    stream = running.client().chat.completions.create(model="played", messages=HELLO, stream=True)
    assert running.engine.holding.wait(WAIT_SECONDS)
    with pytest.raises(openai.RateLimitError) as caught:
        running.client().chat.completions.create(model="played", messages=HELLO)
    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.code == "rate_limit_exceeded"
    assert running.client().models.list().data, "only answers are limited"
    running.engine.go_on.set()
    assert len(list(stream)) > 2
    running.client().chat.completions.create(model="played", messages=HELLO)
    assert [entry.status for entry in running.meter.entries()] == ["ok", "ok"]


def test_looks_at_experiments_are_counted_too(tmp_path: Path) -> None:
    class Slow:
        def experiments(self, project: str, /, name: str = "", may: object = None) -> list[ExperimentFigures]:
            looking.release()
            assert go_on.wait(WAIT_SECONDS)
            return []

    looking, go_on = threading.Semaphore(0), threading.Event()
    with ExitStack() as stack:
        running = start_in(tmp_path, stack, parts=GatewayParts(experiments=Slow()), max_concurrent_requests=1)
        first = stack.enter_context(ThreadPoolExecutor(1)).submit(running.ask, "", "/v1/experiments", "GET")
        stack.callback(go_on.set)
        assert looking.acquire(timeout=WAIT_SECONDS)
        status, told, _ = running.ask("", "/v1/experiments/none", "GET")
        assert (status, told["error"]["code"]) == (429, "rate_limit_exceeded")
        go_on.set()
        assert first.result()[0] == 200
        assert running.ask("", "/v1/experiments/none", "GET")[0] == 404


def test_other_requests_have_places_of_their_own_and_administration_too(tmp_path: Path) -> None:
    """Whoever holds all places of one kind keeps nobody from those of another."""
    with ExitStack() as stack:
        feedback = FeedbackStore(tmp_path / "feedback.sqlite", lambda target: None)
        parts = GatewayParts(
            feedback=feedback, accounts=stack.enter_context(closing(open_accounts(tmp_path / "keys.sqlite")))
        )
        running = start_in(tmp_path, stack, parts=parts, max_concurrent_requests=1)
        admin = running.keys.create("admins", admin=True)[1]

        def begun(path: str, secret: str) -> http.client.HTTPConnection:
            """Send all of a request but its body's last byte."""
            connection = running.connect()
            connection.putrequest("POST", path)
            connection.putheader("Authorization", f"Bearer {secret}")
            connection.putheader("Content-Length", "3")
            connection.endheaders(b"{}")
            return connection

        def refused(path: str, secret: str) -> bool:
            status, told, headers = running.ask("", path, "GET", Authorization=f"Bearer {secret}")
            assert status == 200 or (status, told["error"]["code"]) == (429, "rate_limit_exceeded")
            assert status == 200 or headers["retry-after"] == "1"
            return status == 429

        slow = begun("/v1/feedback", running.secret)
        until(lambda: refused("/v1/feedback", running.secret))
        assert refused("/v1/models", running.secret), "they share their places"
        assert not refused("/v1/organization/projects", admin)
        running.client().chat.completions.create(model="played", messages=HELLO)
        assert httpx2.get(f"{running.url}/readyz").status_code == 200
        also_slow = begun("/v1/organization/projects", admin)
        until(lambda: refused("/v1/organization/projects", admin))
        running.client().chat.completions.create(model="played", messages=HELLO)
        for connection in (slow, also_slow):
            connection.send(b" ")
            assert connection.getresponse().status == 400
        assert not refused("/v1/feedback", running.secret)
        assert not refused("/v1/organization/projects", admin)


def test_what_takes_too_long_is_ended_and_gives_its_place_back(tmp_path: Path) -> None:
    class Stuck:
        def experiments(self, project: str, /, name: str = "", may: object = None) -> list[ExperimentFigures]:
            assert name or go_on.wait(WAIT_SECONDS)
            return []

    go_on = threading.Event()
    with ExitStack() as stack:
        parts = GatewayParts(experiments=Stuck())
        running = start_in(tmp_path, stack, parts=parts, max_concurrent_requests=1, request_timeout_seconds=0.2)
        stack.callback(go_on.set)
        status, told, _ = running.ask("", "/v1/experiments", "GET")
        assert (status, told["error"]["code"]) == (504, "timeout")
        assert running.ask("", "/v1/experiments/none", "GET")[0] == 404


def test_every_end_gives_its_place_back(start) -> None:
    running = start(max_concurrent_requests=1)
    client = running.client()
    for wrong in ({"model": "nope", "messages": HELLO}, {"model": "played", "messages": [], "stream": True}):
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(**wrong)
    running.engine.fail_at = 1
    for stream in (False, True):
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(model="played", messages=HELLO, stream=stream))
    running.engine.fail_at = None
    client.chat.completions.create(model="played", messages=HELLO)


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = GatewayConfig(port=taken.getsockname()[1])
        with pytest.raises(Conflict, match="in use") as caught:
            check_port(config)
        assert "--port" in caught.value.hint


def test_a_port_that_a_running_gateway_has(running) -> None:
    config = GatewayConfig(port=int(running.url.rsplit(":", 1)[1]))
    app = running.server.app
    with pytest.raises(Conflict):
        run_gateway(app, config, lambda url: pytest.fail("it never was ready"))
    check_port(GatewayConfig(port=0))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7"])
def test_a_host_that_is_not_ours(host) -> None:
    with pytest.raises(ConfigError, match=host.replace(".", r"\.")):
        check_port(GatewayConfig(host=host, port=0))


def test_running_answers_end_within_the_grace_and_nothing_new_begins(start) -> None:
    running = start(grace_seconds=WAIT_SECONDS)
    running.engine.hold = 1
    stream = running.client().chat.completions.create(model="played", messages=HELLO, stream=True)
    assert running.engine.holding.wait(WAIT_SECONDS)
    assert httpx2.get(f"{running.url}/readyz").json()["requests_under_way"] == 1
    running.server.stop()
    until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 503)
    assert httpx2.get(f"{running.url}/healthz").status_code == 200
    with pytest.raises(openai.InternalServerError) as caught:
        running.client().chat.completions.create(model="played", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (503, "shutting_down")
    running.engine.go_on.set()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "one two three"
    running.thread.join(WAIT_SECONDS)
    assert not running.thread.is_alive()
    assert [entry.status for entry in running.meter.entries()] == ["ok"]


@pytest.mark.parametrize("streamed", [False, True])
def test_answers_that_outlast_the_grace_are_cancelled_told_and_booked(start, streamed) -> None:
    running = start(grace_seconds=0.1)
    running.engine.hold = 2

    def ask() -> None:
        list(running.client().chat.completions.create(model="played", messages=HELLO, stream=streamed))

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        assert running.engine.holding.wait(WAIT_SECONDS)
        running.server.stop()
        with pytest.raises(openai.APIError, match="shutting down") as caught:
            asked.result(WAIT_SECONDS)
    assert caught.value.code == "shutting_down"
    running.thread.join(WAIT_SECONDS)
    (entry,) = running.meter.entries()
    assert (entry.status, entry.usage.output_tokens) == ("error", 2), "it is our own fault"
    assert running.engine.cancelled == 1


def test_a_second_stop_cuts_the_grace(start) -> None:
    running = start(grace_seconds=1000.0)
    running.engine.hold = 1
    stream = running.client().chat.completions.create(model="played", messages=HELLO, stream=True)
    assert running.engine.holding.wait(WAIT_SECONDS)
    running.server.stop()
    until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 503)
    running.server.stop()
    with pytest.raises(openai.APIError, match="shutting down"):
        list(stream)
    running.thread.join(WAIT_SECONDS)
    assert not running.thread.is_alive()


def test_a_gateway_stopped_before_it_began_ends(start) -> None:
    running = start()
    config = GatewayConfig(port=0)
    server = GatewayServer(running.server.app, config)
    server.stop()
    thread = threading.Thread(target=server.run)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()


PROGRAM = """
import sys
from pathlib import Path
from bessemer.infer import EchoConfig, open_engine
from bessemer.meter import MeterConfig, open_meter
from bessemer.serve import GatewayConfig, KeyStore, create_app, run_gateway

home, config = Path(sys.argv[1]), GatewayConfig(port=0, grace_seconds=20)
keys = KeyStore(home / "keys.sqlite")
with open_meter(MeterConfig(), home / "books") as meter:
    app = create_app(config, {"echo": open_engine(EchoConfig(token_seconds=0.2))}, keys, meter)
    run_gateway(app, config, lambda url: print(url, keys.ensure_development_key(), flush=True))
print("cleaned up", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_stream_end_and_the_caller_clean_up(tmp_path, number) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        url, secret = process.stdout.readline().split()
        with openai.OpenAI(
            base_url=f"{url}/v1", api_key=secret, max_retries=0, _strict_response_validation=True
        ) as client:
            stream = client.chat.completions.create(
                model="echo", messages=[{"role": "user", "content": "a b c d e"}], stream=True
            )
            said = next(stream).choices[0].delta.content
            os.kill(process.pid, number)
            said += "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert said == "a b c d e"
        rest, complaints = process.communicate(timeout=WAIT_SECONDS)
        assert rest == "cleaned up\n"
        assert process.returncode == 0
        assert complaints == ""
        assert secret not in rest
    ledger = open_ledger(tmp_path / "books")
    ledger.sync()
    assert [(entry.status, entry.usage.output_tokens) for entry in ledger.entries()] == [("ok", 5)]
    ledger.close()


def test_a_pause_does_not_end_a_connection(running) -> None:
    """A client that keeps its connection asks again on it."""
    connection = running.connect()
    for _ in range(3):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        time.sleep(0.05)
