"""Prometheus metrics: what vLLM's dashboards ask for, under vLLM's names, and what only the books know.

Counted here is what the gateway saw: times begin when a request was let in, so they include the engine's queue.

Owns names and buckets. Needs prometheus-client. Source of the names: https://docs.vllm.ai/en/latest/design/metrics.html
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bessemer.core.forwarding import Spent
from bessemer.serve.observing import Seen

MODEL = ("model_name",)
FIRST_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
REQUEST_SECONDS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0)
TOKENS = tuple(float(step * 10**power) for power in range(6) for step in (1, 2, 5))
"""Upper bounds of the histograms' buckets, in seconds and tokens: from a thousandth to minutes, from one to 500,000."""


class Metrics:
    """Watches requests and says what it counted, in Prometheus' text format."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, models: Sequence[str] = ()) -> None:
        self._registry = registry = CollectorRegistry(auto_describe=True)
        self._running = Gauge("vllm:num_requests_running", "Requests under way.", MODEL, registry=registry)
        self._input = Counter("vllm:prompt_tokens", "Input tokens booked.", MODEL, registry=registry)
        self._output = Counter("vllm:generation_tokens", "Output tokens booked.", MODEL, registry=registry)
        self._cached = Counter("vllm:prompt_tokens_cached", "Of them, from a cache.", MODEL, registry=registry)
        ended = (*MODEL, "finished_reason")
        self._success = Counter("vllm:request_success", "Answers that ended well.", ended, registry=registry)
        self._histograms = {
            name: Histogram(f"vllm:{name}", told, MODEL, buckets=buckets, registry=registry)
            for name, told, buckets in (
                ("time_to_first_token_seconds", "From being let in to the first piece.", FIRST_SECONDS),
                ("request_time_per_output_token_seconds", "Mean time of the later tokens.", TOKEN_SECONDS),
                ("e2e_request_latency_seconds", "From being let in to the end.", REQUEST_SECONDS),
                ("request_prompt_tokens", "Input tokens of a request.", TOKENS),
                ("request_generation_tokens", "Output tokens of a request.", TOKENS),
            )
        }
        status = (*MODEL, "status")
        self._requests = Counter("bessemer:requests", "Requests by how they ended.", status, registry=registry)
        known = (*MODEL, "class", "boundary")
        self._joules = Counter("bessemer:energy_joules", "Energy booked, by how it is known.", known, registry=registry)
        self._grams = Counter("bessemer:carbon_grams", "CO2-equivalent booked.", MODEL, registry=registry)
        money = (*MODEL, "currency")
        self._charges = Counter("bessemer:charge_micros", "Charged, in millionths.", money, registry=registry)
        for model in models:  # a dashboard wants the zero before the first request
            self._running.labels(model)
            self._input.labels(model)
            self._output.labels(model)

    def began(self, seen: Seen, /) -> None:
        """Count a request as under way."""
        self._running.labels(seen.subject.model).inc()

    def ended(self, seen: Seen, /) -> None:
        """Count how a request went."""
        model = seen.subject.model
        self._running.labels(model).dec()
        self._requests.labels(model, seen.status).inc()
        self._observe(model, "e2e_request_latency_seconds", seen.seconds)
        self._observe(model, "time_to_first_token_seconds", seen.first_token_seconds)
        self._observe(model, "request_time_per_output_token_seconds", seen.seconds_per_token)
        if seen.status == "ok":
            self._success.labels(model, seen.finish_reason).inc()
        if seen.spent is not None:
            self._count_spent(seen.spent)
        if seen.entry is None:
            return
        usage, found = seen.entry.usage, seen.entry.measurement
        self._input.labels(model).inc(usage.input_tokens)
        self._output.labels(model).inc(usage.output_tokens)
        self._cached.labels(model).inc(usage.cached_tokens)
        self._observe(model, "request_prompt_tokens", usage.input_tokens)
        self._observe(model, "request_generation_tokens", usage.output_tokens)
        self._joules.labels(model, found.energy_class.value, found.boundary.value).inc(found.joules)
        self._grams.labels(model).inc(seen.entry.carbon.grams)
        self._charges.labels(model, seen.entry.charge.currency).inc(seen.entry.charge.micros)

    def _count_spent(self, spent: Spent) -> None:
        """Count what a request took that went through as bytes."""
        model, terms = spent.model, spent.terms
        if terms is None:  # the disk refused its entry
            return
        read, written, cached = spent.usage
        self._input.labels(model).inc(read)
        self._output.labels(model).inc(written)
        self._cached.labels(model).inc(cached)
        self._observe(model, "request_prompt_tokens", read)
        self._observe(model, "request_generation_tokens", written)
        self._joules.labels(model, terms.energy_class, terms.boundary).inc(spent.microjoules[0] / 1e6)
        self._grams.labels(model).inc(spent.grams)
        self._charges.labels(model, terms.currency).inc(spent.charge_micros)

    def text(self) -> bytes:
        """Return everything counted so far."""
        return generate_latest(self._registry)

    def _observe(self, model: str, name: str, value: float | None) -> None:
        if value is not None:
            self._histograms[name].labels(model).observe(value)
