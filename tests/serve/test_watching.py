"""What dashboards and traces are told: every request once, as the books have it, and nothing of what was said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from bessemer.core.nouns import Subject
from bessemer.serve import GatewayParts, open_traces
from bessemer.serve.metrics import Metrics
from bessemer.serve.observing import Seen, Watch
from tests.serve.conftest import HELLO, PlayedEngine, Running, start_in, until

MODEL = {"model_name": "played"}


def counted(running: Running, secret: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    connection = running.connect()
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {secret}"})
    response = connection.getresponse()
    text = response.read().decode()
    assert response.status == 200, text
    assert "text/plain" in (response.getheader("content-type") or "")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted((MODEL | labels).items()))


def test_metrics_agree_with_the_books(start: Callable[..., Running]) -> None:
    running = start()
    _, admin = running.keys.create("watch", admin=True)
    assert counted(running, admin)[key("vllm:prompt_tokens_total")] == 0
    client = running.client()
    client.chat.completions.create(model="played", messages=HELLO)
    list(client.chat.completions.create(model="played", messages=HELLO, stream=True))
    client.chat.completions.create(model="played", messages=HELLO, max_tokens=2)
    running.engine.fail_at = 1
    assert running.ask(json.dumps({"model": "played", "messages": HELLO}))[0] == 500
    entries = running.meter.entries()
    until(lambda: counted(running, admin)[key("vllm:num_requests_running")] == 0)
    found = counted(running, admin)
    assert found[key("vllm:prompt_tokens_total")] == sum(entry.usage.input_tokens for entry in entries) == 12
    assert found[key("vllm:generation_tokens_total")] == sum(entry.usage.output_tokens for entry in entries) == 9
    assert found[key("vllm:request_success_total", finished_reason="stop")] == 2
    assert found[key("vllm:request_success_total", finished_reason="length")] == 1
    assert found[key("bessemer:requests_total", status="ok")] == 3
    assert found[key("bessemer:requests_total", status="error")] == 1
    assert found[key("vllm:e2e_request_latency_seconds_count")] == 4
    assert found[key("vllm:time_to_first_token_seconds_count")] == 4
    joules = {"class": "modelled", "boundary": "host"}
    assert found[key("bessemer:energy_joules_total", **joules)] == sum(e.measurement.joules for e in entries) == 6
    assert found[key("bessemer:charge_micros_total", currency="USD")] == sum(entry.charge.micros for entry in entries)
    assert found[key("vllm:time_to_first_token_seconds_sum")] <= found[key("vllm:e2e_request_latency_seconds_sum")]


def test_a_request_that_is_under_way_is_counted_as_such(start: Callable[..., Running]) -> None:
    running = start()
    _, admin = running.keys.create("watch", admin=True)
    running.engine.hold = 1
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(running.client().chat.completions.create, model="played", messages=HELLO)
        assert running.engine.holding.wait(20)
        assert counted(running, admin)[key("vllm:num_requests_running")] == 1
        running.engine.go_on.set()
        asked.result()
    until(lambda: counted(running, admin)[key("vllm:num_requests_running")] == 0)


def test_metrics_are_for_administrators_unless_they_are_declared_open(start: Callable[..., Running]) -> None:
    running = start()
    connection = running.connect()
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {running.secret}"}, 403)):
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        assert response.status == status
        assert b"vllm" not in response.read()


def test_open_metrics_need_no_key(start: Callable[..., Running]) -> None:
    connection = start(open_metrics=True).connect()
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.status == 200
    assert b"vllm:num_requests_running" in response.read()


def test_metrics_say_nothing_of_projects_keys_or_words(start: Callable[..., Running]) -> None:
    running = start(open_metrics=True)
    running.client().chat.completions.create(
        model="played", messages=[{"role": "user", "content": "very-secret words"}]
    )
    connection = running.connect()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    assert "secret" not in text and "tests" not in text and running.secret not in text


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP, as OpenTelemetry's collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.spans: list[Any] = []
        self.services: set[str] = set()


class _Taker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Collector) and self.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.services |= {
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            }
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        yield server
        server.shutdown()


def test_each_request_is_a_span_under_the_caller_s_trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    traces = open_traces("the works")
    with ExitStack() as stack:
        running = start_in(tmp_path, stack, PlayedEngine(), parts=GatewayParts(watchers=(traces,)))
        trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
        body = json.dumps({"model": "played", "messages": HELLO})
        assert running.ask(body, traceparent=f"00-{trace}-{span}-01")[0] == 200
        running.engine.fail_at = 0
        assert running.ask(body)[0] == 500
        assert running.ask(body, traceparent="nonsense")[0] == 500
        running.engine.fail_at = 1
        with pytest.raises(openai.APIError):
            list(running.client().chat.completions.create(model="played", messages=HELLO, stream=True))
    traces.close()
    first, *failed = sorted(collector.spans, key=lambda each: each.start_time_unix_nano)
    told = {each.key: each.value for each in first.attributes}
    assert (first.trace_id.hex(), first.parent_span_id.hex(), first.name) == (trace, span, "chat played")
    assert told["gen_ai.operation.name"].string_value == "chat"
    assert told["gen_ai.request.model"].string_value == "played"
    assert (told["gen_ai.usage.input_tokens"].int_value, told["gen_ai.usage.output_tokens"].int_value) == (3, 3)
    assert [each.string_value for each in told["gen_ai.response.finish_reasons"].array_value.values] == ["stop"]
    assert told["bessemer.energy_joules"].double_value == 1.5
    assert first.end_time_unix_nano > first.start_time_unix_nano
    assert collector.services == {"the works"}
    assert len(failed) == 3
    assert all(each.status.code == 2 and not each.parent_span_id for each in failed)
    assert "one two three" not in str(collector.spans)


def test_a_watcher_that_fails_breaks_no_answer(tmp_path: Path) -> None:
    class Broken:
        def began(self, seen: Seen, /) -> None:
            raise ValueError("at the beginning")

        def ended(self, seen: Seen, /) -> None:
            raise ValueError("at the end")

    with ExitStack() as stack:
        running = start_in(tmp_path, stack, parts=GatewayParts(watchers=(Broken(),)))
        assert running.client().chat.completions.create(model="played", messages=HELLO).choices[0].message.content
        assert len(running.meter.entries()) == 1


def test_time_per_token_is_the_mean_after_the_first() -> None:
    ticks = iter([0.0, 1.0, 1.5, 2.0, 9.0])
    metrics = Metrics()
    watch = Watch((metrics,), Subject(kind="request", id="r", model="m"), lambda: 0.0, lambda: next(ticks))
    assert watch.seen.seconds_per_token is None
    for _ in range(3):
        watch.piece()
    watch.seen.usage = watch.seen.usage.model_copy(update={"output_tokens": 3})
    watch.end()
    assert (watch.seen.first_token_seconds, watch.seen.seconds_per_token, watch.seen.seconds) == (1.0, 0.5, 9.0)
    assert b'vllm:request_time_per_output_token_seconds_sum{model_name="m"} 0.5' in metrics.text()
