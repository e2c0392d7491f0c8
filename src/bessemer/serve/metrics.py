"""Prometheus metrics: what vLLM's dashboards ask for, under vLLM's names, and what only the books know.

Counted here is what the gateway saw: times begin when a request was let in, so they include the engine's queue.

Owns names and buckets. Needs prometheus-client. Source of the names: https://docs.vllm.ai/en/latest/design/metrics.html
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bessemer.core.nouns import Entry
from bessemer.serve.observing import Seen

Values = Iterable[tuple[tuple[str, ...], float]]

MODEL = ("model_name",)
FIRST_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
REQUEST_SECONDS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0)
TOKENS = tuple(float(step * 10**power) for power in range(6) for step in (1, 2, 5))
"""Upper bounds of the histograms' buckets, in seconds and tokens: from a thousandth to minutes, from one to 500,000."""


_KEPT = 512
"""Requests that are counted in one go."""

HISTOGRAMS = {
    "time_to_first_token_seconds": ("From being let in to the first piece.", FIRST_SECONDS),
    "request_time_per_output_token_seconds": ("Mean time of the later tokens.", TOKEN_SECONDS),
    "e2e_request_latency_seconds": ("From being let in to the end.", REQUEST_SECONDS),
    "request_prompt_tokens": ("Input tokens of a request.", TOKENS),
    "request_generation_tokens": ("Output tokens of a request.", TOKENS),
}


class _Histogram:
    """Counts values by buckets, some hundreds in one go, which is cheaper for each."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, values: list[float]) -> None:
        """Sort values into the buckets."""
        values.sort()
        places = [bisect_right(values, bound) for bound in self._bounds]
        for index, (low, high) in enumerate(pairwise((0, *places, len(values)))):
            self._counts[index] += high - low
        self._sum += sum(values)

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Return the cumulative counts by upper bound, and the sum of all values."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True)), self._sum


class _Counts:
    """What was counted of one model; plain numbers, because a request pays for each that it changes."""

    __slots__ = ("charges", "grams", "histograms", "joules", "requests", "running", "success", "tokens")

    def __init__(self) -> None:
        self.running = 0
        self.tokens = [0, 0, 0]
        self.grams = 0.0
        self.requests: dict[str, int] = defaultdict(int)
        self.success: dict[str, int] = defaultdict(int)
        self.joules: dict[tuple[str, str], float] = defaultdict(float)
        self.charges: dict[str, int] = defaultdict(int)
        self.histograms = {name: _Histogram(bounds) for name, (_, bounds) in HISTOGRAMS.items()}


class Metrics:
    """Watches requests and says what it counted, in Prometheus' text format; they are counted when it is asked."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, models: Sequence[str] = ()) -> None:
        self._counts: dict[str, _Counts] = defaultdict(_Counts)
        self._ended: list[Seen] = []
        for model in models:  # a dashboard wants the zero before the first request
            self._counts[model] = _Counts()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def began(self, seen: Seen, /) -> None:
        """Count a request as under way."""
        self._counts[seen.subject.model].running += 1

    def ended(self, seen: Seen, /) -> None:
        """Take note of how a request went."""
        self._ended.append(seen)
        if len(self._ended) >= _KEPT:
            self._count_all()

    def _count_all(self) -> None:
        """Count those that ended, all of a model in one go: a request pays for each step that is its own."""
        ended, self._ended = self._ended, []
        by_model: dict[str, list[Seen]] = {}
        for seen in ended:
            by_model.setdefault(seen.subject.model, []).append(seen)
        for model, some in by_model.items():
            self._count(some, self._counts[model])

    def _count(self, ended: list[Seen], counts: _Counts) -> None:
        counts.running -= len(ended)
        _add(counts.requests, [seen.status for seen in ended])
        _add(counts.success, [seen.finish_reason for seen in ended if seen.status == "ok"])
        spent = [seen.spent for seen in ended if seen.spent is not None and seen.spent.terms is not None]
        tokens = [each.usage for each in spent]
        for terms in {each.terms for each in spent}:
            assert terms is not None
            those = [each for each in spent if each.terms is terms]
            counts.charges[terms.currency] += sum([each.charge_micros for each in those])
            counts.joules[terms.energy_class, terms.boundary] += sum([each.microjoules[0] for each in those]) / 1e6
        counts.grams += sum([each.grams for each in spent])
        for entry in [seen.entry for seen in ended if seen.entry is not None]:
            _count_entry(entry, counts)
            tokens.append((entry.usage.input_tokens, entry.usage.output_tokens, entry.usage.cached_tokens))
        for index in range(3):
            counts.tokens[index] += sum([usage[index] for usage in tokens])
        values: dict[str, list[float | None]] = {
            "e2e_request_latency_seconds": [seen.seconds for seen in ended],
            "time_to_first_token_seconds": [seen.first_token_seconds for seen in ended],
            "request_time_per_output_token_seconds": [seen.seconds_per_token for seen in ended],
            "request_prompt_tokens": [usage[0] for usage in tokens],
            "request_generation_tokens": [usage[1] for usage in tokens],
        }
        for name, those_values in values.items():
            counts.histograms[name].add([value for value in those_values if value is not None])

    def text(self) -> bytes:
        """Return everything counted so far."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted, as Prometheus' library wants it."""
        self._count_all()
        named = sorted(self._counts.items())

        def counter(name: str, told: str, labels: Sequence[str], values: Callable[[_Counts], Values]) -> Metric:
            family = CounterMetricFamily(name, told, labels=(*MODEL, *labels))
            for model, counts in named:
                for given, value in values(counts):
                    family.add_metric((model, *given), value)
            return family

        running = GaugeMetricFamily("vllm:num_requests_running", "Requests under way.", labels=MODEL)
        for model, counts in named:
            running.add_metric((model,), counts.running)
        yield running
        yield counter("vllm:prompt_tokens", "Input tokens booked.", (), lambda c: [((), c.tokens[0])])
        yield counter("vllm:generation_tokens", "Output tokens booked.", (), lambda c: [((), c.tokens[1])])
        yield counter("vllm:prompt_tokens_cached", "Of them, from a cache.", (), lambda c: [((), c.tokens[2])])
        ended, status = ("finished_reason",), ("status",)
        yield counter("vllm:request_success", "Answers that ended well.", ended, lambda c: _each(c.success))
        for name, (told, _) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(f"vllm:{name}", told, labels=MODEL)
            for model, counts in named:
                histogram.add_metric((model,), *counts.histograms[name].buckets())
            yield histogram
        yield counter("bessemer:requests", "Requests by how they ended.", status, lambda c: _each(c.requests))
        known = ("class", "boundary")
        told = "Energy booked, by how it is known."
        yield counter("bessemer:energy_joules", told, known, lambda c: [*c.joules.items()])
        yield counter("bessemer:carbon_grams", "CO2-equivalent booked.", (), lambda c: [((), c.grams)])
        yield counter("bessemer:charge_micros", "Charged, in millionths.", ("currency",), lambda c: _each(c.charges))


def _add(counts: dict[str, int], names: list[str]) -> None:
    for name in set(names):
        counts[name] += names.count(name)


def _count_entry(entry: Entry, counts: _Counts) -> None:
    counts.grams += entry.carbon.grams
    counts.charges[entry.charge.currency] += entry.charge.micros
    found = entry.measurement
    counts.joules[found.energy_class.value, found.boundary.value] += found.joules


def _each(counts: Mapping[str, int]) -> Values:
    return [((key,), value) for key, value in counts.items()]
